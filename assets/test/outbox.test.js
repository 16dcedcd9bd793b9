import assert from 'node:assert/strict';
import {test} from 'node:test';
import {Outbox} from '../outbox.js';

// a device with a store and a clock, whose pages the test opens.
function device() {
  const values = new Map();
  const d = {
    now: 1e12,
    values,
    store: {
      load: key => JSON.parse(values.get(key) ?? '{}'),
      save: (key, value) => values.set(key, JSON.stringify(value)),
      remove: key => values.delete(key),
      keys: prefix => [...values.keys()].filter(key => key.startsWith(prefix)),
    },
    open: (id, key = '/:outbox:') => new Outbox(d.store, key, id, () => d.now),
  };
  return d;
}
const texts = messages => messages.map(({text}) => text);

test('what a closed page had not sent, the next page sends under the same ID and numbers, before its own', function () {
  const d = device(), ann = d.open('a');
  ['one', 'two', 'three'].forEach(text => ann.add(text));
  ann.acknowledge(1, false);
  ann.release();
  const next = d.open('b');
  next.add('four');
  assert.deepEqual(texts(next.takeOver()), ['two', 'three']);
  assert.deepEqual([next.first.id, next.first.acked, texts(next.messages)], ['a', 1, ['two', 'three', 'four']]);
  next.acknowledge(3, true);
  assert.equal(next.next(), true);
  assert.equal(next.first.id, 'b');
  assert.equal(next.next(), false);
  assert.deepEqual([...d.values.keys()], ['/:outbox:b']);
});

test('one page at a time sends a message: others take it over once its page is closed, or silent for 150 s', function () {
  const d = device(), ann = d.open('a'), other = d.open('b'), third = d.open('c');
  ann.add('one');
  assert.deepEqual(other.takeOver(), []);
  d.now += 140_000;
  ann.renew();
  d.now += 140_000;
  assert.deepEqual(other.takeOver(), []);
  d.now += 20_000;
  assert.deepEqual(texts(other.takeOver()), ['one']);
  assert.deepEqual(texts(third.takeOver()), []);
});

test('a device whose clock was set back gives messages of closed pages back, too', function () {
  const d = device(), ann = d.open('a');
  ann.add('one');
  d.now -= 3600_000;
  assert.deepEqual(texts(d.open('b').takeOver()), ['one']);
});

test('rooms have outboxes of their own', function () {
  const d = device(), ann = d.open('a', '/lobby/:outbox:');
  ann.add('one');
  ann.release();
  assert.deepEqual(d.open('b', '/:outbox:').takeOver(), []);
});

test('a page that comes back from the browser’s cache goes on with its messages', function () {
  const d = device(), ann = d.open('a');
  ann.add('one');
  ann.release();
  ann.renew();
  assert.deepEqual(d.open('b').takeOver(), []);
});

test('what other programs stored is not sent', function () {
  const d = device();
  for (const [id, value] of Object.entries({
    x: 5, 'no id!': {taken: 0, texts: ['a'], at: 0}, y: {taken: -1, texts: ['a'], at: 0}, z: {taken: 0, texts: [7], at: 0},
    u: {taken: 0, texts: 'abc', at: 0}, v: {taken: 0, texts: ['two\nlines'], at: 0}, w: {taken: 0, texts: ['a']},
  })) {
    d.values.set('/:outbox:' + id, JSON.stringify(value));
  }
  assert.deepEqual(d.open('b').takeOver(), []);
});

test('a refused message goes, and its number stays used', function () {
  const ann = device().open('a');
  ann.add('bad');
  ann.add('good');
  assert.equal(ann.refuse().text, 'bad');
  assert.deepEqual([ann.first.acked, texts(ann.messages)], [1, ['good']]);
  ann.acknowledge(2, true);
  assert.equal(ann.refuse(), undefined);
});

test('an acknowledged message awaits its line, by its text', function () {
  const ann = device().open('a');
  const [one, again] = ['same', 'same', 'lost'].map(text => ann.add(text));
  assert.equal(ann.acknowledge(2, false), 2);
  assert.equal(ann.lineOf('same'), one);
  assert.equal(ann.lineOf('lost'), undefined);
  assert.deepEqual(ann.giveUp(), []);
  ann.reconnected();
  assert.deepEqual(ann.giveUp(), [again]);
});

test('other pages find a text as long as it is not acknowledged', function () {
  const d = device(), ann = d.open('a'), other = d.open('b');
  ann.add('one');
  assert.equal(other.holds('one'), true);
  assert.equal(other.holds('two'), false);
  ann.acknowledge(1, false);
  assert.equal(other.holds('one'), false);
});

test('without storage a page still sends', function () {
  const store = {load: () => ({}), save: () => false, remove() {}, keys: () => []};
  const ann = new Outbox(store, '/:outbox:', 'a');
  ann.add('one');
  assert.deepEqual([texts(ann.messages), ann.takeOver(), ann.acknowledge(1, false)], [['one'], [], 1]);
});
