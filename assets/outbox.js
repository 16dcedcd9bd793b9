// outbox.js owns the messages that the server has not acknowledged. They belong to the device: the page that sends them
// stores them there, and when its tab is closed, another page of the room takes them over. docs/protocol.md describes
// the numbers, in "Sending once".

const lease = 150000; // milliseconds; a page renews its senders every 10 s, but browsers let a hidden one do it once a minute

// Outbox holds senders. A sender is {id, acked, messages}: acked is the number of its last message that the server has
// acknowledged, and messages has the following ones. A message is an object with text. The device stores each sender
// that has messages as {taken, texts, at}: at is the time at which a page last said that it sends them, or 0 once that
// page is closed.
//
// Each load of the page is a sender of its own, and never adds messages to a sender that it took over. So if two pages
// send the messages of one sender, they send the same ones under the same numbers, and the room drops the repeats.
export class Outbox {
  // store has load(key), save(key, value), remove(key) and keys(prefix). key begins the keys of the room's senders. id
  // is random, and names this load of the page. now returns the device's time in milliseconds.
  constructor(store, key, id, now = () => Date.now()) {
    this.own = {id, acked: 0, messages: []};
    this.senders = [this.own]; // those that were taken over stand before it
    this.awaited = []; // acknowledged messages whose lines have not come; the page knows a line by its text
    Object.assign(this, {store, key, now});
  }

  // first is the sender that a connection serves.
  get first() {
    return this.senders[0];
  }

  get messages() {
    return this.senders.flatMap(sender => sender.messages);
  }

  // add puts a new message into the outbox and returns it. text must be well-formed Unicode without '\n'.
  add(text) {
    const message = {text};
    this.own.messages.push(message);
    this.#save(this.own);
    return message;
  }

  // acknowledge moves the first sender's messages up to number acked to those that await their lines, and returns how
  // many they are. onlyInReplay says that they were said before this connection was made, so that their lines are in
  // the replay or won't come.
  acknowledge(acked, onlyInReplay) {
    const removed = this.#removeTo(acked);
    removed.forEach(message => message.onlyInReplay = onlyInReplay);
    this.awaited.push(...removed);
    return removed.length;
  }

  // refuse removes and returns the first message, if there is one. Its number stays used, because another page may have
  // the following messages under the same numbers.
  refuse() {
    return this.first.messages.length > 0 ? this.#removeTo(this.first.acked + 1)[0] : undefined;
  }

  #removeTo(acked) {
    const removed = this.first.messages.splice(0, Math.max(0, acked - this.first.acked));
    this.first.acked = Math.max(this.first.acked, acked);
    this.#save(this.first);
    return removed;
  }

  // lineOf removes and returns the first awaited message with the text of a line, or returns undefined.
  lineOf(text) {
    const i = this.awaited.findIndex(message => message.text === text);
    return i < 0 ? undefined : this.awaited.splice(i, 1)[0];
  }

  // reconnected notes that the awaited messages were said before this connection was made.
  reconnected() {
    this.awaited.forEach(message => message.onlyInReplay = true);
  }

  // giveUp removes and returns the messages whose lines were not in the replay.
  giveUp() {
    const missing = this.awaited.filter(message => message.onlyInReplay);
    this.awaited = this.awaited.filter(message => !message.onlyInReplay);
    return missing;
  }

  // next removes the first sender if it was taken over and has no messages left, and returns whether it did.
  next() {
    return this.first !== this.own && this.first.messages.length === 0 && Boolean(this.senders.shift());
  }

  // takeOver takes the senders of pages that are closed, or have not renewed them, and returns their messages. It renews
  // the senders of this page.
  takeOver() {
    const taken = [];
    for (const key of this.store.keys(this.key)) {
      const id = key.slice(this.key.length), stored = this.store.load(key);
      const isAbandoned = Math.abs(this.now() - stored.at) > lease; // at is in the future if somebody has set the clock
      if (isAbandoned && isSender(id, stored) && !this.senders.some(sender => sender.id === id)) {
        taken.push({id, acked: stored.taken, messages: stored.texts.map(text => ({text}))});
      }
    }
    this.senders.splice(-1, 0, ...taken);
    this.renew();
    return taken.flatMap(sender => sender.messages);
  }

  // holds reports whether a page of the device has a message with this text.
  holds(text) {
    return this.store.keys(this.key).some(key => [].concat(this.store.load(key).texts).includes(text));
  }

  // renew says that this page still sends its messages. release offers them to others when this page is closed.
  renew() {
    this.senders.forEach(sender => this.#save(sender));
  }

  release() {
    this.senders.forEach(sender => this.#save(sender, 0));
  }

  #save({id, acked, messages}, at = this.now()) {
    if (messages.length > 0) {
      this.store.save(this.key + id, {taken: acked, texts: messages.map(message => message.text), at});
    } else {
      this.store.remove(this.key + id);
    }
  }
}

// isSender reports whether stored is a sender. Another program may have stored something else there.
function isSender(id, {taken, texts}) {
  return /^\w{1,64}$/.test(id) && Number.isSafeInteger(taken) && taken >= 0 &&
    Array.isArray(texts) && texts.every(text => typeof text === 'string' && !text.includes('\n'));
}
