// What notifications and the bell say.

import test from 'node:test';
import assert from 'node:assert/strict';
import {meaning, words} from '../announce.js';

// One line is shown with its name. Several are counted, and the last of them is shown.
const bursts = [ // lines, title, body
  [['Bob: hello'], 'Bob – Chat', 'hello'],
  [['hello'], 'Chat', 'hello'],
  [[' note: this'], 'Chat', 'note: this'],
  [['Bob: one\u2028two'], 'Bob – Chat', 'one\ntwo'],
  [['Bob: first', 'Ann: last'], '2 new messages – Chat', 'Ann: last'],
  [['Bob: first', 'last'], '2 new messages – Chat', 'last'],
  [Array(9).fill('Bob: x'), '9 new messages – Chat', 'Bob: x'],
  [['Bob: ' + '🙂'.repeat(5000)], 'Bob – Chat', '🙂'.repeat(300)],
  [['Bob\u200b: a\x07\u202eb'], 'Bob – Chat', 'a\u2407\ufffdb'],
];
for (const [lines, title, body] of bursts) {
  test('notification of ' + lines.length + ' lines, ' + JSON.stringify(lines[0]).slice(0, 30),
    () => assert.deepEqual(words(lines.length, lines.at(-1), 'Chat'), {title, body}));
}

const meanings = [ // notify, name, no notification because, no sound because, what the bell says
  ['nothing', '', 'a', 'b', ''],
  ['everything', 'Ann', '', '', 'A notification and a sound.'],
  ['everything', '', '', '', 'A notification and a sound.'],
  ['mentions', 'Ann', '', '', 'A notification and a sound.'],
  ['mentions', '', '', '', 'A notification and a sound. You have no name yet.'],
  ['everything', 'Ann', 'notifications need https', '', 'A sound: notifications need https.'],
  ['everything', 'Ann', '', 'this browser plays no sound', 'A notification, but no sound: this browser plays no sound.'],
  ['everything', 'Ann', 'a', 'b', 'Only the number in the title: a, and b.'],
  ['mentions', '', 'a', 'b', 'Only the number in the title: a, and b. You have no name yet.'],
];
for (const [notify, name, silent, mute, want] of meanings) {
  test('the bell: ' + [notify, name, silent, mute], () => assert.equal(meaning({notify, name}, silent, mute), want));
}
