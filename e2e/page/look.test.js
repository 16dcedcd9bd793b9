// How the page looks, and how it is heard by a person who does not see it.

import assert from 'node:assert/strict';
import {readFileSync} from 'node:fs';
import {test} from './harness.js';

test('Names have twelve colours, with a contrast of 4.5:1 on both backgrounds in both schemes', {}, async stage => {
  const {ann, page} = await stage.open(); // WCAG 2.2, success criterion 1.4.3
  await page.rename('Ann');
  ann.say('Bob: hello');
  await page.say('hello');
  await page.until(() => $('#lines .name').length === 2);
  for (const scheme of ['light', 'dark']) {
    await page.media('', {'prefers-color-scheme': scheme});
    for (const selector of ['#log', '.own']) {
      const [background, ...colours] = await page.eval(selector => {
        const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
        const rgb = colour => {
          context.fillStyle = colour;
          context.fillRect(0, 0, 1, 1);
          return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
        };
        const name = $('#lines .name')[0];
        const inHue = hue => {
          name.style.setProperty('--hue', hue);
          return rgb(getComputedStyle(name).color);
        };
        return [rgb(getComputedStyle($(selector)[0]).backgroundColor), ...Array.from({length: 12}, (_, i) => inHue(i * 30))];
      }, selector);
      colours.forEach((one, i) => {
        const ratio = contrast(one, background);
        assert.ok(ratio >= 4.5, `${selector}, ${scheme}: colour ${i} has a contrast of ${ratio}, want 4.5`);
        colours.slice(0, i).forEach((other, j) => {
          const apart = Math.hypot(...one.map((c, k) => c - other[k]));
          assert.ok(apart >= 15, `${scheme}: colours ${j} and ${i} are ${apart} apart, want 15: ${other} and ${one}`);
        });
      });
    }
  }
  ann.say(...Array.from({length: 200}, (_, n) => `Name ${n}: hello`)); // the page gives out all of them
  await page.until(() => new Set($('#lines .name').get().slice(2).map(name => getComputedStyle(name).color)).size === 12);
});

// contrast returns the contrast ratio of two colours (WCAG 2.2, "contrast ratio").
function contrast(...colours) {
  const [dark, light] = colours.map(function (rgb) {
    const [r, g, b] = rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }).sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

// painted returns the number of pixels in an area of the window that differ from its first. An empty page, whose policy
// allows that, decodes the picture of the window.
async function painted(page, {left, top, right, bottom}) {
  const picture = 'data:image/png;base64,' + Buffer.from(await page.screenshot()).toString('base64');
  const empty = page.stage.keep(await page.newTab());
  const n = await empty.eval(async (picture, ...area) => {
    const image = new Image();
    image.src = picture;
    await image.decode();
    const canvas = Object.assign(document.createElement('canvas'), {width: image.width, height: image.height});
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const pixels = new Uint32Array(context.getImageData(...area).data.buffer);
    return pixels.filter(pixel => pixel !== pixels[0]).length;
  }, picture, ...[left, top, right - left, bottom - top].map(Math.round));
  await empty.close();
  return n;
}

test('Even with many diacritics on a letter, the rows above and below stay clean', {}, async stage => {
  const {ann, page} = await stage.open();
  ann.say('.', ('a' + '\u0302\u0303\u0304\u0306\u0323\u0324\u032d\u0331'.repeat(5)).repeat(28), '.');
  await page.until(() => see.entries().length === 3);
  const rows = await page.eval(() => $('#lines .entry').get().map(e => {
    const {left, top, right, bottom} = e.getBoundingClientRect();
    return {left: left + 100, top: top + 1, right: right - 2, bottom: bottom - 1}; // without the times
  }));
  assert.equal(await painted(page, rows[0]), 0);
  assert.notEqual(await painted(page, rows[1]), 0);
  assert.equal(await painted(page, rows[2]), 0);
  await page.picture('diacritics.png');
});

test('If the system sets the colours, borders replace the backgrounds that mark the button and own lines', {}, async stage => {
  const {ann, page} = await stage.open();
  ann.say('another’s');
  await page.say('my own');
  await page.until(() => see.entries().length === 2);
  await page.media('', {'forced-colors': 'active'});
  await page.picture('forced.png');
  for (const [selector, wanted] of [['#send', true], ['#lines .entry:not(.own)', false], ['#lines .own', true]]) {
    const {left, top} = await page.eval(selector => (({left, top}) => ({left, top}))(see.rect(selector)), selector);
    assert.equal(await painted(page, {left, top: top + 12, right: left + 8, bottom: top + 13}) > 0, wanted, selector);
  }
});

test('A screen reader announces no line that was said before the page was loaded, and an own message once', {}, async stage => {
  const {ann, page, network} = await stage.open();
  const lines = Array.from({length: 20}, (_, n) => 'line ' + n);
  ann.say(...lines);
  await page.untilShown(...lines);
  network.preload(() => { // a screen reader announces nodes that are added to the log while it is not busy
    window.announced = [];
    document.addEventListener('DOMContentLoaded', () => new MutationObserver(records => {
      for (const {target, addedNodes} of records) {
        const live = target.closest('[aria-live], [role=log]');
        if (live && live.ariaLive !== 'off' && $('#log').attr('aria-busy') !== 'true') {
          announced.push(...[...addedNodes].map(node => node.textContent.replace(/^\d\d:\d\d/, '')));
        }
      }
    }).observe(document.querySelector('#log'), {childList: true, subtree: true}));
  });
  await page.enter();
  await page.untilShown(...lines);
  await page.until(() => $('#log').attr('aria-busy') === 'false');
  ann.say('after all');
  await page.untilShown(...lines, 'after all');
  await page.say('my own');
  await page.until(() => $('#lines .own').length === 1 && announced.join() === 'after all,my own');
});

test('A conversation looks good at a desk, and on a phone with dark colours', {}, async stage => {
  const {ann, page} = await stage.open(); // its pictures are the README's
  await page.rename('Ann');
  const converse = async (n, f) => {
    await f();
    await page.until(n => see.entries().length === n && see.allSent(), n);
  };
  await converse(1, () => ann.say('Bob: Did the new boiler arrive?'));
  await converse(2, () => page.say('It did, and it even works. Photos: https://example.org/boiler'));
  await converse(6, () => ann.say('Cléo: Finally!', 'Bob: Warm feet, after three weeks in two pullovers.',
    'Bob: @Ann, I owe you a dinner.', 'Cléo: Ελληνικό; I know a place.'));
  await converse(7, () => page.say('Saturday, then'));
  await page.picture('chat.png');

  await page.phone();
  await page.media('', {'prefers-color-scheme': 'dark'});
  await converse(8, () => ann.say('Bob: ' + 'nowheretobreakthis'.repeat(4)));
  await page.until(() => document.documentElement.scrollWidth === 320 &&
    $('#log')[0].scrollWidth === $('#log')[0].clientWidth);
  await page.until(() => getComputedStyle(document.body).backgroundColor === 'rgb(13, 15, 18)');
  await page.picture('phone.png');
  await page.expectNoComplaints();
});

test('axe-core finds nothing in either colour scheme while the page shows all that it can show', {}, async stage => {
  const {chat, ann, page} = await stage.open('#newcomer', '-max-message', '100');
  const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
  await page.devtools('Runtime.evaluate', {expression: axe});
  const check = async scheme => {
    await page.media('', {'prefers-color-scheme': scheme});
    const violations = await page.eval(async () => {
      const words = nodes => nodes.map(node => node.html + node.failureSummary).join();
      return (await axe.run()).violations.map(({id, nodes}) => id + ': ' + words(nodes));
    });
    assert.deepEqual(violations, [], scheme);
  };
  await page.rename('Name 0');
  ann.say(...Array.from({length: 20}, (_, n) => `Name ${n >> 1}: a message, @Name 0, and https://example.org/`));
  ann.say('Name 9: many' + '\u2028'.repeat(20) + 'rows');
  await page.say('my own');
  await page.until(() => $('.own').length > 0);
  await page.look(false);
  ann.say('new');
  await page.until(() => $('#new').length > 0);
  await page.look(true);
  await page.eval(() => { $('#log')[0].scrollTop = 0; });
  ann.say('below');
  await page.focus('#msg');
  await page.insert('x'.repeat(105));
  await page.eval(() => { $('#menu, #presence').prop('open', true); });
  await page.until(() => ['#below', '#left', '#speakers li', '#link', '#lines mark', '.fold'].every(one => see.visible(one)) &&
    $('#lines .continued').length > 0);
  await check('light');
  await check('dark');

  await chat.kill();
  await page.eval(() => {
    $('#menu, #presence').prop('open', false);
    $('#bell').prop('open', true);
    $('#newer').prop('hidden', false);
    $('#msg').val('not sent').trigger('input');
    $('#form').trigger('submit');
    $('#who').trigger('click');
  });
  await page.until(() => ['#offline', '#ask', '#bell fieldset', '#outbox .mark', '#newer'].every(one => see.visible(one)));
  await page.picture('busy-dark.png');
  await check('dark');
  await check('light');
  await page.picture('busy.png');
});
