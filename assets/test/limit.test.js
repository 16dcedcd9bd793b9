// The line that is made of what was typed, and its length.

import test from 'node:test';
import assert from 'node:assert/strict';
import {asLine, content, measure} from '../limit.js';

// Blank rows around a text are not part of the message, and a text of which nothing can be seen is none.
const contents = [
  ['hello', 'hello'],
  ['hello \n\n ', 'hello'],
  ['\n\nhello', 'hello'],
  ['\n  indented\n\n  twice', '  indented\n\n  twice'],
  ['', ''],
  [' \n\t ', ''],
  ['\u200b\u200d', ''],
  ['\u2800\u3164', ''],
  ['\u200bx', '\u200bx'],
];
for (const [typed, want] of contents) {
  test('content of ' + JSON.stringify(typed), () => assert.equal(content(typed), want));
}

// A line is "NAME: TEXT", or a text alone, which a space keeps from looking like "NAME: TEXT".
const lines = [
  ['hello', 'Ann', 'Ann: hello'],
  ['hello', '', 'hello'],
  ['one\ntwo\n\nthree', 'Ann', 'Ann: one\u2028two\u2028\u2028three'],
  ['note: this', '', ' note: this'],
  ['note: this', 'Ann', 'Ann: note: this'],
  [' note: this', '', ' note: this'],
  ['one\nnote: this', '', 'one\u2028note: this'],
  ['https://example.com', '', 'https://example.com'],
  ['x'.repeat(65) + ': y', '', 'x'.repeat(65) + ': y'],
  ['🙂'.repeat(64) + ': y', '', ' ' + '🙂'.repeat(64) + ': y'],
  ['\u200b: nobody', '', '\u200b: nobody'],
  ['half \ud83d of an emoji', 'Ann', 'Ann: half \ufffd of an emoji'],
  ['\ude42🙂\ud83d', '', '\ufffd🙂\ufffd'],
];
for (const [text, name, want] of lines) {
  test('line of ' + JSON.stringify([name, text]).slice(0, 60), () => assert.equal(asLine(text, name), want));
}

// measure counts bytes and says characters. It says nothing far from the limit, and never cuts.
const measured = [ // text, name, limit, over, words
  ['', 'Ann', 10, false, ''],
  ['x'.repeat(30), '', 100, false, ''],
  ['x'.repeat(35), '', 100, false, ''],
  ['x'.repeat(36), '', 100, false, 'about 64 characters left'],
  ['x'.repeat(31), 'Ann', 100, false, 'about 64 characters left'],
  ['x'.repeat(3500), '', 4096, false, ''],
  ['x'.repeat(3700), '', 4096, false, 'about 396 characters left'],
  ['x'.repeat(99), '', 100, false, 'about 1 character left'],
  ['x'.repeat(100), '', 100, false, 'about 0 characters left'],
  ['x'.repeat(101), '', 100, true, '1 character too long'],
  ['x'.repeat(95), 'Ann', 100, false, 'about 0 characters left'],
  ['x'.repeat(96), 'Ann', 100, true, '1 character too long'],
  ['short' + 'é'.repeat(45), '', 100, false, 'about 2 characters left'],
  ['é'.repeat(51), '', 100, true, '1 character too long'],
  ['花'.repeat(34), '', 100, true, '1 character too long'],
  ['🙂'.repeat(25), '', 100, false, 'about 0 characters left'],
  ['🙂'.repeat(27), '', 100, true, '2 characters too long'],
  ['\n'.repeat(40) + 'x', '', 100, true, '8 characters too long'],
  ['\ud83d'.repeat(34), '', 100, true, '1 character too long'],
  ['\ud83dx🙂', '', 7, true, '1 character too long'],
  ['a: b', '', 4, true, '1 character too long'],
  ['x'.repeat(5e6), '', 4096, true, '4995904 characters too long'],
  ['row\n'.repeat(50000), '', 4096, true, '197269 characters too long'],
];
for (const [text, name, limit, over, words] of measured) {
  test('length of ' + JSON.stringify([name, text.slice(0, 20), text.length, limit]),
    () => assert.deepEqual(measure(text, name, limit), {over, words}));
}

// What measure counts is the length of the line that is sent.
test('a line is over the limit exactly if it has more bytes', function () {
  for (const text of ['plain', 'é\n花🙂', 'note: this', '\ud83d\ude42\ud83d', 'x\n\ny\u2028z\x7f\u0080\u07ff\u0800\uffff']) {
    for (const name of ['', 'Ann', '小明']) {
      const bytes = new TextEncoder().encode(asLine(text, name)).length;
      assert.deepEqual([bytes - 1, bytes].map(limit => measure(text, name, limit).over), [true, false], JSON.stringify([name, text]));
    }
  }
});
