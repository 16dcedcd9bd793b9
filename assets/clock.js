// clock.js estimates the server's clock from the times in its events.

const memory = 2 * 60 * 1000; // milliseconds after which a sample is forgotten
const mostSamples = 20;

// Clock counts on from the server's times with monotonic, which returns milliseconds. So the device's own clock does
// not matter. monotonic may stand still while the device sleeps; the next sample puts that right.
export class Clock {
  #samples = []; // {taken, ahead}; at taken, the clock of the server was ahead of monotonic by ahead milliseconds
  #isOver = false; // the next sample replaces all others

  constructor(monotonic = () => performance.now(), fallback = () => Date.now()) {
    Object.assign(this, {monotonic, fallback});
  }

  // sample notes the server's time, in milliseconds since 1970, from an event that has just come.
  sample(serverTime) {
    const taken = this.monotonic();
    const recent = this.#isOver ? [] : this.#samples.filter(sample => taken - sample.taken < memory);
    this.#samples = [...recent.slice(1 - mostSamples), {taken, ahead: serverTime - taken}];
    this.#isOver = false;
  }

  // restart has the next sample replace all others, because it comes from another connection, perhaps of another server.
  restart() {
    this.#isOver = true;
  }

  // now returns the server's time, or the device's before the first sample. The sample that came with the shortest
  // delay is the most exact.
  now() {
    const ahead = Math.max(...this.#samples.map(sample => sample.ahead));
    return this.#samples.length > 0 ? Math.round(this.monotonic() + ahead) : this.fallback();
  }
}
