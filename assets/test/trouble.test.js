import assert from 'node:assert/strict';
import {test} from 'node:test';
import {ask, judge} from '../trouble.js';

const html = '<!DOCTYPE html><title>Log in</title>';

for (const [name, answer, want] of [
  ['no answer', {}, {why: /can’t be reached/}],
  ['a full chat', {status: 503, retryAfter: 5, body: 'The chat is full.'}, {why: /chat is full/, seconds: 5, reason: 'chat is full'}],
  ['too many rooms', {status: 503, retryAfter: 5, body: 'There are too many rooms.'}, {seconds: 5, reason: 'too many rooms'}],
  ['a chat that stops', {status: 503, retryAfter: 5, body: 'The server is shutting down.'}, {seconds: 5, reason: 'shutting down'}],
  ['a proxy without a chat', {status: 503, body: html}, {why: /proxy.*503/}],
  ['a proxy’s own Retry-After', {status: 503, retryAfter: 120, body: html}, {why: /proxy.*503/}],
  ['a bad gateway', {status: 502, body: html}, {why: /proxy.*502/}],
  ['a redirect to a login', {status: 0, type: 'opaqueredirect'}, {why: /log in/, help: 'login'}],
  ['a login page', {status: 200, body: html}, {why: /log in/, help: 'login'}],
  ['basic authentication', {status: 401}, {why: /log in/, help: 'login'}],
  ['a captive portal', {status: 511, body: html}, {why: /log in/, help: 'login'}],
  ['a rewritten Host', {status: 403, body: 'Pages of "https://here.example" may not connect to the host "b.example". If they are the same, a proxy has changed Host.'}, {why: /https:\/\/here.example.*Host/}],
  ['a proxy that forbids', {status: 403, body: html}, {why: /refuses access/, help: 'login'}],
  ['a chat that is gone', {status: 404, body: html}, {why: /not at this address/, help: 'reload'}],
  ['a proxy without WebSockets', {status: 426, body: 'Upgrade'}, {why: /WebSocket/, help: 'reload'}],
  ['a limit of a proxy', {status: 429, retryAfter: 30}, {why: /too many requests/, seconds: 30}],
  ['an error of a proxy', {status: 500}, {why: /500/, help: 'reload'}],
  ['a method that a proxy forbids', {status: 405}, {why: /405/, help: 'reload'}],
]) {
  test(name + ' has a sentence, and the help that it needs', function () {
    const got = judge(answer, true, 'https://here.example');
    assert.match(got.why, want.why ?? /./);
    assert.match(got.why, /^[A-Z].*\.$/);
    assert.deepEqual([got.help, got.seconds, got.reason], [want.help, want.seconds, want.reason]);
  });
}

test('without a network the server is not blamed', function () {
  assert.match(judge({}, false).why, /This device has no network/);
});

test('A request that hangs for 8 s counts as one without an answer, and is ended', async function (t) {
  t.mock.timers.enable({apis: ['setTimeout']});
  const signals = [];
  globalThis.window = globalThis;
  t.mock.method(globalThis, 'fetch', (address, {signal}) => (signals.push(signal), new Promise(() => {})));
  const answer = ask('ws', {method: 'POST'});
  t.mock.timers.tick(7999);
  assert.equal(signals[0].aborted, false);
  t.mock.timers.tick(1);
  assert.deepEqual(await answer, {});
  assert.equal(signals[0].aborted, true);
});
