import assert from 'node:assert/strict';
import {test} from 'node:test';
import {allowed} from '../roomname.js';

for (const [typed, want] of [
  ['lobby', 'lobby'], ['', ''], ['  ', ''], ['Lobby', 'lobby'], ['My Room', 'my-room'], ['  My   Room  ', 'my-room'], ['Café Zürich', 'cafe-zurich'],
  ['a_b-c', 'a_b-c'], ['https://x.example/lobby/', 'lobby'], ['https://x.example/', ''], ['https://x.example', ''], ['http://x.example/lobby/?a#b', 'lobby'], ['#general', 'general'], ['C++', 'c'], ['rock & roll', 'rock-roll'], ['会议室', ''], ['ＦＵＬＬ', 'full'],
  ['😀 fun', 'fun'], ['Straße', 'strasse'], ['Łódź', 'lodz'], ['Æsir', 'aesir'], ['ışık', 'isik'], ['日本語 room', ''], ['комната 1', ''], ['a.b', 'a-b'], ['--x--', 'x'], ['../etc', 'etc'], ['a/b/', 'b'], ['x'.repeat(70), 'x'.repeat(64)],
]) {
  test(`${JSON.stringify(typed)} becomes ${JSON.stringify(want)}`, () => assert.equal(allowed(typed), want));
}
