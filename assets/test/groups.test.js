// The groups of lines that share one visible name and time.

import {test} from 'node:test';
import assert from 'node:assert/strict';
import {group} from '../groups.js';

// seen returns, for each line, its name if the log shows it, '' if the line continues a group, and '-' for
// anything that is no line. A line is [name, minutes, text], with more properties, or undefined.
function seen(lines, last) {
  const all = lines.map(line => !line ? {text: 'a notice'} : {name: line[0], at: line[1] === undefined ? undefined : new Date(60000 * line[1]), text: line[2] ?? 'hi', own: false, ...line[3]});
  group(all, last, 60000 * 100);
  return all.map((line, i) => !lines[i] ? '-' : line.continued ? '' : line.name ?? '?').join(' ');
}

const short = n => Array.from({length: n}, () => ['Ann', 0]);
const rows = n => Array(n).fill('row').join('\n');

for (const [what, lines, want] of [
  ['a speaker is named once', [['Ann', 0], ['Ann', 1], ['Bob', 1], ['Ann', 1]], 'Ann  Bob Ann'],
  ['five minutes after the visible time there is another', [['Ann', 0], ['Ann', 3], ['Ann', 4.9], ['Ann', 5], ['Ann', 9.9], ['Ann', 10]], 'Ann   Ann  Ann'],
  ['lines without a name stand alone', [[undefined, 0], [undefined, 0], ['Ann', 0]], '? ? Ann'],
  ['own lines and those of a namesake are not one group', [['Ann', 0], ['Ann', 0, 'hi', {own: true}], ['Ann', 0]], 'Ann Ann Ann'],
  ['a notice or a rule between lines ends a group', [['Ann', 0], undefined, ['Ann', 0]], 'Ann - Ann'],
  ['the first new line begins a group', [['Ann', 0], ['Ann', 0, 'hi', {isNew: true}], ['Ann', 0, 'hi', {isNew: true}]], 'Ann Ann '],
  ['a line after the new ones does not', [['Ann', 0, 'hi', {isNew: true}], ['Ann', 0]], 'Ann '],
  ['eight rows have one name', short(17), 'Ann        Ann        Ann'],
  ['line breaks make rows', [['Ann', 0, rows(3)], ['Ann', 0, rows(5)], ['Ann', 0]], 'Ann  Ann'],
  ['a line of more than eight rows has its name', [['Ann', 0], ['Ann', 0, rows(9)], ['Ann', 0]], 'Ann Ann Ann'],
  ['forty characters make a row', [['Ann', 0, 'x'.repeat(40)], ['Ann', 0, 'x'.repeat(280)], ['Ann', 0]], 'Ann  Ann'],
  ['forty-one make two', [['Ann', 0, 'x'.repeat(41)], ['Ann', 0, 'x'.repeat(280)]], 'Ann Ann'],
  ['a message that is not sent yet is of now', [['Ann', 96], ['Ann', undefined]], 'Ann '],
  ['and so may begin a group', [['Ann', 95], ['Ann', undefined]], 'Ann Ann'],
]) {
  test(what, () => assert.equal(seen(lines), want));
}

test('lines that come later continue the group', function () {
  const first = {name: 'Ann', at: new Date(0), text: 'hi', own: false};
  group([first]);
  assert.equal(seen(short(8), first), '       Ann');
});

test('grouping again gives the same', function () {
  const lines = Array.from({length: 20}, () => ({name: 'Ann', at: new Date(0), text: 'hi', own: false}));
  group(lines);
  const once = lines.map(line => line.continued);
  group(lines);
  assert.deepEqual(lines.map(line => line.continued), once);
});
