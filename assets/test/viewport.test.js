import test from 'node:test';
import assert from 'node:assert/strict';
import {visiblePart} from '../viewport.js';

const free = undefined; // nothing covers the page

const cases = [
  // what happens, the page's height, the visual viewport, the part that is free
  ['iOS, no keyboard', 664, {height: 664, pageTop: 0, scale: 1}, free],
  ['iOS, keyboard', 664, {height: 328, pageTop: 0, scale: 1}, {height: 328, top: 0}],
  ['iOS, keyboard, and Safari has moved the page up', 664, {height: 328.4, pageTop: 335.6, scale: 1}, {height: 328, top: 336}],
  ['iOS on its side, keyboard', 390, {height: 180, pageTop: 0, scale: 1}, {height: 180, top: 0}],
  ['iOS, the bar of a keyboard made of keys', 664, {height: 609, pageTop: 0, scale: 1}, free],
  ['Safari bounces', 664, {height: 664, pageTop: -12, scale: 1}, free],
  ['Safari bounces, keyboard', 664, {height: 328, pageTop: -12, scale: 1}, {height: 328, top: 0}],
  ['Android, the keyboard has shrunk the page', 340, {height: 340, pageTop: 0, scale: 1}, free],
  ['Android, the address bar is gone', 700, {height: 756, pageTop: 0, scale: 1}, free],
  ['zoomed in, no keyboard', 664, {height: 332, pageTop: 100, scale: 2}, free],
  ['zoomed in by a little', 664, {height: 603.6, pageTop: 20, scale: 1.1}, free],
  ['zoomed in, keyboard', 664, {height: 164, pageTop: 100, scale: 2}, {height: 328, top: 0}],
  ['zoomed out', 664, {height: 1328, pageTop: 0, scale: 0.5}, free],
];

for (const [what, pageHeight, viewport, want] of cases) {
  test(what, () => assert.deepEqual(visiblePart(pageHeight, viewport), want));
}
