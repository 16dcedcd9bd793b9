// proxy.js is the network between a browser and a chat: a proxy that can be cut, slow and wrong, and that changes the
// page, in any engine. It exports Network.

import {createHash} from 'node:crypto';
import {once} from 'node:events';
import {readFileSync} from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import {connect} from 'node:net';
import {WebSocketServer} from 'ws';

const see = readFileSync(new URL('see.js', import.meta.url), 'utf8');

// Network listens on a port that the system chooses. Tests set its fields at any time:
//
//   port         of the chat on 127.0.0.1; or routes, an object with a port for each path, without which the chat gets the request
//   up, down     false if nothing passes to the chat, or from it. No connection ends by that.
//   delay        milliseconds by which the answers, and what the chat sends, come later
//   host         a name that the chat gets as Host instead of the browser's
//   answer       a function of a request's path that returns {status, headers, body} instead of the chat's answer, or undefined.
//                A WebSocket's path is passed, too.
//   edit         a function of the text and the path of each page, script and style, which returns another text
//   rewrite      a function of a chunk of bytes from the browser's WebSocket and the request's URL, which returns other bytes
//   serve        a function of a WebSocket of package ws, which serves it instead of the chat
//   upgrades     the number of WebSockets that the browser has asked for
export class Network {
  up = true;
  down = true;
  delay = 0;
  upgrades = 0;
  #preloads = [];
  #sockets = new Set(); // of both sides

  // start makes a Network in front of the chat, and listens. certificate is {cert, key} for TLS, or undefined.
  static async start(port, certificate) {
    const network = new Network();
    network.port = port;
    const server = network.server = certificate ? https.createServer(certificate) : http.createServer();
    server.on(certificate ? 'secureConnection' : 'connection', socket => network.#keep(socket));
    server.on('request', (request, response) => network.#request(request, response));
    server.on('upgrade', (request, socket, head) => network.#upgrade(request, socket, head));
    server.keepAliveTimeout = 0;
    await once(server.listen(0, '127.0.0.1'), 'listening');
    network.origin = (certificate ? 'https' : 'http') + '://127.0.0.1:' + server.address().port;
    return network;
  }

  // preload has each page that is loaded from now on run a function before its own scripts.
  preload(f, ...args) {
    this.#preloads.push(`(${f})(...${JSON.stringify(args)});`);
  }

  // cut lets nothing pass in either direction, without any end of a connection.
  cut() {
    this.up = this.down = false;
  }

  // heal breaks all connections. New ones pass.
  heal() {
    this.up = this.down = true;
    this.#sockets.forEach(socket => socket.destroy());
  }

  // hangUp ends all connections in order, with FIN.
  hangUp() {
    this.#sockets.forEach(socket => socket.end());
  }

  async close() {
    this.server.close();
    this.heal();
  }

  #keep(socket) {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
    return socket;
  }

  // #target returns the options for a request to the chat.
  #target({method, url, headers}) {
    const [prefix, port] = Object.entries(this.routes ?? {}).find(([prefix]) => url.startsWith(prefix + '/')) ?? ['', this.port];
    return {method, host: '127.0.0.1', port, path: url.slice(prefix.length), headers: {...headers, host: this.host ?? headers.host}};
  }

  #request(request, response) {
    const {pathname} = new URL(request.url, this.origin);
    const wrong = this.answer?.(pathname);
    const later = f => setTimeout(() => this.down && f(), this.delay);
    if (wrong) {
      later(() => response.writeHead(wrong.status, wrong.headers).end(wrong.body));
      return;
    }
    if (!this.up) {
      return; // nobody answers
    }
    const options = this.#target(request);
    const edits = this.edit || !pathname.includes('.'); // the page has see.js
    if (edits) {
      delete options.headers['accept-encoding'];
      delete options.headers['if-none-match'];
    }
    const asked = http.request({...options, agent: false}, async function (answer) {
      const chunks = [];
      answer.on('error', () => response.destroy());
      for await (const chunk of answer) {
        chunks.push(chunk);
      }
      later(() => edited(Buffer.concat(chunks), answer));
    });
    const edited = (body, {statusCode, headers}) => {
      if (edits && /^text\/(html|css|javascript)/.test(headers['content-type'])) {
        body = Buffer.from(this.#edit(String(body), pathname, headers));
        headers['content-length'] = body.length;
        delete headers.etag;
        headers['cache-control'] = 'no-store';
      }
      response.writeHead(statusCode, headers).end(body);
    };
    asked.on('error', () => response.destroy()); // as if there were no proxy
    request.pipe(asked);
  }

  // #edit changes a text. The page's policy then allows the scripts and styles in the page, and nothing else that it didn't.
  #edit(text, path, headers) {
    if (headers['content-type'].startsWith('text/html')) {
      text = text.replace('<head>', () => '<head><script>' + [see, ...this.#preloads].join('\n').replaceAll('</', '<\\/') + '</script>');
    }
    text = this.edit?.(text, path) ?? text;
    for (const kind of ['script', 'style']) {
      for (const [, content] of text.matchAll(new RegExp(`<${kind}>(.*?)</${kind}>`, 'gs'))) {
        const hash = createHash('sha256').update(content).digest('base64');
        headers['content-security-policy'] = headers['content-security-policy']?.replace(kind + '-src', `$& 'sha256-${hash}'`);
      }
    }
    return text;
  }

  // #upgrade relays a WebSocket's connection, bytes by bytes.
  #upgrade(request, browser, head) {
    this.upgrades++;
    const wrong = this.answer?.(new URL(request.url, this.origin).pathname);
    if (this.serve && !wrong) {
      new WebSocketServer({noServer: true}).handleUpgrade(request, browser, head, this.serve);
      return;
    }
    if (wrong) {
      const headers = Object.entries({'content-length': Buffer.byteLength(wrong.body ?? ''), 'connection': 'close', ...wrong.headers});
      browser.end(`HTTP/1.1 ${wrong.status} ${http.STATUS_CODES[wrong.status]}\r\n${headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${wrong.body ?? ''}`);
      return;
    }
    const {port, path, headers} = this.#target(request);
    const chat = this.#keep(connect(port, '127.0.0.1'));
    const relay = (from, to, way, change = chunk => chunk) => {
      from.on('data', chunk => {
        if (this[way]) {
          setTimeout(() => this[way] && to.writable && to.write(change(chunk)), way === 'down' ? this.delay : 0);
        }
      });
      from.on('end', () => setTimeout(() => to.end(), way === 'down' ? this.delay : 0));
      from.on('close', () => from.errored && to.destroy());
    };
    if (this.up) {
      chat.write(`GET ${path} HTTP/1.1\r\n${Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`);
    }
    relay(chat, browser, 'down');
    relay(browser, chat, 'up', chunk => this.rewrite?.(chunk, request.url) ?? chunk);
    chat.on('error', () => browser.destroy());
    browser.on('close', () => chat.destroy());
  }
}
