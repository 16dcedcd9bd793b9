// Fingers, which are wider than the pointer of a mouse, and the words that change on a narrow phone.

import assert from 'node:assert/strict';
import {test} from './harness.js';

// The words that stand beside the bell, and whether the number of people does, too.
const words = [['live', true], ['connecting', false], ['offline', false], ['no connection', false], ['chat is full', false], ['too many rooms', false]];

test('The header keeps its height, and the state its line, whatever the state is', {}, async stage => {
  const {page} = await stage.open('-title', 'A title that is too long for the phones that people have');
  for (const [width, coarse] of [[320, true], [320, false], [390, true], [844, true]]) {
    await page.phone(width, 640);
    await page.devtools('Emulation.setTouchEmulationEnabled', {enabled: coarse});
    const found = await page.eval(words => words.map(([word, people]) => {
      $('#word').text(word);
      $('#people').text('1,000 people');
      $('#presence').prop('hidden', !people);
      const [state, bell] = ['#state', '#bell'].map(see.rect);
      const beside = state.right <= bell.left && Math.abs(state.top + state.bottom - bell.top - bell.bottom) < 4;
      return {word, height: see.rect('header').height, beside, isCut: $('#state')[0].scrollWidth > $('#state')[0].clientWidth};
    }), words);
    assert.deepEqual(found, words.map(([word]) => ({word, height: found[0].height, beside: true, isCut: false})), `at ${width} pixels`);
  }
});

test('The bar of an outage keeps its height, and its button stands beside the reason', {}, async stage => {
  const {page, network} = await stage.open();
  await page.phone(320, 640);
  network.answer = path => path.endsWith('/ws') ? {status: 502, body: ''} : undefined;
  network.hangUp();
  await page.until(() => see.visible('#now') && $('#why').text().includes('502'));
  const found = await page.eval(() => ['Connecting…', 'Next try in 1 s.', 'Next try in 120 s.'].map(wait => {
    $('#wait').text(wait);
    const [bar, why, now] = ['#offline', '#why', '#now'].map(see.rect);
    return {height: bar.height, beside: now.top < why.bottom && now.left >= why.right && now.right <= bar.right};
  }));
  assert.deepEqual(found, Array(3).fill({height: found[0].height, beside: true}));
});

test('A finger finds buttons of 40 pixels, and no input is so small that iOS zooms in', {}, async stage => {
  const {page, network} = await stage.open('lobby/#newcomer');
  await page.phone(390, 844);
  await page.say('hello');
  await page.until(() => see.visible('#ask'));
  await page.touch();
  network.answer = path => path.endsWith('/ws') ? {status: 401} : undefined;
  network.hangUp();
  await page.until(() => see.visible('#offline') && see.visible('#help'));
  for (const menu of ['none', '#presence', '#bell', '#menu']) {
    const small = await page.eval(menu => {
      $('#newer, #presence, #below').prop('hidden', false).find('summary').text('1 person');
      $('.menu').prop('open', false).filter(menu).prop('open', true);
      return $('button, summary, header a, #bell label, input[type=text], textarea').get()
        .filter(e => e.checkVisibility())
        .map(e => ({of: e.id || e.textContent, height: Math.round(e.offsetHeight), width: Math.round(e.offsetWidth)}))
        .filter(({height, width}) => height < 40 || width < 40);
    }, menu);
    assert.deepEqual(small, [], `with the menu ${menu} open`);
  }
  assert.deepEqual(await page.eval(() => $('input[type=text], textarea').get().filter(e => parseFloat(getComputedStyle(e).fontSize) < 16).map(e => e.id)), []);
});
