// connection.js owns the WebSocket, the position in the room's stream, and the outbox of messages that the
// server has not acknowledged. It reconnects after every loss and has each message said once.
// docs/protocol.md describes what the server does, in "Coming back", "Events" and "Sending once".
//
// It exports listen, which reports all that happens; connect, untilRetry and sendMessage; nextPosition,
// serverTime and isOwn. It needs no jQuery, so that it connects before the rest of the page is loaded.

import {path, limits, load, save, tab, device, person} from './store.js';

// ---- Events for the page.

const earlyEvents = []; // events before listen was called; listen empties it

// emit reports an event, by its name and arguments. listen replaces it.
let emit = (...event) => earlyEvents.push(event);

// listen sets the functions that handle events, by name, and calls them for the events so far. It must be
// called once, with all of them. If one throws an error, the browser reports the error, and later events
// still come.
//
//   state(word, why)       word is 'live', 'connecting', 'offline', or the server's reason for a refusal;
//                          why is a sentence about a lost connection, or undefined
//   line(line)             the next line of the stream, an object that the handler may keep:
//                            text      a string
//                            at        the Date at which the line was said
//                            position  {epoch, seq}
//                            own       whether the person said the line, in this tab or another
//                            message   the message of the outbox that became the line, or undefined
//                            old       whether the line was said before the page was opened
//   caughtUp()             the page has all lines that were said before the connection was made
//   missed(n)              the server no longer has the next n lines
//   restarted()            the room is in another epoch, and lines may be missing
//   people(n)              the number of connections in the room
//   queued(message)        message, an object with text, is new in the outbox
//   gone(message)          message was said, but its line won't come
//   refused(message, why)  the server refused message; why is a sentence
//   ownChanged()           isOwn is true of more lines, which were said in another tab
export function listen(handlers) {
  emit = function (name, ...args) {
    try {
      handlers[name](...args);
    } catch (error) {
      reportError(error);
    }
  };
  earlyEvents.splice(0).forEach(event => emit(...event));
}

// ---- The connection. It has these stages, in this order:
//
//   connecting    connect has asked for the lines from position on, or for the history.
//   position      EPOCH SEQ END, the server's first message, has come. The page is live.
//   first event   It acknowledges messages of earlier connections. The page sends the others.
//   replay        The lines from SEQ to END come, which were said before this connection was made.
//   END           The replay is complete, and the page has caught up. If END is SEQ, it is so at once.
//   afterwards    New lines come, with acknowledgements before them.

const answerTimeout = 10000; // milliseconds without an answer after which a connection counts as dead

const reasons = { // by close code
  1001: 'The server is shutting down.',
  1013: 'This connection was too slow to follow.',
};
const refusals = { // of a message, by close code
  1003: 'The server takes text only.',
  1007: 'The server could not read a message as text.',
  1009: 'A message was too long for the server.',
};

// Set by connect.
let socket; // the WebSocket; undefined before the first
let positionTimer; // ends the connection unless the position comes in time

// Set by the handlers of the server's messages; connect and disconnect reset them.
let live = false; // the position has come
let maySend = false; // the first event has come

// Set by handlePosition for each connection.
let position; // {epoch, seq} of the next line; handleLine advances it; undefined before the first connection
let repeats = 0; // number of next lines that the page has already shown; handleLine counts it down
let replayEnd = 0; // END, the seq of the first line after the replay
let oldEnd = Infinity; // lines below this seq were said before the page was opened

// Set by handleEvent; handlePosition resets them.
let skew; // milliseconds of the server's clock ahead of this device's; undefined before the first event
let times = []; // pairs [count, at]; the next count lines were said at the time at, in milliseconds since 1970

// nextPosition returns a copy of the next line's position, {epoch, seq}, or undefined if it is not known yet.
export const nextPosition = () => position && {...position};

// serverTime returns the server's clock in milliseconds since 1970, or the device's before the first event.
export const serverTime = () => Date.now() + (skew ?? 0);

// socketURL returns the address of the WebSocket, which is in the page's directory even behind a proxy.
function socketURL() {
  const url = new URL('ws', document.baseURI);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.searchParams.set('events', '');
  url.searchParams.set('sender', senders[0].id + '.' + senders[0].acked);
  url.searchParams.set('since', position ? position.epoch + '.' + position.seq : '');
  return url;
}

// connect makes a new connection at once, for the first of senders. It replaces the present connection, and
// the next attempt if one is planned.
export function connect() {
  closeSocket();
  clearTimeout(retryTimer);
  retryTimer = undefined;
  if (!live) {
    emit('state', 'connecting');
  }
  live = maySend = false;
  socket = new WebSocket(socketURL());
  socket.binaryType = 'arraybuffer';
  positionTimer = setTimeout(() => disconnect('There is no answer.'), answerTimeout);
  socket.onmessage = function ({data}) {
    clearTimeout(positionTimer);
    handlePosition(data);
    socket.onmessage = handleMessage;
  };
  socket.onclose = function ({code}) {
    if (maySend && refusals[code]) {
      handleRefusal(refusals[code]);
    }
    disconnect(reasons[code]);
  };
}

// closeSocket closes the socket, if there is one. The socket then calls no handler.
function closeSocket() {
  clearTimeout(positionTimer);
  stopWatch();
  if (socket) {
    socket.onmessage = socket.onclose = null;
    socket.close();
  }
}

// ---- What the server sends.

// handlePosition handles the first message of a connection, EPOCH SEQ END.
function handlePosition(text) {
  const [epoch, seqField, endField] = text.split(' ');
  const seq = Number(seqField);
  replayEnd = Number(endField);
  repeats = 0;
  times = [];
  skew = undefined;
  if (!position) {
    oldEnd = replayEnd;
  } else if (position.epoch !== epoch) {
    oldEnd = 0; // the epoch began while the page was open
    emit('restarted');
  } else if (seq > position.seq) {
    emit('missed', seq - position.seq);
  } else {
    repeats = position.seq - seq;
  }
  awaitingLine.forEach(message => message.onlyInReplay = true);
  position = {epoch, seq};
  live = true;
  failures = 0;
  watchSilence();
  emit('state', 'live');
  if (seq >= replayEnd) {
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
  watchSilence();
}

function handleEvent({people, now, said, taken}) {
  if (now) {
    skew = Math.max(skew ?? -Infinity, now - Date.now()); // the event with the shortest delay is the most exact
  }
  if (said) {
    times.push(...said);
  }
  if (people) {
    emit('people', people);
  }
  if (taken !== undefined) {
    handleAck(taken);
  }
}

function handleLine(text) {
  const at = consumeTime(), linePosition = {...position};
  position.seq++;
  if (repeats > 0) {
    repeats--;
  } else {
    const message = consumeAwaited(text);
    if (message) {
      recordOwn(linePosition);
    }
    emit('line', {text, at, position: linePosition, message, own: Boolean(message) || isOwn(linePosition), old: linePosition.seq < oldEnd});
  }
  if (position.seq === replayEnd) {
    endReplay();
    emit('caughtUp');
  }
}

// consumeTime returns when the next line was said, and removes that from times. Without a time it is now.
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

// ---- The outbox.
//
// A message is an object with text. log.js adds element, and this module onlyInReplay. A sender is {id,
// acked, messages}: acked is the number of its last message that the server has acknowledged, and messages
// has the following ones. The sender and the texts are stored in the tab, with acked as "taken".
//
// Each load of the page is a sender of its own, and never adds messages to a stored sender. The reason is a
// duplicated tab, which begins with a copy of the outbox. Both tabs may send the stored messages, because
// the room drops repeats by ID and number. New messages need different IDs.

const me = {id: randomID(), acked: 0, messages: []}; // the sender of this load

// senders has the stored senders, oldest first, and me as the last. A connection serves the first one.
// handleAck removes it when all of its messages are acknowledged.
const senders = loadSenders();

// awaitingLine has the acknowledged messages whose lines have not come yet. The page recognises a line by
// its text. A message with onlyInReplay was said before this connection was made, so its line is in the
// replay or won't come. handleAck adds messages; consumeAwaited and endReplay remove them.
let awaitingLine = [];

senders.flatMap(sender => sender.messages).forEach(message => emit('queued', message));
senders.push(me);

// loadSenders returns the stored senders, or none if another program has stored something else there.
function loadSenders() {
  try {
    return load(tab, path + ':outbox', [])
      .filter(({id, taken, texts}) => /^\w{1,64}$/.test(id) && taken >= 0 && texts.every(text => text.isWellFormed()))
      .map(({id, taken, texts}) => ({id, acked: taken, messages: texts.map(text => ({text}))}));
  } catch {
    return [];
  }
}

function saveSenders() {
  save(tab, path + ':outbox', senders.filter(sender => sender.messages.length > 0)
    .map(({id, acked, messages}) => ({id, taken: acked, texts: messages.map(message => message.text)})));
}

function randomID() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, '0')).join('');
}

// sendMessage puts a message into the outbox, and sends it as soon as there is a connection for it. text
// must be well-formed Unicode without '\n', and not longer than the server's limit.
export function sendMessage(text) {
  const message = {text};
  me.messages.push(message);
  saveSenders();
  emit('queued', message);
  if (maySend && senders[0] === me) {
    socket.send(text);
  }
  if (!silenceTimer) {
    watchSilence();
  }
}

// handleAck removes the first sender's messages up to number acked, which are in the stream. The first
// acknowledgement on a connection covers messages of earlier connections, so handleAck then sends the
// remaining messages. When no message of a stored sender remains, it connects for the next sender.
function handleAck(acked) {
  const sender = senders[0], isFirst = !maySend;
  const messages = sender.messages.splice(0, Math.max(0, acked - sender.acked));
  messages.forEach(message => message.onlyInReplay = isFirst);
  awaitingLine.push(...messages);
  sender.acked = acked;
  saveSenders();
  if (isFirst) {
    maySend = true;
    sender.messages.forEach(message => socket.send(message.text));
    endReplay();
  }
  if (sender.messages.length === 0 && sender !== me) {
    senders.shift();
    connect();
  }
}

// consumeAwaited removes and returns the first awaited message with this text, or returns undefined.
function consumeAwaited(text) {
  const i = awaitingLine.findIndex(message => message.text === text);
  return i < 0 ? undefined : awaitingLine.splice(i, 1)[0];
}

// endReplay gives up the messages whose lines were not in the replay. It does nothing before the first event,
// or before END.
function endReplay() {
  if (maySend && position.seq >= replayEnd) {
    awaitingLine.filter(message => message.onlyInReplay).forEach(message => emit('gone', message));
    awaitingLine = awaitingLine.filter(message => !message.onlyInReplay);
  }
}

// handleRefusal removes the first message that is not acknowledged, after the server has closed the
// connection because of it. The number of the refused message stays used, because a duplicated tab has the
// following messages under the same numbers.
function handleRefusal(why) {
  const message = senders[0].messages.shift();
  if (message) {
    senders[0].acked++;
    emit('refused', message, why);
    saveSenders();
  }
}

// ---- Own lines. The tab's list has lines that were said in this tab. The device's list has lines that
// were said in any tab by a person with a name. Each is {epoch, seqs}, for the last epoch.

// maxOwn is the length of a list. It covers the history, so that a reloaded page recognises own lines there.
const maxOwn = Math.max(Number(limits.history), 100);

const loadOwn = store => load(store, path + ':own', {epoch: '', seqs: []});

// ownInTab and ownOnDevice are copies of the stored lists. recordOwn changes both, another tab the second.
let [ownInTab, ownOnDevice] = [tab, device].map(loadOwn);

function recordOwn(linePosition) {
  ownInTab = recordOwnIn(tab, linePosition);
  if (person.name) {
    ownOnDevice = recordOwnIn(device, linePosition);
  }
}

// recordOwnIn adds a position to a stored list, which another tab may have changed, and returns the list.
function recordOwnIn(store, {epoch, seq}) {
  const stored = loadOwn(store);
  const own = {epoch, seqs: (stored.epoch === epoch ? stored.seqs : []).concat(seq).slice(-maxOwn)};
  save(store, path + ':own', own);
  return own;
}

// isOwn reports whether the person said the line at a position, {epoch, seq}, in this tab or another.
export const isOwn = ({epoch, seq}) => [ownInTab, ownOnDevice].some(own => own.epoch === epoch && own.seqs.includes(seq));

window.addEventListener('storage', function (event) {
  if (event.key === path + ':own' && event.storageArea === window.localStorage) {
    ownOnDevice = loadOwn(device);
    emit('ownChanged');
  }
});

// ---- Silence. A browser may not notice that a connection is dead. While the page waits for the first
// event or for an acknowledgement, it ends the connection after answerTimeout of silence. But it waits on
// while the browser is still sending a long message.

let silenceTimer; // runs while the page waits; set by watchSilence and stopWatch

function watchSilence() {
  stopWatch();
  const unsent = socket.bufferedAmount;
  if (live && (!maySend || senders[0].messages.length > 0)) {
    silenceTimer = setTimeout(() => socket.bufferedAmount < unsent ? watchSilence() : disconnect('There is no answer.'), answerTimeout);
  }
}

function stopWatch() {
  clearTimeout(silenceTimer);
  silenceTimer = undefined;
}

// ---- Loss, and the next attempt.

let failures = 0; // losses since a connection was live; set by disconnect and handlePosition
let retryTimer; // calls connect; undefined unless an attempt is planned; set by retryIn and connect
let retryAt; // when retryTimer fires, in milliseconds since 1970; set by retryIn

// untilRetry returns the milliseconds until the next attempt to connect, or undefined if none is planned.
export const untilRetry = () => retryTimer && Math.max(0, retryAt - Date.now());

// disconnect closes the connection and plans the next attempt. why is a sentence, or undefined.
function disconnect(why) {
  closeSocket();
  if (!live) {
    askForRefusal();
  }
  live = maySend = false;
  retryIn(Math.min(500 * 2 ** failures++, 30000));
  emit('state', 'offline', why);
}

// retryIn plans the next attempt after half to all of pause, in milliseconds, at random. So the pages that
// lost their connections together don't come back together.
function retryIn(pause) {
  clearTimeout(retryTimer);
  pause *= 0.5 + Math.random() / 2;
  retryAt = Date.now() + pause;
  retryTimer = setTimeout(connect, pause);
}

// askForRefusal asks the server why it refused the WebSocket, because a browser doesn't say. If the server
// gives a reason, the page shows it and tries again when the server proposes.
async function askForRefusal() {
  const refused = socket;
  const response = await fetch('ws', {cache: 'no-store'}).catch(() => undefined);
  const seconds = Number(response?.headers.get('Retry-After')); // 0 if it is missing, as in a proxy's own 503
  if (response?.status === 503 && seconds > 0) {
    const [reason] = (await response.text()).match(/too many rooms|chat is full|shutting down/) ?? [];
    if (reason && socket === refused && retryTimer) {
      retryIn(1000 * seconds);
      emit('state', reason);
    }
  }
}

// A new network, or a person who looks at the page, is worth an attempt at once.
window.addEventListener('online', function () {
  if (live) {
    disconnect(); // the socket belongs to the previous network
  }
  if (retryTimer) {
    connect();
  }
});
window.addEventListener('offline', () => live && disconnect('The network is gone.'));
document.addEventListener('visibilitychange', () => !document.hidden && retryTimer && connect());

if (window.WebSocket) {
  connect();
}
