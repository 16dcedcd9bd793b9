// connection.js owns the WebSocket and the position in the room's stream, and sends the outbox's messages. It
// reconnects after every loss, and has each message said once. docs/protocol.md describes what the server does, in
// "Coming back", "Events" and "Sending once". It begins before jQuery is loaded; events.js passes on what happens.

import {path, limits, load, save, remove, storedKeys, device} from './store.js';
import {Clock} from './clock.js';
import {emit} from './events.js';
import {Liveness} from './liveness.js';
import {Outbox} from './outbox.js';
import {recordOwn, isOwn} from './own.js';
import {Retry} from './retry.js';
import {ask, findTrouble} from './trouble.js';

// ---- The connection. It has these stages, in this order:
//
//   connecting    connect has asked for the lines from position on, or for the history.
//   position      EPOCH SEQ END, the server's first message, has come. The page is live.
//   first event   It acknowledges messages of earlier connections. The page sends the others.
//   replay        The lines from SEQ to END come, which were said before this connection was made.
//   END           The replay is complete, and the page has caught up. If END is SEQ, it is so at once.
//   afterwards    New lines come, with acknowledgements before them.

const reasons = {1001: 'The server is shutting down.', 1013: 'This connection was too slow to follow.'}; // by close code
const refusals = { // of a message
  1003: 'The server takes text only.', 1007: 'The server could not read a message as text.', 1009: 'A message was too long for the server.',
};

const longEnough = 10000; // milliseconds for which a connection lives that is no failure

const clock = new Clock();
export const liveness = new Liveness();
const retry = new Retry(connect);
const id = [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, '0')).join('');
export const outbox = new Outbox({
  load: key => load(device, key, {}),
  save: (key, value) => save(device, key, value),
  remove: key => remove(device, key),
  keys: prefix => storedKeys(device, prefix),
}, path + ':outbox:', id);

// Set by connect.
let socket; // the WebSocket; undefined before the first
let wasLost = false; // there was no live connection when this one was made
let liveSince; // when the position came, by performance.now; set by handlePosition

// Set by the handlers of the server's messages; connect and disconnect reset them.
let live = false; // the position has come
let maySend = false; // the first event has come

// Set by handlePosition for each connection, and by showPast before the first.
let position; // {epoch, seq} of the next line; report counts it on; undefined until the server has sent one
let repeats = 0; // number of next lines that the page has already shown; handleLine counts it down
let replayEnd = 0; // END, the seq of the first line after the replay
let oldEnd = Infinity; // lines below this seq were said before the page was opened
let times = []; // pairs [count, at]; the next count lines were said at the time at, in milliseconds since 1970

// nextPosition returns a copy of the next line's position, or undefined if it is not known yet.
export const nextPosition = () => position && {...position};

// serverTime returns the server's clock in milliseconds since 1970, or the device's before the first event.
export const serverTime = () => clock.now();

// untilRetry returns the milliseconds until the next attempt to connect, or undefined if none is planned.
export const untilRetry = () => retry.left();

// socketURL returns the address of the WebSocket, which is in the page's directory even behind a proxy.
function socketURL() {
  const url = new URL('ws', document.baseURI);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.searchParams.set('events', '');
  url.searchParams.set('sender', outbox.first.id + '.' + outbox.first.acked);
  url.searchParams.set('since', position ? position.epoch + '.' + position.seq : '');
  return url;
}

// connect makes a new connection at once, for the first sender of the outbox. It replaces the present connection, and
// the next attempt if one is planned.
export function connect() {
  closeSocket();
  retry.cancel();
  wasLost = !live;
  if (!live) {
    emit('state', 'connecting');
  }
  live = maySend = false;
  try {
    socket = new WebSocket(socketURL());
  } catch {
    retry.failed();
    emit('state', 'offline', 'This browser allows no WebSocket here.');
    return;
  }
  socket.binaryType = 'arraybuffer';
  socket.onmessage = function ({data}) {
    socket.onmessage = handleMessage;
    handlePosition(data);
  };
  socket.onclose = function ({code}) {
    const refused = maySend && refusals[code] && outbox.refuse(); // the message because of which the server closes
    if (refused) {
      emit('refused', refused, refusals[code]);
    }
    disconnect(reasons[code]);
  };
  liveness.start({
    greeted: () => maySend,
    inFlight: () => outbox.first.messages.length > 0,
    unsent: () => socket.bufferedAmount,
    ping: () => socket.send(new TextEncoder().encode('{"ping":1}')),
    dead: () => disconnect(navigator.onLine === false ? 'The network is gone.' : 'There is no answer.'),
  });
}

// closeSocket closes the socket, if there is one. The socket then calls no handler.
function closeSocket() {
  liveness.stop();
  if (socket) {
    socket.onmessage = socket.onclose = null;
    socket.close();
  }
}

// disconnect closes the connection and plans the next attempt. why is a sentence, or undefined.
export function disconnect(why) {
  closeSocket();
  if (!live) {
    explain();
  } else if (performance.now() - liveSince > longEnough) {
    retry.failures = 0;
  } else if (retry.failures > 1) {
    why ??= 'Connections end soon after they begin. A proxy may do that, perhaps because of a message.';
  }
  live = maySend = false;
  retry.failed();
  emit('state', 'offline', why);
}

// explain shows why there is no connection, and tries again when the server proposes. A page that the server has no
// room for shows the last lines. A single failure says little, because the server may have started after it.
async function explain() {
  const failed = socket, {why, help, seconds, reason} = await findTrouble();
  if (why && (seconds || retry.failures > 1) && socket === failed && untilRetry() !== undefined) {
    seconds && retry.within(1000 * seconds);
    emit('state', reason ?? 'offline', why, help);
    if (reason && !position) {
      showPast().catch(() => {}); // what came was no JSON
    }
  }
}

async function showPast() {
  const {body} = await ask('lines', {});
  const {epoch, lines} = JSON.parse(body || '{}');
  if (lines?.length > 0 && !position) {
    position = {epoch, seq: lines[0].seq};
    oldEnd = position.seq + lines.length;
    lines.forEach(({text, at}) => report(text, new Date(at)));
    emit('caughtUp');
  }
}

// ---- What the server sends.

// handlePosition handles the first message of a connection, EPOCH SEQ END.
function handlePosition(text) {
  const [epoch, ...fields] = text.split(' '), [seq, end] = fields.map(Number);
  replayEnd = end;
  repeats = 0;
  times = [];
  clock.restart();
  outbox.reconnected();
  if (!position) {
    oldEnd = end;
  } else if (position.epoch !== epoch) {
    oldEnd = 0; // the epoch began while the page was open
    emit('restarted');
  } else if (seq > position.seq) {
    emit('missed', seq - position.seq);
  } else {
    repeats = position.seq - seq;
  }
  position = {epoch, seq};
  live = true;
  liveSince = performance.now();
  liveness.heard();
  emit('state', 'live');
  if (seq >= end) {
    emit('caughtUp');
  }
}

// handleMessage handles any later message: lines, or an event.
function handleMessage({data}) {
  if (typeof data === 'string') {
    data.split('\n').forEach(handleLine);
  } else {
    handleEvent(JSON.parse(new TextDecoder().decode(data)));
  }
  liveness.heard();
}

function handleEvent({people, now, said, taken, page}) {
  if (now) {
    clock.sample(now);
  }
  times.push(...said ?? []);
  if (people) {
    emit('people', people);
  }
  if (taken !== undefined) {
    handleAck(taken);
  }
  if (page && page !== limits.page) {
    emit('newer');
  }
}

function handleLine(text) {
  const at = consumeTime();
  if (repeats > 0) {
    repeats--;
    position.seq++;
  } else {
    report(text, at, outbox.lineOf(text));
  }
  if (position.seq === replayEnd) {
    endReplay();
    emit('caughtUp');
  }
}

// report reports the next line, and counts the position on.
function report(text, at, message) {
  const line = {text, at, message, position: {...position}, old: position.seq < oldEnd};
  position.seq++;
  if (message) {
    recordOwn(line.position);
  }
  line.own = isOwn(line.position);
  line.missed = !line.old && wasLost && line.position.seq < replayEnd;
  emit('line', line);
}

// consumeTime removes the next line's time from times, and returns it as a Date. A line without a time was said now.
function consumeTime() {
  if (times.length === 0) {
    return new Date(serverTime());
  }
  const [[, at]] = times;
  if (--times[0][0] === 0) {
    times.shift();
  }
  return new Date(at);
}

// ---- Sending.

// sendMessage puts a message into the outbox, and sends it as soon as there is a connection for it. text must be
// well-formed Unicode without '\n', and not longer than the server's limit.
export function sendMessage(text) {
  emit('queued', outbox.add(text));
  if (maySend && outbox.first === outbox.own) {
    socket.send(text);
  }
  liveness.sent();
}

// handleAck removes the first sender's messages up to number acked, which are in the stream. The first acknowledgement
// on a connection covers messages of earlier connections, so handleAck then sends the remaining messages. When no
// message of a sender that was taken over remains, it connects for the next one.
function handleAck(acked) {
  const isFirst = !maySend;
  if (outbox.acknowledge(acked, isFirst) > 0) {
    liveness.acknowledged();
  }
  if (isFirst) {
    maySend = true;
    outbox.first.messages.forEach(message => socket.send(message.text));
    endReplay();
  }
  if (outbox.next()) {
    connect();
  }
}

// endReplay gives up the messages whose lines were not in the replay, once the first event and END have come.
function endReplay() {
  if (maySend && position.seq >= replayEnd) {
    outbox.giveUp().forEach(message => emit('gone', message));
  }
}

// takeOver takes over the messages of closed pages. The page connects for them, and afterwards for its own.
export function takeOver() {
  const messages = outbox.takeOver();
  messages.forEach(message => emit('queued', message));
  if (messages.length > 0 && live) {
    connect();
  }
}
