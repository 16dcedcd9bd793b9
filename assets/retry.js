// retry.js plans the next attempt to connect.

const first = 500; // milliseconds after the first failure, at most; each further failure doubles the pause
const longest = 30000; // milliseconds, at most

// Retry calls connect when an attempt is due. failures is the number of failures since the caller last set it to 0.
export class Retry {
  failures = 0;
  #timer; // undefined unless an attempt is planned
  #due; // when the timer fires, by performance.now

  constructor(connect) {
    this.connect = connect;
  }

  // left returns the milliseconds until the next attempt, or undefined if none is planned.
  left() {
    return this.#timer && Math.max(0, this.#due - performance.now());
  }

  cancel() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  failed() {
    this.within(Math.min(first * 2 ** this.failures++, longest));
  }

  // within plans the attempt after half to all of pause, in milliseconds, at random. So the pages that lost their
  // connections together don't come back together.
  within(pause) {
    this.cancel();
    pause *= 0.5 + Math.random() / 2;
    this.#due = performance.now() + pause;
    this.#timer = setTimeout(this.connect, pause);
  }
}
