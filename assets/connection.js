// connection.js: the connection to the room. It knows the position in the stream, comes back after each
// loss, and delivers messages once. It does not wait for the rest of the page to be loaded.

import {path, limits, load, save, tab, device, person} from './store.js';

const held = Number(limits.history); // lines that the server holds

// ---- Who listens. What happens before that is kept.

const early = [];
let emit = (...event) => early.push(event);

// listen has a function of handlers called for each event, by its name:
//
//   state(word, why)       live, connecting, offline, or why the server refuses; why is a sentence, or undefined
//   line({text, at, position, own, message, old})
//                          was said at a time; message is the one of which it is the echo; old lines were
//                          said before the page came
//   caughtUp()             all lines are heard that were said before the connection was made
//   missed(n), restarted() lines are gone
//   people(n)
//   queued(message)        {text}, which is to be sent
//   gone(message)          it was said, but will not be heard any more
//   refused(message, why)
//   own()                  there are further own lines: those of another tab
export function listen(handlers) {
  emit = function (name, ...args) {
    try {
      handlers[name](...args);
    } catch (error) {
      reportError(error); // the next line is heard all the same
    }
  };
  early.splice(0).forEach(event => emit(...event));
}

// ---- The outbox: what was typed and is not taken by the server yet.
//
// A message is {text}, isEarlier if it was taken before this connection was made, and element, which is
// log.js's. The server tells that a message was taken before the line comes, to all connections of its sender.
//
// The server numbers the messages of a sender, tells how many it has taken, and drops what it is sent
// again. Each load of the page is a sender of its own: a tab that is duplicated has the messages of the
// other one, but no number of which the other makes use. What is left from before is sent first.

const me = {id: randomID(), taken: 0, messages: []};
const senders = leftSenders();
senders.flatMap(sender => sender.messages).forEach(message => emit('queued', message));
senders.push(me);
let expected = []; // messages that were taken and are not heard yet

// leftSenders returns those with messages that were left, unless it is not ours what is kept there.
function leftSenders() {
  try {
    return load(tab, path + ':outbox', [])
      .filter(({id, taken, texts}) => /^\w{1,64}$/.test(id) && taken >= 0 && texts.every(text => text.isWellFormed()))
      .map(({id, taken, texts}) => ({id, taken, messages: texts.map(text => ({text}))}));
  } catch {
    return [];
  }
}

function randomID() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, '0')).join('');
}

function keepOutbox() {
  save(tab, path + ':outbox', senders.filter(sender => sender.messages.length > 0)
    .map(({id, taken, messages}) => ({id, taken, texts: messages.map(message => message.text)})));
}

// say queues a message.
export function say(text) {
  const message = {text};
  me.messages.push(message);
  keepOutbox();
  emit('queued', message);
  if (speaking && senders[0] === me) {
    socket.send(text);
  }
  if (!watch) {
    watchConnection();
  }
}

// take learns up to which number the server has taken the messages of the sender that the connection is for.
function take(taken) {
  const sender = senders[0];
  const messages = sender.messages.splice(0, Math.max(0, taken - sender.taken));
  messages.forEach(message => message.isEarlier = !speaking);
  expected.push(...messages);
  sender.taken = taken;
  keepOutbox();
  if (!speaking) {
    speak(sender);
  }
  if (sender.messages.length === 0 && sender !== me) {
    senders.shift();
    connect(); // for the next one
  }
}

// speak sends what the server has not taken.
function speak(sender) {
  speaking = true;
  sender.messages.forEach(message => socket.send(message.text));
  giveUp();
}

// echoOf returns the message of which a line is the echo, if it is of one.
function echoOf(line) {
  const i = expected.findIndex(message => message.text === line);
  return i < 0 ? undefined : expected.splice(i, 1)[0];
}

// giveUp stops expecting earlier messages, when all lines are heard that were said before the connection was
// made, and it is known which messages were taken before. The lines of those that are left are gone.
function giveUp() {
  if (speaking && position.seq >= end) {
    expected.filter(message => message.isEarlier).forEach(message => emit('gone', message));
    expected = expected.filter(message => !message.isEarlier);
  }
}

// refuse takes the message that the server would not have out of the outbox. It keeps its number: those
// behind it may be in another tab, too.
function refuse(why) {
  const message = senders[0].messages.shift();
  if (message) {
    senders[0].taken++;
    emit('refused', message, why);
    keepOutbox();
  }
}

// If a message waits, or the server's first event, and nothing at all is heard for 10 s, the connection is
// dead, even where the browser has not noticed; unless a long message is still on its way.
let watch; // timer, or undefined

function watchConnection() {
  stopWatch();
  const unsent = socket.bufferedAmount;
  if (live && (!speaking || senders[0].messages.length > 0)) {
    watch = setTimeout(() => socket.bufferedAmount < unsent ? watchConnection() : lost('There is no answer.'), 10000);
  }
}

function stopWatch() {
  clearTimeout(watch);
  watch = undefined;
}

// ---- Own lines: those that were said in this tab, and in all tabs under the person's name.

const ownLines = store => load(store, path + ':own', {epoch: '', seqs: []});
let [ownInTab, ownOnDevice] = [tab, device].map(ownLines);

function claim(at) {
  ownInTab = claimIn(tab, at);
  if (person.name) {
    ownOnDevice = claimIn(device, at);
  }
}

function claimIn(store, at) {
  const {epoch, seqs} = ownLines(store);
  const lines = {epoch: at.epoch, seqs: (epoch === at.epoch ? seqs : []).concat(at.seq).slice(-Math.max(held, 100))};
  save(store, path + ':own', lines);
  return lines;
}

// isOwn reports whether the line at a position is one of them.
export const isOwn = ({epoch, seq}) => [ownInTab, ownOnDevice].some(lines => lines.epoch === epoch && lines.seqs.includes(seq));

window.addEventListener('storage', function (event) {
  if (event.key === path + ':own' && event.storageArea === window.localStorage) {
    ownOnDevice = ownLines(device);
    emit('own');
  }
});

// ---- The connection.

const reasons = {
  1001: 'The server is shutting down.',
  1013: 'This connection was too slow to follow.',
};
const refusals = {
  1003: 'The server takes text only.',
  1007: 'The server could not read a message as text.',
  1009: 'A message was too long for the server.',
};
let socket;
let timeout; // for its first message
let live = false; // the server has told the position
let speaking = false; // and what it has taken
let position; // {epoch, seq} of the next line
let known = 0; // lines to come that were heard already
let end = 0; // seq of the first line that was said on this connection
let first = Infinity; // seq of the first line that was said while the page was there
let fails = 0;
let skew; // milliseconds that the server's clock is ahead of this device's, if that is known
let said = []; // of lines to come: [how many, when]
let retry; // timer
let due; // time at which it ends

// nextPosition returns the position of the next line, if it is known.
export const nextPosition = () => position && {...position};

// serverTime returns the server's clock, in milliseconds since 1970, as far as it is known.
export const serverTime = () => Date.now() + (skew ?? 0);

// nextTry returns how many milliseconds it takes to the next attempt to connect, or undefined.
export const nextTry = () => retry && Math.max(0, due - Date.now());

// address is that of the WebSocket beside this page, wherever a proxy has put both.
function address() {
  const url = new URL('ws', document.baseURI);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.searchParams.set('events', '');
  url.searchParams.set('sender', senders[0].id + '.' + senders[0].taken);
  url.searchParams.set('since', position ? position.epoch + '.' + position.seq : '');
  return url;
}

export function connect() {
  hangUp();
  clearTimeout(retry);
  retry = undefined;
  if (!live) {
    emit('state', 'connecting');
  }
  live = speaking = false;
  socket = new WebSocket(address());
  socket.binaryType = 'arraybuffer';
  timeout = setTimeout(() => lost('There is no answer.'), 10000);
  socket.onmessage = function (event) {
    clearTimeout(timeout);
    arrive(event.data);
    socket.onmessage = function (event) {
      if (typeof event.data === 'string') {
        event.data.split('\n').forEach(hear);
      } else {
        learn(JSON.parse(new TextDecoder().decode(event.data)));
      }
      watchConnection();
    };
  };
  socket.onclose = function ({code}) {
    if (speaking && refusals[code]) {
      refuse(refusals[code]);
    }
    lost(reasons[code]);
  };
}

// hangUp gives up the socket, if there is one.
function hangUp() {
  clearTimeout(timeout);
  stopWatch();
  if (socket) {
    socket.onmessage = socket.onclose = null;
    socket.close();
  }
}

// arrive begins a connection at the position that the server tells: EPOCH SEQ END.
function arrive(line) {
  const [epoch, seq, last] = line.split(' ');
  const start = {epoch, seq: Number(seq)};
  known = 0;
  said = [];
  skew = undefined;
  end = Number(last);
  if (!position) {
    first = end;
  } else if (position.epoch !== epoch) {
    first = 0;
    emit('restarted');
  } else if (start.seq > position.seq) {
    emit('missed', start.seq - position.seq);
  } else {
    known = position.seq - start.seq;
  }
  expected.forEach(message => message.isEarlier = true);
  position = start;
  live = true;
  fails = 0;
  watchConnection();
  emit('state', 'live');
  if (start.seq >= end) {
    emit('caughtUp');
  }
}

// learn takes an event.
function learn({people, now, said: times, taken}) {
  if (now) {
    skew = Math.max(skew ?? -Infinity, now - Date.now()); // the event that came fastest is the best clock
  }
  if (times) {
    said.push(...times);
  }
  if (people) {
    emit('people', people);
  }
  if (taken !== undefined) {
    take(taken);
  }
}

// saidAt returns when the next line was said.
function saidAt() {
  if (said.length === 0) {
    return new Date(serverTime());
  }
  const [[, at]] = said;
  if (--said[0][0] === 0) {
    said.shift();
  }
  return new Date(at);
}

// hear takes the next line of the stream.
function hear(text) {
  const at = saidAt(), here = {...position};
  position.seq++;
  if (known > 0) {
    known--;
  } else {
    const message = echoOf(text);
    if (message) {
      claim(here);
    }
    emit('line', {text, at, position: here, message, own: Boolean(message) || isOwn(here), old: here.seq < first});
  }
  if (position.seq === end) {
    giveUp();
    emit('caughtUp');
  }
}

// lost gives up the connection, and tries again after a while. why is a sentence, or undefined.
function lost(why) {
  hangUp();
  if (!live) {
    askWhy();
  }
  live = speaking = false;
  retryIn(Math.min(500 * 2 ** fails++, 30000));
  emit('state', 'offline', why);
}

// retryIn tries to connect after half to all of pause, in milliseconds: not all pages at
// the same time.
function retryIn(pause) {
  clearTimeout(retry);
  pause *= 0.5 + Math.random() / 2;
  due = Date.now() + pause;
  retry = setTimeout(connect, pause);
}

// askWhy asks the server why there is no connection. Browsers hide how a WebSocket
// was refused.
async function askWhy() {
  const asked = socket;
  const answer = await fetch('ws', {cache: 'no-store'}).catch(() => undefined);
  const after = Number(answer?.headers.get('Retry-After')); // a proxy's own 503 has none
  if (answer?.status === 503 && after > 0) {
    const [why] = (await answer.text()).match(/too many rooms|chat is full|shutting down/) ?? [];
    if (why && socket === asked && retry) {
      retryIn(1000 * after);
      emit('state', why);
    }
  }
}

window.addEventListener('online', () => live ? lost() || connect() : retry && connect());
window.addEventListener('offline', () => live && lost('The network is gone.'));
document.addEventListener('visibilitychange', () => !document.hidden && retry && connect());

if (window.WebSocket) {
  connect();
}
