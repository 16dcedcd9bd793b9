// A draft is not lost when its page is reloaded, closed or left, and only one page takes it.

import test from 'node:test';
import assert from 'node:assert/strict';

// Storage is a stand-in for a browser's. It refuses to store more than room characters.
class Storage {
  constructor(room = Infinity) {
    Object.assign(this, {room, values: new Map()});
  }
  getItem(key) {
    return this.values.get(key) ?? null;
  }
  setItem(key, value) {
    if (value.length > this.room) {
      throw new Error('full');
    }
    this.values.set(key, value);
  }
  removeItem(key) {
    this.values.delete(key);
  }
}

let loads = 0;

// Page is one load of the page, in a tab with its own storage. Only the page that was entered last exists for
// the module.
class Page {
  constructor(localStorage, sessionStorage = new Storage()) {
    this.window = Object.assign(new EventTarget(), {localStorage, sessionStorage});
  }
  enter() {
    const {window} = this, document = Object.assign(new EventTarget(), {body: {dataset: {root: ''}}});
    const [addEventListener, removeEventListener] = ['addEventListener', 'removeEventListener'].map(name => window[name].bind(window));
    Object.assign(globalThis, {window, document, location: {pathname: '/'}, addEventListener, removeEventListener});
    return this;
  }
  async open() {
    this.enter();
    this.draft = await import('../draft.js?' + loads++);
    this.type(this.draft.loadDraft());
    return this;
  }
  type(text) {
    this.enter();
    this.text = text;
    this.draft.noteDraft(text);
  }
  fire(type, persisted) {
    this.enter();
    const event = new Event(type, {cancelable: true});
    Object.defineProperties(event, {persisted: {value: persisted}, returnValue: {writable: true}});
    this.window.dispatchEvent(event);
    return event.defaultPrevented;
  }
  close() {
    const asked = this.fire('beforeunload');
    this.fire('pagehide');
    return asked;
  }
  reload() {
    this.close();
    return new Page(this.window.localStorage, this.window.sessionStorage).open();
  }
}

async function open(device, tab) {
  return new Page(device, tab).open();
}

test('a reload keeps the draft, and leaves none to others', async function () {
  const device = new Storage(), page = await open(device);
  page.type('hello');
  const again = await page.reload();
  assert.equal(again.text, 'hello');
  assert.equal((await open(device)).text, '');
});

test('a crash loses nothing', async function () {
  const page = await open(new Storage());
  page.type('hello');
  assert.equal((await open(page.window.localStorage, page.window.sessionStorage)).text, 'hello');
});

test('the next page takes the draft of a closed one, and only that page', async function () {
  const device = new Storage(), page = await open(device);
  page.type('hello');
  assert.equal((await open(device)).text, '', 'the first page is still open');
  assert.equal(page.close(), false, 'the browser asks');
  const next = await open(device);
  assert.equal(next.text, 'hello');
  assert.equal((await open(device)).text, '');
  assert.equal((await next.reload()).text, 'hello');
});

test('no draft of two closed pages is lost', async function () {
  const device = new Storage(), [a, b] = [await open(device), await open(device)];
  a.type('from a');
  b.type('from b');
  a.close();
  b.close();
  assert.deepEqual([(await open(device)).text, (await open(device)).text, (await open(device)).text], ['from b', 'from a', '']);
});

test('a page with a draft of its own takes no other', async function () {
  const device = new Storage(), [a, b] = [await open(device), await open(device)];
  a.type('from a');
  b.type('from b');
  a.close();
  assert.equal((await b.reload()).text, 'from b');
  assert.equal((await open(device)).text, 'from a');
});

test('a sent draft does not come back', async function () {
  const device = new Storage(), page = await open(device);
  page.type('hello');
  page.fire('pagehide');
  page.fire('pageshow', true);
  page.type('');
  page.close();
  assert.equal((await open(device)).text, '');
});

test('a page that comes back has its draft, and no other has it', async function () {
  const device = new Storage(), page = await open(device);
  page.type('hello');
  page.fire('pagehide');
  page.fire('pageshow', true);
  assert.equal(page.text, 'hello');
  assert.equal((await open(device)).text, '');
});

test('a closed tab that is opened again has its draft', async function () {
  const device = new Storage(), page = await open(device);
  page.type('hello');
  page.close();
  assert.equal((await open(device, page.window.sessionStorage)).text, 'hello');
  assert.equal((await open(device)).text, '');
});

test('closing asks only if the draft would be lost', async function () {
  const full = await open(new Storage(10));
  assert.equal(full.close(), false, 'there is no draft');
  full.type('longer than ten');
  assert.equal(full.close(), true, 'the device is full');
  full.fire('pageshow', true);
  assert.equal(full.text, 'longer than ten');
  const long = await open(new Storage(5e6));
  long.type('x'.repeat(5e6));
  assert.equal(long.close(), true, 'the draft is too long to store');
  long.type('');
  assert.equal(long.close(), false, 'the draft was sent');
});

test('strange values of other programs do no harm', async function () {
  for (const value of ['5', '{}', '[1, null]', '"text"', 'not JSON', 'null']) {
    const [device, tab] = [new Storage(), new Storage()];
    device.setItem('/:draft', value);
    tab.setItem('/:draft', value === '"text"' ? '[]' : value);
    const page = await open(device, tab);
    assert.equal(page.text, '', value);
    page.type('hello');
    page.close();
    assert.equal((await open(device)).text, 'hello', value);
  }
});

test('a page without storage works, and asks', async function () {
  const page = new Page();
  for (const name of ['localStorage', 'sessionStorage']) {
    Object.defineProperty(page.window, name, {get() { throw new Error('forbidden'); }});
  }
  await page.open();
  page.type('hello');
  assert.equal(page.close(), true);
  page.fire('pageshow', true);
  assert.equal(page.text, 'hello');
});
