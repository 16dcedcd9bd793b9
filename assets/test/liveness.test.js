import assert from 'node:assert/strict';
import {test} from 'node:test';
import {Liveness} from '../liveness.js';

// a Liveness whose clock the test moves, second by second, with a connection that notes what happens.
function watched(state = {}) {
  let now = 0, wall = 1e12;
  const log = [];
  const connection = {
    greeted: () => state.greeted ?? true,
    inFlight: () => state.inFlight ?? false,
    unsent: () => state.unsent ?? 0,
    ping: () => log.push('ping ' + now / 1000),
    dead: () => log.push('dead ' + now / 1000),
  };
  const liveness = new Liveness(() => now, () => wall);
  liveness.start(connection);
  function pass(seconds, each = () => {}) {
    for (let i = 0; i < seconds; i++) {
      now += 1000;
      wall += 1000;
      each(now / 1000);
      liveness.tick();
    }
  }
  return {liveness, connection, state, log, pass, sleep: seconds => { wall += 1000 * seconds; }};
}

test('a connection on which something comes every 25 s is left alone', function () {
  const {liveness, log, pass} = watched();
  pass(600, second => second % 25 === 0 && liveness.heard());
  assert.deepEqual(log, []);
});

test('an idle page knows within 45 s that nothing comes', function () {
  const {log, pass} = watched();
  pass(60);
  assert.deepEqual(log, ['ping 37', 'dead 42']);
});

test('an answer to the probe of an idle page begins another silence', function () {
  const {liveness, log, pass} = watched();
  pass(79, second => second === 38 && liveness.heard());
  assert.deepEqual(log, ['ping 37', 'ping 75']);
});

test('a page that somebody looks at knows within 5 s, and asks only once', function () {
  const {liveness, log, pass} = watched();
  pass(10);
  liveness.probe();
  liveness.probe();
  pass(10);
  assert.deepEqual(log, ['ping 10', 'dead 15']);
});

test('a probe is not needed where something has just come', function () {
  const {liveness, log, pass} = watched();
  pass(4);
  liveness.probe(5000);
  pass(1, () => liveness.heard());
  liveness.probe();
  pass(30);
  assert.deepEqual(log, []);
});

test('after a sleep the page asks at once, even if its clock stood still', function () {
  const {log, pass, sleep} = watched();
  pass(3);
  sleep(3600);
  pass(10);
  assert.deepEqual(log, ['ping 4', 'dead 9']);
});

test('a clock that somebody sets costs a probe at most', function () {
  const {liveness, log, pass, sleep} = watched();
  pass(20, second => second % 5 || liveness.heard());
  sleep(3600);
  pass(2, () => liveness.heard());
  sleep(-7200);
  pass(20, second => second % 5 || liveness.heard());
  assert.deepEqual(log.filter(entry => entry.startsWith('dead')), []);
});

test('a message without an acknowledgement ends the connection after 10 s', function () {
  const {liveness, state, log, pass} = watched();
  pass(5);
  state.inFlight = true;
  state.unsent = 100; // bytes that the browser then hands to the system, which is no progress
  liveness.sent();
  pass(20, () => { state.unsent = 0; });
  assert.deepEqual(log, ['dead 16']);
});

test('lines of others are no acknowledgement: without one the connection ends after 20 s', function () {
  const {liveness, log, pass} = watched({inFlight: true});
  pass(60, second => second % 3 || log.length > 0 || liveness.heard());
  assert.deepEqual(log, ['dead 21']);
});

test('a handshake without an answer ends after 10 s, every time', function () {
  const {liveness, connection, log, pass} = watched({greeted: false, inFlight: true});
  pass(20);
  liveness.start(connection);
  pass(20);
  assert.deepEqual(log, ['dead 11', 'dead 31']);
});

test('a long message on a slow line may take as long as the browser is still sending it', function () {
  const {liveness, state, log, pass} = watched({inFlight: true, unsent: 100});
  liveness.sent();
  pass(90, () => { state.unsent--; });
  assert.deepEqual(log, []);
  pass(60, () => { state.unsent = 10; });
  assert.deepEqual(log, ['dead 101']);
});

test('what the system holds of a message looks sent, so the patience doubles to 80 s, and ends with an acknowledgement', function () {
  const {liveness, connection, log, pass} = watched({inFlight: true});
  const waits = [];
  for (let i = 0; i < 5; i++) {
    liveness.start(connection);
    let seconds = 0;
    for (log.length = 0; log.length === 0; seconds++) {
      pass(1);
    }
    waits.push(seconds);
  }
  assert.deepEqual(waits, [11, 21, 41, 81, 81]);
  liveness.acknowledged();
  liveness.start(connection);
  log.length = 0;
  pass(11);
  assert.equal(log.length, 1);
});
