// The classic hub on Node's ws.
import { WebSocketServer, WebSocket } from 'ws';

const [host, port] = process.argv[2].split(':');
const server = new WebSocketServer({ host, port: Number(port), path: '/ws', clientTracking: true, backlog: 4096 });
server.on('connection', socket => {
  socket.on('error', () => {});
  socket.on('message', data => {
    const line = data.toString();
    for (const client of server.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(line);
    }
  });
});
