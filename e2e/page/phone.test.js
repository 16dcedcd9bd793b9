// Phones: their small windows, their keyboards, and fingers. No engine here has a keyboard on the screen, so it is
// simulated by what the page sees of it.

import assert from 'node:assert/strict';
import {all, test} from './harness.js';

test('The way down opens no keyboard if a finger has pressed it, and leads into the input if a mouse has', {}, async stage => {
  for (const touch of [true, false]) {
    const {ann, page} = await stage.open();
    await page.phone(390, 500);
    if (touch) {
      await page.touch();
      await page.enterAgain();
    }
    ann.say(...Array.from({length: 100}, (_, n) => 'line ' + n));
    await page.until(() => see.entries().length === 100 && see.atEnd());
    await page.eval(() => {
      document.activeElement.blur();
      $('#log')[0].scrollTop = 100;
    });
    await page.until(() => !see.atEnd());
    ann.say('below');
    await page.until(() => see.visible('#below'));
    await (touch ? page.tap('#below') : page.click('#below'));
    await page.until(() => see.atEnd() && $('#below').is(':hidden'));
    await page.until(touch => (document.activeElement.id === 'msg') !== touch, touch);
  }
});

for (const [width, height] of [[320, 568], [390, 664], [844, 390]]) {
  test(`The header, the log's top and the input stay where they are when the connection is lost, at ${width}×${height}`, {}, async stage => {
    const {page, network} = await stage.open('a-room-with-a-long-name-of-its-own/');
    await page.phone(width, height);
    const before = await page.eval(() => ['header', '#log', '#word', '#msg'].map(e => see.rect(e).top));
    network.answer = () => ({status: 502});
    network.heal();
    await page.until(() => see.visible('#offline'));
    await page.until(() => $('#why').text().includes('502'));
    const after = await page.eval(() => ['header', '#log', '#word', '#msg'].map(e => see.rect(e).top));
    assert.deepEqual(after, before);
    await page.until(() => document.documentElement.scrollWidth === innerWidth);
    await page.until(() => $('#state')[0].getClientRects().length === 1 && see.rect('#state').height < 30); // in one row
    // The button stands beside the text or below it, and its height is that of one row.
    await page.until(() => see.rect('#now').right <= innerWidth && see.rect('#now').height < 50);
  });
}

// Chrome on Android makes the page smaller for its keyboard, as home.html asks; 390 pixels are a phone on its side.
test('The input, the question for the name and its buttons are in view above a keyboard', {}, async stage => {
  for (const [width, height] of [[320, 300], [390, 420], [844, 180]]) {
    const {page} = await stage.open('#newcomer');
    await page.until(() => /interactive-widget=resizes-content/.test($('meta[name=viewport]').attr('content')));
    await page.phone(width, height);
    await page.say('hello');
    await page.until(() => see.visible('#ask'));
    const cut = await page.eval(() => ['#name', '#nameless', '#msg', '#send'].filter(e => {
      const {top, bottom, left, right} = see.rect(e);
      return top < 0 || bottom > innerHeight || left < 0 || right > innerWidth;
    }));
    assert.deepEqual(cut, [], `at ${width}×${height}`);
  }
});

// Safari on iOS lays its keyboard over the page. Only the visual viewport is smaller then.
test('A keyboard that covers the page does not cover the input', {engines: all}, async stage => {
  const {page, network} = await stage.open();
  network.preload(() => {
    const viewport = new EventTarget();
    Object.assign(viewport, {height: innerHeight, pageTop: 0, offsetTop: 0, scale: 1});
    Object.defineProperty(window, 'visualViewport', {value: viewport});
    see.keyboard = height => {
      viewport.height = innerHeight - height;
      viewport.dispatchEvent(new Event('resize'));
    };
  });
  await page.enterAgain();
  await page.eval(() => see.keyboard(250));
  await page.until(() => see.rect('#msg').bottom <= innerHeight - 250 && see.rect('header').top >= 0);
  await page.eval(() => see.keyboard(0));
  await page.until(() => see.rect('#msg').bottom > innerHeight - 100);
});

// In some browsers a finger that taps hovers, too, so hovering is taken away.
test("A finger's touch shows the time of a line that continues a group", {}, async stage => {
  const {ann, page, network} = await stage.open();
  network.edit = text => text.replace(/\.continued:hover time(, )?/, '');
  await page.phone();
  await page.touch();
  await page.enterAgain();
  ann.say('Bob: one', 'Bob: two');
  await page.until(() => see.entries().length === 2 && getComputedStyle($('#lines time')[1]).opacity === '0');
  await page.tap('#lines .continued .text');
  await page.until(() => getComputedStyle($('#lines time')[1]).opacity === '1');
});
