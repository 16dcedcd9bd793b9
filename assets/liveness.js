// liveness.js decides whether a connection still passes anything. A browser shows a page no pings, and notices a dead
// connection late or never.

export const tickTime = 1000; // milliseconds between two calls of tick
const answerTimeout = 10000; // milliseconds in which the server answers a handshake or a message
const probeTimeout = 4000; // milliseconds in which it answers a probe, which somebody may wait for
const silenceTimeout = 36000; // milliseconds after which the page probes; the server sends something every 25 s
const sleepTime = 5000; // milliseconds by which a tick is late after the device has slept
const maxPatience = 8; // answerTimeouts to wait for an acknowledgement, at most

// Liveness watches one connection after another, an object with
//
//   greeted()   whether the server's greeting has come
//   inFlight()  whether messages have no acknowledgement yet
//   unsent()    the number of bytes that the browser has not sent yet
//   ping()      asks the server for a message
//   dead()      is called once if the server doesn't answer
//
// The caller calls start for each, heard for each message that comes, stop at its end, and tick every tickTime.
export class Liveness {
  #connection; // the argument of start; undefined while there is none
  #deadline; // monotonic time by which the server must be heard; undefined while nothing is expected
  #acknowledgedBy; // monotonic time by which an acknowledgement must come; lines of others may come without one
  #lastHeard; // monotonic time of the last message
  #unsent = 0; // bytes that the browser had not sent at the last tick
  #lastTick; // wall time of the last tick
  #patience = 1; // answerTimeouts to wait for an acknowledgement

  // monotonic and wall return milliseconds; wall goes on while the device sleeps.
  constructor(monotonic = () => performance.now(), wall = () => Date.now()) {
    Object.assign(this, {monotonic, wall});
    this.#lastTick = wall();
  }

  start(connection) {
    this.#connection = connection;
    this.#acknowledgedBy = undefined;
    this.heard();
  }

  stop() {
    this.#connection = undefined;
  }

  heard() {
    this.#lastHeard = this.monotonic();
    this.#deadline = undefined;
    this.sent();
  }

  // sent notes that a message may be on its way, which the server must acknowledge.
  sent() {
    const connection = this.#connection, time = answerTimeout * (connection?.greeted() ? this.#patience : 1);
    if (connection && this.#deadline === undefined && (!connection.greeted() || connection.inFlight())) {
      this.#expect(time);
    }
    if (connection?.greeted() && connection.inFlight()) {
      this.#acknowledgedBy ??= this.monotonic() + 2 * time;
    }
  }

  acknowledged() {
    this.#acknowledgedBy = undefined;
    this.#patience = 1;
  }

  // probe asks the server for a sign of life, unless one has come in the last milliseconds, or an answer is expected
  // anyway. On a slow line, the answer to a probe would come later than the answer to a long message before it.
  probe(last = tickTime) {
    if (this.#connection?.greeted() && this.#deadline === undefined && this.monotonic() - this.#lastHeard > last) {
      this.#connection.ping();
      this.#expect(probeTimeout);
    }
  }

  #expect(time) {
    this.#unsent = this.#connection.unsent();
    this.#deadline = this.monotonic() + time;
  }

  // tick probes after a silence, and after the device has slept. It ends the connection if no answer came in time,
  // unless the browser is still sending a long message. The browser counts the part that the system holds as sent, so
  // tick can't see how slow a line is. Its patience doubles with each connection that dies with a message on its way.
  tick() {
    const now = this.monotonic(), wall = this.wall(), unsent = this.#connection?.unsent() ?? 0;
    if (wall - this.#lastTick > tickTime + sleepTime) {
      this.#lastHeard = -Infinity; // monotonic may have stood still
    }
    this.#lastTick = wall;
    if (now - this.#lastHeard > silenceTimeout) {
      this.probe();
    }
    if (unsent > 0 && unsent < this.#unsent) {
      this.#deadline = this.#acknowledgedBy = now + answerTimeout;
    }
    this.#unsent = unsent;
    if (this.#connection && (now > this.#deadline || now > this.#acknowledgedBy)) {
      const {inFlight, dead} = this.#connection;
      this.#patience = inFlight() ? Math.min(2 * this.#patience, maxPatience) : this.#patience;
      this.stop();
      dead();
    }
  }
}
