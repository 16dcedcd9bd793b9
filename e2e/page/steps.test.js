// The steps of what a person does, which are the same in all engines.

import {all, test} from './harness.js';

const everywhere = {engines: all};

test('Each of two windows shows what is said in the other, and which lines are its own', {engines: all, short: true}, async stage => {
  const {chat, page} = await stage.open();
  const other = await page.another();
  await page.say('Hello, is anyone there?', ''); // an empty message is none
  await page.untilShown('Hello, is anyone there?');
  await page.until(() => /^\d\d:\d\d$/.test($('#lines .own time').text()) && $('#msg').val() === '');
  await other.untilShown('Hello, is anyone there?');
  await other.until(() => $('.own').length === 0);
  await other.say('I am!');
  await page.untilShown('Hello, is anyone there?', 'I am!');
  await page.say('Ελληνικά come through too, and so does the bear: ʕ•ᴥ•ʔ');
  await other.untilShown('Hello, is anyone there?', 'I am!', 'Ελληνικά come through too, and so does the bear: ʕ•ᴥ•ʔ');
  await page.enterAgain();
  await page.until(() => $('.entry').get().map(e => e.classList.contains('own')).join() === 'true,false,true');
  await page.expectNoComplaints();
  await other.expectNoComplaints();
  await page.eval(() => {
    window.reasons = [];
    new MutationObserver(() => reasons.push($('#why').text())).observe($('#why')[0], {childList: true});
  });
  await chat.stop();
  await page.until(() => reasons.includes('The server is shutting down.') && see.visible('#offline'));
});

test('A newcomer is asked for a name before the first message, which then has it', everywhere, async stage => {
  const {ann, page} = await stage.open('#newcomer');
  await page.say('hello');
  await page.until(() => see.visible('#ask') && document.activeElement.id === 'name' && see.allSent());
  await page.say('Bob');
  await ann.expect('Bob: hello');
  await page.until(() => $('#ask').is(':hidden') && $('#who').text() === 'Bob' && document.activeElement.id === 'msg');
  await page.enterAgain();
  await page.until(() => $('#who').text() === 'Bob' && see.has('Bob hello'));
});

test('A person goes to another room, and back', everywhere, async stage => {
  const {chat, page} = await stage.open();
  await page.enter(chat.url + 'Lobby');
  await page.until(() => location.pathname === '/lobby/' && $('h1').text() === 'lobby');
  await page.focus('#msg');
  await page.say('hello, lobby');
  await page.untilShown('hello, lobby');
  await page.click('#menu summary');
  await page.focus('#other');
  await page.say('kitchen');
  await page.until(() => location.pathname === '/kitchen/' && see.live() && see.entries().length === 0);
  await page.enter(chat.url + 'lobby/');
  await page.untilShown('hello, lobby');
});

test('After a cut, and after a silence of the line, nothing is lost and nothing is said twice', everywhere, async stage => {
  const {ann, page, network} = await stage.open();
  await page.say('first');
  await page.untilShown('first');
  await ann.expect('first');
  network.hangUp();
  await page.untilLive();
  network.cut();
  await page.say('into the void');
  await page.until(() => see.unsent().join() === 'into the void');
  ann.say('from elsewhere');
  await ann.expect('from elsewhere');
  network.heal();
  await page.untilShown('first', 'from elsewhere', 'into the void');
  ann.say('the end');
  await ann.expect('into the void', 'the end');
});

test('Unsent messages and the draft outlive a reload', everywhere, async stage => {
  const {page, network} = await stage.open();
  network.cut();
  await page.say('unsent');
  await page.type('a draft');
  await page.until(() => see.unsent().join() === 'unsent' && $('#msg').val() === 'a draft');
  network.heal();
  await page.enterAgain();
  await page.untilShown('unsent');
  await page.until(() => $('#msg').val() === 'a draft');
});

test('The log stays at its end, and where a person has scrolled it', everywhere, async stage => {
  const {ann, page} = await stage.open();
  ann.say(...Array.from({length: 100}, (_, n) => 'line ' + n));
  await page.until(() => see.entries().length === 100 && see.atEnd());
  await page.press('PageUp');
  await page.until(() => !see.atEnd());
  const top = await page.eval(() => $('#log')[0].scrollTop);
  ann.say('new');
  await page.until(top => see.visible('#below') && $('#log')[0].scrollTop === top, top);
  await page.click('#below');
  await page.until(() => see.atEnd() && $('#below').is(':hidden'));
});

test('What came while the person looked elsewhere is new, and is counted', everywhere, async stage => {
  const {ann, page} = await stage.open();
  ann.say('seen');
  await page.untilShown('seen');
  await page.look(false);
  ann.say('not seen', 'nor this');
  await page.until(() => see.texts() === 'seen,new,not seen,nor this' && document.title === '(2) Chat');
  await page.look(true);
  await page.until(() => document.title === 'Chat');
  await page.press('Escape');
  await page.until(() => see.texts() === 'seen,not seen,nor this');
});

test('A mention is notified once the person has chosen so', everywhere, async stage => {
  const {ann, page, network} = await stage.open();
  network.preload(() => {
    window.shown = [];
    window.Notification = class {
      static permission = 'default';
      static requestPermission = async () => Notification.permission = 'granted';
      constructor(title, {body}) { shown.push(title + '|' + body); }
      close() {}
      addEventListener() {}
    };
  });
  await page.enter();
  await page.rename('Ann');
  await page.click('#bell summary');
  await page.click('#bell [value=mentions]');
  await page.until(() => Notification.permission === 'granted');
  await page.look(false);
  ann.say('Bob: hello', 'Bob: hello, Ann');
  await page.until(() => see.entries().length === 2 && shown.join() === 'Bob – Chat|hello, Ann');
});

test('A copy of several lines has names and times, and can be pasted', everywhere, async stage => {
  const {ann, page} = await stage.open();
  ann.say('Bob: one', 'Bob: two');
  await page.until(() => see.entries().length === 2);
  await page.focus('#log');
  await page.eval(() => { getSelection().selectAllChildren($('#lines')[0]); });
  await page.press('c', 'Control');
  await page.focus('#msg');
  await page.press('v', 'Control');
  await page.until(() => /^\d\d:\d\d Bob: one\n\d\d:\d\d Bob: two$/.test($('#msg').val()));
});

test('While an input method composes a word, Enter belongs to it', everywhere, async stage => {
  const {page} = await stage.open();
  await page.insert('か');
  const press = options => page.eval(options => {
    $('#msg')[0].dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, cancelable: true, ...options}));
  }, options);
  await press({isComposing: true});
  await press({keyCode: 229});
  await page.until(() => $('#msg').val() === 'か' && $('#outbox *, #lines *').length === 0);
  await press({keyCode: 13});
  await page.untilShown('か');
});

test('Addresses become links, and nothing else', everywhere, async stage => {
  const {ann, page} = await stage.open();
  ann.say('see https://example.org/a?b=c#d, http://example.com. javascript:alert(1)', '<b>bold</b><img src=x onerror=alert(1)>');
  await page.until(() => see.entries().length === 2);
  await page.until(() => $('#lines a').get().map(a => a.href).join() === 'https://example.org/a?b=c#d,http://example.com/');
  await page.until(() => $('#lines b, #lines img').length === 0 && see.entries()[1].startsWith('<b>'));
});

test('Sentences from right to left are in order and begin at the right, in lines and in the input', everywhere, async stage => {
  const {ann, page} = await stage.open();
  ann.say('Bob: שלום, world!', 'Bob: hello, עולם!');
  await page.until(() => see.entries().length === 2);
  await page.until(() => {
    const [[a, b], [c, d]] = $('#lines .text').get().map(({firstChild}) => [0, firstChild.length - 1].map(i => {
      const range = document.createRange();
      range.setStart(firstChild, i);
      range.setEnd(firstChild, i + 1);
      return range.getBoundingClientRect().left;
    }));
    return b < a && d > c;
  });
  await page.insert('שלום, world!');
  await page.until(() => getComputedStyle($('#msg')[0]).direction === 'rtl');
});

test('No line is wider than the page', everywhere, async stage => {
  const {ann, page} = await stage.open();
  await page.resize(460, 480);
  ann.say('x'.repeat(4000), 'after all');
  await page.until(() => see.entries().length === 2 && $('#log')[0].scrollWidth === $('#log')[0].clientWidth);
  await page.until(() => document.documentElement.scrollWidth === innerWidth);
});
