// Which lines are new to the person.

import {test} from 'node:test';
import assert from 'node:assert/strict';
import {isNew, isRead} from '../reading.js';

const present = {read: {epoch: 'E', seq: 10}, returned: 0};
const away = {...present, returned: Infinity};
const back = {...present, returned: 6000};
const unknown = {...present, read: {}};

for (const [what, line, state, want] of [
  ['said in front of the person', {}, present, false],
  ['said while the person was away', {}, away, true],
  ['own, said from another tab while the person was away', {own: true}, away, false],
  ['said before the absence, and late', {at: new Date(4000)}, away, true],
  ['said in the absence, and received after it', {at: new Date(5500)}, back, true],
  ['said when the person left', {at: new Date(5000)}, back, true],
  ['said when the person came back', {at: new Date(6000)}, back, true],
  ['said after the person came back', {at: new Date(7000)}, back, false],
  ['said during a cut', {missed: true}, present, true],
  ['said during a cut, by the person on this device', {missed: true, own: true}, present, false],
  ['said during a cut, and read in another tab', {missed: true, seq: 9}, present, false],
  ['said while the person was away, and read in another tab', {seq: 9}, away, false],
  ['said in the absence, received after it, and read in another tab', {at: new Date(5500), seq: 9}, back, false],
  ['older than the page, and read', {old: true, seq: 9}, present, false],
  ['older than the page, and not read', {old: true, seq: 10}, present, true],
  ['older than the page, for a person who was never here', {old: true}, unknown, false],
  ['older than the page, in another epoch', {old: true, epoch: 'F'}, present, false],
  ['said during a cut, in another epoch', {missed: true, epoch: 'F', seq: 0}, present, true],
  ['said while the person was away, in another epoch', {epoch: 'F', seq: 0}, away, true],
  ['said during a cut, for a person who was never here', {missed: true}, unknown, true],
]) {
  const {epoch = 'E', seq = 12, at = new Date(1000), ...rest} = line;
  test('a line ' + what, () => assert.equal(isNew({at, position: {epoch, seq}, ...rest}, state.read, state.returned), want));
}

test('a line is read if it is before what may be unread', function () {
  const read = {epoch: 'E', seq: 10};
  assert.deepEqual([9, 10, 11].map(seq => isRead({epoch: 'E', seq}, read)), [true, false, false]);
  assert.equal(isRead({epoch: 'F', seq: 9}, read), false);
  assert.equal(isRead({epoch: 'E', seq: 9}, {}), false);
});
