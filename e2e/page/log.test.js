// How the log moves and stays, and its bounds, whatever others send.

import assert from 'node:assert/strict';
import {all, test} from './harness.js';

const everywhere = {engines: all};
const numbered = (from, to) => Array.from({length: to - from}, (_, i) => 'line ' + (from + i));

test('The log says how many lines came below, scrolls from the input, gives it what is typed, and is printed whole', {}, async stage => {
  const {ann, page} = await stage.open();
  ann.say(...numbered(0, 100));
  await page.until(() => see.entries().length === 100 && see.atEnd() && $('#below').is(':hidden'));
  await page.eval(() => { $('#log')[0].scrollTop = 200; });
  ann.say(...numbered(100, 103));
  await page.until(() => $('#below').text() === '↓ 3 new messages' && see.visible('#below') &&
    $('#log')[0].scrollTop === 200);
  await page.picture('scrolled.png');
  await page.click('#below');
  await page.until(() => see.atEnd() && $('#below').is(':hidden') && document.activeElement.id === 'msg');

  await page.focus('#log');
  await page.type('typed');
  const isTyped = () => $('#msg').val() === 'typed' && document.activeElement.id === 'msg';
  await page.until(isTyped);
  const top = await page.eval(() => $('#log')[0].scrollTop);
  await page.press('PageUp');
  await page.until(top => top - $('#log')[0].scrollTop > 0.5 * $('#log')[0].clientHeight, top);
  await page.until(isTyped);
  await page.press('PageDown');
  await page.until(top => $('#log')[0].scrollTop === top, top);
  await page.expectNoComplaints();

  await page.media('print', {'prefers-color-scheme': 'light'});
  await page.until(() => $('#log')[0].clientHeight === $('#log')[0].scrollHeight &&
    document.documentElement.scrollHeight > 100 * 20);
  await page.until(() => $('button:visible, textarea:visible, input:visible, summary:visible').length === 0);
});

// ---- What stays in place. follow notes in the page at each frame how far an entry, by its number, has moved.

const follow = (page, n) => page.eval(n => {
  const row = $('#lines .entry')[n];
  const top = () => row.getBoundingClientRect().top - see.rect('#log').top;
  const first = top();
  window.far = () => row.isConnected ? Math.abs(top() - first) : Infinity;
  window.farthest = 0;
  requestAnimationFrame(function next() {
    farthest = Math.max(farthest, far());
    requestAnimationFrame(next);
  });
}, n);

test('What a person reads stays in place when lines go at the top, and when others come below', everywhere, async stage => {
  const {ann, page} = await stage.open();
  ann.say(...numbered(0, 2000));
  await page.until(() => see.entries().length === 2000 && see.atEnd());
  await page.eval(() => { $('#log')[0].scrollTop = $('#lines .entry')[1000].offsetTop - 100; });
  await follow(page, 1000);
  for (let n = 2000; n < 2300; n += 100) {
    ann.say(...numbered(n, n + 100));
    await page.until(n => $('#below').text() === `↓ ${n} new messages` && see.entries().length === 2000, n - 1900);
  }
  await page.until(() => see.entries()[0] === 'line 300' && far() <= 1 && farthest <= 1);
});

test('What a person reads stays in place when the rule above goes, and when the window has another size', everywhere, async stage => {
  const {ann, page} = await stage.open();
  ann.say('seen');
  await page.untilShown('seen');
  await page.look(false);
  ann.say(...numbered(0, 100).map((line, n) => line + ' word'.repeat(n * 37 % 50)));
  await page.until(() => see.entries().length === 101 && $('#new').length === 1);
  await page.look(true);
  await page.until(() => see.visible('#below'));
  await page.eval(() => { $('#log')[0].scrollTop = $('#lines .entry')[50].offsetTop - $('#log')[0].offsetTop + 10; });
  await follow(page, 50);
  await page.press('Escape');
  await page.until(() => $('#new').length === 0 && far() <= 1 && farthest <= 1);
  for (const [width, height] of [[460, 400], [720, 480]]) {
    await page.resize(width, height);
    await page.until((width, height) => innerWidth === width && innerHeight === height &&
      far() <= 1, width, height);
  }
});

test('At the end, the log stays there whatever its height becomes', everywhere, async stage => {
  const {ann, page} = await stage.open();
  ann.say(...numbered(0, 100), 'Bob: ' + '\u2028row'.repeat(100));
  await page.until(() => see.entries().length === 101 && see.atEnd() && see.visible('.fold'));
  await page.resize(720, 300);
  await page.until(() => innerHeight === 300 && see.atEnd());
  await page.type('one');
  await page.press('Enter', 'Shift');
  await page.press('Enter', 'Shift'); // makes the input higher
  await page.type('two');
  await page.until(() => $('#msg').val() === 'one\n\ntwo' && see.atEnd());
  ann.say('below');
  await page.until(() => see.entries().length === 102 && see.atEnd());
});

// A place in the middle of the text of an entry, which is counted from the end.
const placeOf = (page, fromEnd) => page.eval(fromEnd => {
  const {left, right, top, bottom} = $('#lines .text').get($('#lines .text').length - fromEnd).getBoundingClientRect();
  return {left: left + 1, right: right - 1, y: (top + bottom) / 2};
}, fromEnd);

test('Nothing moves while a button is down in the log, or text there is selected, and afterwards the log goes on', everywhere, async stage => {
  const {ann, page} = await stage.open();
  ann.say(...numbered(0, 100));
  await page.until(() => see.entries().length === 100 && see.atEnd());
  const {left, right, y} = await placeOf(page, 3);
  await follow(page, 97);
  await page.mouse('down', left, y);
  ann.say('while a button is down');
  await page.until(() => $('#below').text() === '↓ 1 new message' && see.visible('#below') &&
    see.entries().length === 100);
  await page.mouse('move', (left + right) / 2, y);
  await page.mouse('up', right, y);
  const selected = await page.until(() => getSelection().toString());
  assert.match(selected, /^.?ine 9.?$|^line 97$/);
  ann.say('while text is selected');
  await page.until(() => $('#below').text() === '↓ 2 new messages' && see.entries().length === 100);
  await page.until(selected => getSelection().toString() === selected && farthest <= 1, selected);
  await page.mouse('down', right + 50, y);
  await page.mouse('up', right + 50, y);
  await page.until(() => see.entries().length === 102 && see.atEnd() && $('#below').is(':hidden'));

  await page.eval(() => { getSelection().selectAllChildren($('#lines .text').last()[0]); });
  ann.say('before an own line');
  await page.until(() => see.visible('#below'));
  await page.focus('#msg');
  await page.say('my own'); // the person wants to see it
  await page.until(() => see.entries().length === 104 && see.atEnd());
});

test('Nothing moves under a finger', {}, async stage => {
  const {ann, page} = await stage.open();
  await page.touch();
  ann.say(...numbered(0, 100));
  await page.until(() => see.entries().length === 100 && see.atEnd());
  const {left, y} = await placeOf(page, 3);
  await page.devtools('Input.dispatchTouchEvent', {type: 'touchStart', touchPoints: [{x: left, y}]});
  ann.say('while a finger is down');
  await page.until(() => see.visible('#below') && see.entries().length === 100);
  await page.devtools('Input.dispatchTouchEvent', {type: 'touchEnd', touchPoints: []});
  await page.until(() => see.entries().length === 101 && see.atEnd());
});

// ---- Bounds.

test('Of the lines that arrive while the log is held, only those that will stay become elements', {}, async stage => {
  const {ann, page} = await stage.open();
  ann.say('selected');
  await page.untilShown('selected');
  await page.look(false); // so the title counts
  await page.focus('#log');
  await page.eval(() => {
    getSelection().selectAllChildren($('#lines .text')[0]);
    window.made = 0;
    const {createElement} = document;
    document.createElement = function (...args) {
      made++;
      return createElement.apply(this, args);
    };
  });
  ann.say(...numbered(0, 6000));
  await page.until(() => document.title === '(6000) Chat' && see.entries().length === 1);
  await page.eval(() => { getSelection().removeAllRanges(); });
  await page.until(() => see.entries().length === 2000 && see.entries()[0] === 'line 4000' &&
    $('#new').length === 1);
  assert.ok(await page.eval(() => made) < 20000);
});

// Each flood is a text of 4 KB that others send over and over.
for (const [flood, text] of Object.entries({
  'links': 'Bob: ' + 'http:// http://a.b http://a.b/c '.repeat(125),
  'the reader’s name': 'Bob: ' + 'Ann '.repeat(1000),
  'row breaks': 'Bob: ' + '\u2028'.repeat(1300),
  'letters': 'Bob: ' + 'x'.repeat(4000),
})) {
  test('The page stays small in a flood of ' + flood, {}, async stage => {
    const {ann, page} = await stage.open();
    await page.rename('Ann');
    for (let n = 0; n < 400; n++) {
      ann.say(text);
    }
    ann.say('the end');
    await page.until(() => see.entries().at(-1) === 'the end');
    const got = await page.eval(() => {
      const of = selector => Math.max(...$('#lines .entry').get().map(e => e.querySelectorAll(selector).length));
      return {
        elements: $('#log *').length,
        links: of('a'),
        marks: of('mark'),
        characters: $('#lines').text().length,
        pixels: Math.max(...$('#lines .entry').get().map(e => e.offsetHeight)),
      };
    });
    const bounds = {elements: 25000, links: 50, marks: 20, characters: 600000, pixels: 400};
    for (const [what, most] of Object.entries(bounds)) {
      assert.ok(got[what] <= most, `got ${got[what]} ${what}, want at most ${most}`);
    }
    await page.expectNoComplaints();
  });
}

test('A line of a hundred thousand links is one of fifty, and the next line follows it', {}, async stage => {
  const {ann, page} = await stage.open('-max-message', '2000000');
  ann.say('Bob: ' + 'http://a.b/c '.repeat(100000), 'after all');
  await page.until(() => see.entries().length === 2 && see.entries()[1] === 'after all' &&
    $('#lines a').length <= 50);
  await page.eval(() => { $('.fold').trigger('click'); });
  await page.until(() => $('#lines a').length === 50 && $('#lines .text')[0].textContent.length === 1300000);
  await page.expectNoComplaints();
});

test('A folded text is whole in its links, and in copies', {}, async stage => {
  const {ann, page} = await stage.open();
  const link = 'https://example.org/' + 'x'.repeat(1500);
  ann.say('Bob: ' + link + ' end', 'next');
  await page.until(() => see.entries().length === 2 && $('.folded').length === 1 &&
    $('#lines').text().length < 1300);
  await page.until(link => $('#lines a')[0].href === link, link);
  const copied = await page.eval(() => {
    getSelection().selectAllChildren($('#lines')[0]);
    const event = new ClipboardEvent('copy', {clipboardData: new DataTransfer(), bubbles: true, cancelable: true});
    $('#log')[0].dispatchEvent(event);
    return event.clipboardData.getData('text/plain').replace(/^\d\d:\d\d /gm, '');
  });
  assert.equal(copied, 'Bob: ' + link + ' end\nnext');
});

test('Whatever is high is folded, on a desk and on a phone, and is shown whole on demand', {}, async stage => {
  const {ann, page} = await stage.open('-max-message', '16384');
  const lines = {
    'row breaks': 'Bob: first' + '\u2028'.repeat(1300) + 'last',
    'paragraph breaks': 'Bob: first' + '\u2029'.repeat(1300) + 'last',
    'thirteen rows': 'Bob: first' + '\u2028'.repeat(12) + 'last',
    'wide characters': 'Bob: first ' + '\ufdfd'.repeat(1000) + ' last',
    'wide names': '\ufdfd'.repeat(64) + ': first last',
    'cuneiform': 'Bob: first' + '\u{1242b}'.repeat(500) + ' last',
    'tabs': 'Bob: first' + '\t'.repeat(1100) + 'last',
    'spaces': 'Bob: first' + ' '.repeat(4000) + 'last',
    'no-break spaces': 'Bob: first' + '\u00a0'.repeat(4000) + 'last',
    'combining marks': 'Bob: first ' + ('a' + '\u0301'.repeat(20)).repeat(200) + ' last',
    'Thai marks': 'Bob: first ก' + '\u0e49'.repeat(3000) + ' last',
    'emoji': 'Bob: first ' + '👩\u200d👩\u200d👧\u200d👦'.repeat(300) + ' last',
    'control characters': 'Bob: first ' + '\r\v\f\x85'.repeat(1000) + ' last',
    'letters': 'first' + 'x'.repeat(8000) + 'last',
    'words': 'first ' + 'word '.repeat(1500) + 'last',
    'links': 'first ' + 'https://example.org/a/b/c '.repeat(300) + ' last',
    'nothing that can be seen': 'Bob: first' + '\u200b'.repeat(4000) + 'last',
    'directions': 'Bob: first' + 'א b '.repeat(1000) + 'last',
  };
  const names = Object.keys(lines);
  ann.say(...Object.values(lines));
  for (const setSize of [() => page.resize(720, 480), () => page.phone(320, 568)]) {
    await setSize();
    await page.enterAgain();
    await page.until(n => see.entries().length === n, names.length);
    const heights = await page.eval(() => $('#lines .entry').get().map(e => e.offsetHeight));
    assert.deepEqual(heights.map((height, i) => names[i] + ' ' + height).filter((_, i) => heights[i] > 420), []);
    await page.until(() => $('#log')[0].scrollWidth === $('#log')[0].clientWidth);
  }
  await page.until(() => !/\p{Surrogate}/u.test($('#lines').text()));
  await page.until(() => $('.fold').get().every(e => e.textContent === 'Show more' && e.ariaExpanded === 'false'));
  await page.eval(() => { $('.fold').trigger('click'); });
  await page.until(() => $('.folded').length === 0 && $('.fold').get().every(e => e.textContent === 'Show less' &&
    e.ariaExpanded === 'true'));
  await page.until(() => $('#lines .text').get().every(e => /^first.*last$/s.test(e.textContent)));
  await page.until(() => $('#log')[0].scrollWidth === $('#log')[0].clientWidth);
  await page.eval(() => { $('.fold').trigger('click'); });
  await page.until(() => $('.fold').get().every(e => $(e).closest('.entry')[0].offsetHeight <= 420));
  await page.expectNoComplaints();
});

test('A text that is folded again has its beginning in view', everywhere, async stage => {
  const {ann, page} = await stage.open();
  ann.say(...numbered(0, 30), 'Bob: first' + '\u2028row'.repeat(200), ...numbered(30, 60));
  await page.until(() => see.entries().length === 61 && $('.folded').length === 1);
  await page.eval(() => { $('.fold')[0].scrollIntoView(); });
  await page.until(() => see.rect('.fold').top >= see.rect('#log').top);
  await page.click('.fold');
  await page.until(() => $('.folded').length === 0 &&
    see.rect('.fold').top > innerHeight); // what is in view has not moved
  await page.eval(() => { $('.fold')[0].scrollIntoView(); });
  await page.until(() => see.rect('.fold').top < innerHeight);
  await page.click('.fold');
  await page.until(() => (top => top >= -1 &&
    top < 20)($('.folded')[0].getBoundingClientRect().top - see.rect('#log').top));
});
