// The style in browsers that lack its younger features. old.test.js tests that the page works there, and this that its
// colours can be read and that it fills the window.

import assert from 'node:assert/strict';
import {test} from './harness.js';

const lacking = { // what to replace, by what no browser knows
  'nothing': [],
  'oklch()': [['oklch(', 'nocolour(']],
  'the unit dvh': [['dvh', 'nounit']],
  'overflow: clip': [['overflow: clip', 'overflow: noclip']],
};
lacking['all of them'] = Object.values(lacking).flat();

// look returns what a person sees of a log that has all colours of names.
function look() {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const luminance = colour => { // WCAG 2.2, "relative luminance"
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map(c => c / 255)
      .reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4), 0);
  };
  const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const style = selector => getComputedStyle(document.querySelector(selector));
  const names = [...new Set($('#lines .name').get().map(e => getComputedStyle(e).color))];
  const grounds = [style('#log').backgroundColor, style('#lines .own').backgroundColor].map(luminance);
  return {
    colours: names.length,
    readable: names.map(luminance).every(name => grounds.every(ground => contrast(name, ground) >= 4.5)),
    dark: grounds.every(ground => ground < 0.1),
    fills: see.rect('body').height === innerHeight && see.rect('#form').bottom === innerHeight,
    clips: ['clip', 'hidden'].includes(style('#lines .entry').overflowY),
  };
}

test('Without the younger features of CSS, names have twelve readable colours, and the page fills the window', {}, async stage => {
  const {ann, page, network} = await stage.open();
  const lines = Array.from({length: 150}, (_, n) => `Name ${n}: hello`);
  ann.say(...lines);
  await ann.expect(...lines);
  await page.say('an own line');
  await page.until(() => see.entries().length === 151 && see.allSent());
  for (const [what, edits] of Object.entries(lacking)) {
    network.edit = (text, path) => path === '/' ? edits.reduce((text, edit) => text.replaceAll(...edit), text) : text;
    await page.enter();
    await page.until(() => see.entries().length === 151 && $('#lines .own').length === 1);
    for (const scheme of ['light', 'dark']) {
      await page.media('', {'prefers-color-scheme': scheme});
      assert.deepEqual(await page.eval(look), {colours: 12, readable: true, dark: scheme === 'dark', fills: true, clips: true}, `without ${what}, ${scheme}`);
    }
  }
});
