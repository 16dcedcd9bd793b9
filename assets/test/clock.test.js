import assert from 'node:assert/strict';
import {test} from 'node:test';
import {Clock} from '../clock.js';

const noon = Date.UTC(2026, 10, 27, 12); // of the server
const hour = 3600 * 1000;

function clockAt(device) {
  const time = {monotonic: 1000, device};
  return {time, clock: new Clock(() => time.monotonic, () => time.device)};
}

test('before the first sample the device’s time counts', function () {
  const {clock} = clockAt(noon - hour);
  assert.equal(clock.now(), noon - hour);
});

test('the device’s time does not matter afterwards, whether it is wrong or set right', function () {
  const {clock, time} = clockAt(noon - hour);
  clock.sample(noon);
  time.device = noon;
  time.monotonic += 500;
  assert.equal(clock.now(), noon + 500);
});

test('the sample with the shortest delay counts, for 2 minutes', function () {
  const {clock, time} = clockAt(0);
  clock.sample(noon - 300); // came after 300 ms
  clock.sample(noon - 20);
  clock.sample(noon - 900);
  assert.equal(clock.now(), noon - 20);
  time.monotonic += 120_000;
  clock.sample(noon + 120_000 - 50);
  assert.equal(clock.now(), noon + 120_000 - 50);
});

test('after a sleep in which the device’s timers stood still, the next sample counts', function () {
  const {clock} = clockAt(0);
  clock.sample(noon);
  clock.sample(noon + hour);
  assert.equal(clock.now(), noon + hour);
});

test('another connection may lead to a server whose clock is behind', function () {
  const {clock} = clockAt(0);
  clock.sample(noon);
  clock.restart();
  assert.equal(clock.now(), noon);
  clock.sample(noon - hour);
  assert.equal(clock.now(), noon - hour);
});
