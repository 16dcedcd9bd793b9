// events.js passes what happens on the connection to the rest of the page, which is loaded later.
//
//   state(word, why, help) word is 'live', 'connecting', 'offline', or the server's reason for a refusal; why is a
//                          sentence about a lost connection, or undefined; help is 'login' or 'reload' if loading the
//                          page again may help
//   line(line)             the next line of the stream, an object that the handler may keep:
//                            text      a string
//                            at        the Date at which the line was said
//                            position  {epoch, seq}
//                            own       whether the person said the line, in this tab or another
//                            message   the message of the outbox that became the line, or undefined
//                            old       whether the line was said before the page was opened
//                            missed    whether the line was said while the page had lost its connection
//   news(line)             line is new to the person, who is away; from chat.js
//   unread(n)              n lines are unread, after a change; from unread.js
//   drawn()                the log has changed; from log.js
//   caughtUp()             the page has all lines that were said before the connection was made
//   missed(n)              the server no longer has the next n lines
//   restarted()            the room is in another epoch, and lines may be missing
//   people(n)              the number of connections in the room
//   newer()                the server has another version of the page
//   queued(message)        message, an object with text, is new in the outbox
//   gone(message)          message was said, but its line won't come
//   refused(message, why)  the server refused message; why is a sentence

const handlers = {}; // by name, arrays of functions
let earlyEvents = []; // events before start was called; undefined afterwards

// on registers a handler of an event. All must be registered before start is called.
export const on = (name, f) => (handlers[name] ??= []).push(f);

// emit reports an event. If a handler throws an error, the browser reports it, and the others are still called.
export function emit(name, ...args) {
  if (earlyEvents) {
    earlyEvents.push([name, ...args]);
    return;
  }
  for (const f of handlers[name] ?? []) {
    try {
      f(...args);
    } catch (error) {
      reportError(error);
    }
  }
}

// start calls the handlers for the events so far, and lets later events through.
export function start() {
  const events = earlyEvents;
  earlyEvents = undefined;
  events.forEach(event => emit(...event));
}
