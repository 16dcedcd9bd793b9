// What a person reads beside the texts: times, names, people, and which lines are new.

import assert from 'node:assert/strict';
import {all, test} from './harness.js';

const everywhere = {engines: all};
const minute = 60 * 1000;
const numbered = (from, to) => Array.from({length: to - from}, (_, i) => 'line ' + (from + i));

// event returns an event of 12 people with the server's time and the times of the next lines, in milliseconds.
const event = (now, ...times) => Buffer.from(JSON.stringify({people: 12, now, taken: 0, said: times.map(at => [1, at])}));

// scripted opens the page of a chat whose WebSocket sends messages, strings as text. It returns the WebSocket, too. What
// the page does each second it does only when a test calls the functions in its array seconds.
async function scripted(stage, ...messages) {
  const [chat, page] = await Promise.all([stage.start(), stage.person()]);
  const connected = new Promise(resolve => {
    chat.network.serve = function (socket) {
      messages.forEach(message => socket.send(message));
      resolve(socket);
    };
  });
  chat.network.preload(() => {
    const every = window.setInterval;
    window.seconds = [];
    window.setInterval = (f, ms, ...args) => ms === 1000 ? seconds.push(f) : every(f, ms, ...args);
  });
  await page.enter(chat.url);
  return {page, socket: await connected};
}

test('A line shows when it was said by the server’s clock, its title has the full date, and a rule divides days', {}, async stage => {
  const past = Date.UTC(2001, 1, 3, 4, 5, 6), now = Date.now() + 60 * minute;
  const {page} = await scripted(stage,
    'EPOCH 5 8',
    event(now, past, past, past + 24 * 60 * minute),
    Buffer.from('{"future":{"x":[1,null]}}'), // the page ignores events that it does not know
    'one\ntwo',
    Buffer.from('{"weather":"fine","people":13}'),
    'three\nfour',
    Buffer.from('{}'),
    'five',
  );
  await page.untilShown('one', 'two', 'three', 'four', 'five');
  await page.until(() => $('#people').text() === '13 people');
  await page.until(now => {
    const times = $('#lines time').get().map(time => time.dateTime);
    return times.slice(0, 3).join() === '2001-02-03T04:05:06.000Z,2001-02-03T04:05:06.000Z,2001-02-04T04:05:06.000Z' &&
      times.slice(3).every(time => Math.abs(new Date(time) - now) < 60000);
  }, now);
  await page.eval(() => { $('#lines time')[0].dispatchEvent(new MouseEvent('mouseenter')); });
  await page.until(() => /February 3, 2001.*:05:06/.test($('#lines time')[0].title));
  await page.until(() => /^[^|]*February 3, 2001\|entry\|entry\|[^|]*February 4, 2001\|entry\|[^|]*20\d\d\|entry\|entry$/
    .test($('#lines > *').get().map(e => e.classList[0] === 'day' ? e.textContent : e.classList[0]).join('|')));
  await page.expectNoComplaints();
});

test('A rule divides the days of the time zone that the device is in when the lines come', {}, async stage => {
  const at = Date.UTC(2001, 1, 3, 12);
  const {page, socket} = await scripted(stage, 'EPOCH 0 1', event(at, at), 'one');
  const days = () => page.eval(() => $('#lines > *').get().map(e => /February \d/.exec(e.textContent)?.[0] ?? e.textContent).join('|'));
  await page.until(() => see.entries().length === 1);
  assert.equal(await days(), 'February 3|12:00one');
  await page.devtools('Emulation.setTimezoneOverride', {timezoneId: 'Pacific/Kiritimati'}); // 14 hours ahead
  socket.send(event(at, at));
  socket.send('two');
  await page.until(() => see.entries().length === 2);
  assert.equal(await days(), 'February 3|12:00one|February 4|02:00two');
  await page.expectNoComplaints();
});

test('Lines of one speaker within five minutes share a visible name and time, and copies and screen readers get both for each', {}, async stage => {
  const at = minutes => Date.UTC(2001, 1, 3, 12) + minutes * minute;
  const {page, socket} = await scripted(stage,
    'EPOCH 0 9',
    event(Date.now(), at(0), at(1), at(4), at(5), at(6), at(7), at(8), at(9), at(24 * 60)),
    'Bob: one\nBob: two\nBob: three\nBob: four\nAnn: five\nBob: six\nseven\neight\nBob: nine',
  );
  await page.until(() => see.entries().length === 9);
  await page.eval(() => {
    window.heads = () => $('#lines .entry').get().map(e => {
      const time = e.querySelector('time'), speaker = e.querySelector('.speaker');
      return (getComputedStyle(time).opacity === '1' ? time.textContent : '') + ' ' +
        (speaker?.getBoundingClientRect().width > 10 ? e.querySelector('.name').textContent : '');
    });
  });
  await page.until(() => heads().join('|') === '12:00 Bob| | |12:05 Bob|12:06 Ann|12:07 Bob|12:08 |12:09 |12:00 Bob');
  socket.send('Bob: now');
  await page.until(() => /^\d\d:\d\d Bob$/.test(heads()[9]));
  socket.send('Bob: and now');
  await page.until(() => heads()[10] === ' ');

  const copy = (from, to) => page.eval((from, to) => {
    const range = document.createRange();
    range.setStartBefore($('#lines .entry')[from]);
    range.setEndAfter($('#lines .entry')[to]);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    const event = new ClipboardEvent('copy', {clipboardData: new DataTransfer(), bubbles: true, cancelable: true});
    $('#log')[0].dispatchEvent(event);
    return event.defaultPrevented && event.clipboardData.getData('text/plain');
  }, from, to);
  assert.equal(await copy(0, 4), '12:00 Bob: one\n12:01 Bob: two\n12:04 Bob: three\n12:05 Bob: four\n12:06 Ann: five');
  assert.equal(await copy(1, 1), '12:01 Bob: two');
  assert.equal(await page.eval(() => { // a triple click selects up to the beginning of the next entry
    const [first, second] = $('#lines .entry'), range = document.createRange();
    range.setStart(first.querySelector('.text'), 0);
    range.setEnd(second, 0);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    const event = new ClipboardEvent('copy', {clipboardData: new DataTransfer(), bubbles: true, cancelable: true});
    $('#log')[0].dispatchEvent(event);
    return event.defaultPrevented;
  }), false, 'got a text of the page’s for one line, which the browser copies as it is');

  const {nodes} = await page.devtools('Accessibility.getFullAXTree', {});
  const heard = nodes.filter(({role, ignored}) => role?.value === 'StaticText' && !ignored).map(({name}) => String(name.value).trim());
  assert.equal(heard.filter(text => text === '12:01').length, 1);
  assert.equal(heard.filter(text => text === 'Bob').length, 8);
  await page.expectNoComplaints();
});

test('Wherever one person fills the window, a name and a time are in view', {}, async stage => {
  const {ann, page} = await stage.open();
  const texts = [40, 1, 50, 3, 100, 7, 55].flatMap(length => Array(12).fill('Bob: ' + 'word '.repeat(length / 5) + 'end'))
    .concat(Array(6).fill('Bob: 1\u20282\u20283\u20284'), Array(30).fill('Bob: ok'));
  ann.say(...texts);
  await page.until(n => see.entries().length === n, texts.length);
  for (const [width, height] of [[1280, 800], [720, 480], [390, 664], [320, 568]]) {
    await page.resize(width, height);
    const without = await page.eval(() => {
      const log = $('#log')[0], tops = [];
      const isIn = function (e) {
        const [inner, outer] = [e, log].map(e => e.getBoundingClientRect());
        return inner.top >= outer.top && inner.bottom <= outer.bottom;
      };
      for (let top = 0; top <= log.scrollHeight - log.clientHeight; top += 10) {
        log.scrollTop = top;
        const heads = $('#lines .entry:not(.continued)').get();
        if (!heads.some(e => isIn(e.querySelector('.name')) && isIn(e.querySelector('time')))) {
          tops.push(top);
        }
      }
      return tops;
    });
    assert.deepEqual(without, [], `got a view without a name at ${width}×${height}`);
  }
});

test('The page shows how many people there are, and who spoke within the last hour, with the last time', {}, async stage => {
  const now = Date.now();
  const {page, socket} = await scripted(stage,
    'EPOCH 0 5',
    event(now, now - 61 * minute, now - 59 * minute, now, now, now),
    'Old: hello\nBob: hello\nAnn: hello\nnobody\nBob: and again',
  );
  await page.until(() => see.entries().length === 5);
  await page.eval(() => { $('#people').trigger('click'); });
  await page.until(() => $('#people').text() === '12 people' &&
    $('#speakers li bdi').get().map(e => e.textContent).join() === 'Bob,Ann');
  await page.until(() => $('#speakers li small').first().text() === $('#lines time').last().text());
  await page.picture('presence.png');
  assert.ok(await page.eval(() => { // a second passes, and the list is the same
    const [first] = $('#speakers li');
    getSelection().selectAllChildren(first);
    seconds.forEach(f => f());
    return first.isConnected && getSelection().toString().includes('Bob');
  }), 'got a list that was replaced, although it is the same');
  await page.eval(() => { getSelection().removeAllRanges(); });
  socket.send('Eve: hello');
  await page.until(() => (seconds.forEach(f => f()), $('#speakers li bdi').get().map(e => e.textContent).join() === 'Eve,Bob,Ann'));
  await page.phone();
  await page.until(() => (({left, right}) => left >= 0 && right <= 320)(see.rect('#presence > div')));
});

// ---- What is new. inView reports in the page whether the rule before new lines is in view.

const withInView = page => page.eval(() => {
  window.inView = () => (([rule, log]) => rule.top > log.top - 1 && rule.bottom < log.bottom)([see.rect('#new'), see.rect('#log')]);
});

test('Lines that come while the person looks elsewhere are counted, and stand below a rule that is in view when the person is back', {short: true}, async stage => {
  const {ann, page, network} = await stage.open();
  const isExplained = () => see.visible('#empty') &&
    /Nobody has said anything here yet\..*the last 256 messages/.test($('#empty').text());
  await withInView(page);
  await page.until(isExplained);
  await page.picture('empty.png');
  await page.look(false);
  await page.look(true);
  await page.until(isExplained);
  ann.say('seen');
  await page.until(() => see.texts() === 'seen' && document.title === 'Chat' && $('#empty').is(':hidden'));

  await page.look(false);
  ann.say('not seen', 'nor this');
  await page.until(() => see.texts() === 'seen,new,not seen,nor this' && document.title === '(2) Chat' &&
    $('#icon').attr('href') === 'assets/icon-unread.svg');
  await page.look(true);
  await page.until(() => document.title === 'Chat' && $('#icon').attr('href') === 'assets/icon.svg');
  ann.say('seen, too');
  await page.until(() => see.texts() === 'seen,new,not seen,nor this,seen, too');
  await page.picture('new.png');
  await page.eval(() => { $('#bell').prop('open', true).find('summary').trigger('focus'); });
  await page.press('Escape'); // closes the menu alone
  await page.until(() => !$('#bell').prop('open'));
  ann.say('and this');
  await page.until(() => see.texts() === 'seen,new,not seen,nor this,seen, too,and this');
  await page.press('Escape');
  await page.until(() => see.texts() === 'seen,not seen,nor this,seen, too,and this');

  await page.show(false); // a hidden tab is the same
  ann.say(...numbered(0, 100));
  await page.until(() => document.title === '(100) Chat' && $('#new').next().find('.text').text() === 'line 0');
  await page.show(true);
  await page.until(() => document.title === 'Chat' && inView());
  await page.until(() => see.visible('#below') && $('#below').text() === '↓ 100 new messages');

  await page.click('#below');
  network.hangUp(); // a new connection moves nothing
  ann.say('still at the end');
  await page.until(() => see.live() && $('#lines .text').last().text() === 'still at the end' && see.atEnd());

  await page.look(false);
  await page.say('my own'); // is not new
  await page.until(() => $('#lines .own').length === 1 && document.title === 'Chat');
  await page.expectNoComplaints();
});

test('Nothing is new to a person who opens a room for the first time', {}, async stage => {
  const [chat, page] = await Promise.all([stage.start(), stage.person()]);
  const ann = await chat.join();
  ann.say(...numbered(0, 5));
  await ann.expect(...numbered(0, 5));
  await page.enter(chat.url);
  await page.until(() => see.texts() === 'line 0,line 1,line 2,line 3,line 4');
});

test('Lines that were said while the connection was lost, or the page was not loaded, are new', {}, async stage => {
  const {ann, page, network} = await stage.open();
  ann.say('seen');
  await page.untilShown('seen');
  await page.look(false);
  network.cut(); // as a phone does with a page that is not in view
  ann.say('not seen');
  await ann.expect('seen', 'not seen');
  await page.look(true);
  network.heal();
  await page.until(() => see.live() && see.entries().length === 2);
  ann.say('seen, too');
  await page.until(() => see.texts() === 'seen,new,not seen,seen, too');

  await page.goto('about:blank');
  ann.say(...numbered(0, 50));
  await ann.expect('seen, too', ...numbered(0, 50));
  await page.enter();
  await withInView(page);
  await page.until(() => see.entries().length === 53 && $('#new').prev().find('.text').text() === 'seen, too' &&
    document.title === 'Chat' && inView());
  await page.enter();
  await page.until(() => see.entries().length === 53 && $('#new').length === 0);
});

test('Lines that came during a cut are new to a person who was there, and the first is in view', everywhere, async stage => {
  const {ann, page, network} = await stage.open();
  await withInView(page);
  ann.say(...numbered(0, 30));
  await page.until(() => see.entries().length === 30 && see.atEnd());
  network.cut();
  ann.say(...numbered(30, 80));
  await ann.expect(...numbered(0, 80));
  network.heal();
  await page.until(() => see.entries().length === 80 && $('#new').next().find('.text').text() === 'line 30' &&
    inView());
  await page.until(() => $('#below').text() === '↓ 50 new messages' && see.visible('#below') &&
    document.title === 'Chat');
  await page.click('#below');
  ann.say('seen');
  await page.until(() => see.entries().length === 81 && see.atEnd() &&
    $('#new').next().find('.text').text() === 'line 30');
});

test('A cut does not move a person who reads further up', {}, async stage => {
  const {ann, page, network} = await stage.open();
  ann.say(...numbered(0, 100));
  await page.until(() => see.entries().length === 100 && see.atEnd());
  await page.eval(() => { $('#log')[0].scrollTop = 200; });
  network.cut();
  ann.say(...numbered(100, 150));
  await ann.expect(...numbered(0, 150));
  network.heal();
  await page.until(() => $('#new').next().find('.text').text() === 'line 100' &&
    $('#below').text() === '↓ 50 new messages');
  await page.until(() => $('#log')[0].scrollTop === 200);
});

test('Lines that come below a person who reads further up are new, and nothing moves', everywhere, async stage => {
  const {ann, page} = await stage.open();
  ann.say(...numbered(0, 100));
  await page.until(() => see.entries().length === 100 && see.atEnd());
  await page.eval(() => { $('#log')[0].scrollTop = 200; });
  await page.until(() => !see.atEnd());
  ann.say(...numbered(100, 150));
  await page.until(() => see.entries().length === 150 && $('#new').next().find('.text').text() === 'line 100' &&
    $('#below').text() === '↓ 50 new messages' && $('#log')[0].scrollTop === 200);
  ann.say('and one');
  await page.until(() => $('#below').text() === '↓ 51 new messages' && $('#new').next().find('.text').text() === 'line 100');
  await page.click('#below');
  ann.say('seen');
  await page.until(() => see.entries().length === 152 && see.atEnd() && document.title === 'Chat' &&
    $('#new').next().find('.text').text() === 'line 100');
});

test('What came in a window with the focus while nobody touched it for minutes is new', {}, async stage => {
  const {ann, page, network} = await stage.open();
  network.preload(() => {
    window.skew = 0;
    const now = performance.now.bind(performance);
    performance.now = () => now() + skew;
  });
  await page.enter();
  await withInView(page);
  ann.say('seen');
  await page.untilShown('seen');
  await page.eval(() => { window.skew = 4 * 60 * 1000; });
  ann.say(...numbered(0, 50));
  await page.until(() => document.title === '(50) Chat' && $('#new').next().find('.text').text() === 'line 0');
  await page.press('Shift');
  await page.until(() => document.title === 'Chat' && inView());
});

test('What the person reads in one tab of a room is read in all', everywhere, async stage => {
  const {ann, page} = await stage.open();
  const other = await page.another();
  ann.say('seen');
  for (const tab of [page, other]) {
    await tab.untilShown('seen');
    await tab.look(false);
  }
  ann.say('one', 'two');
  for (const tab of [page, other]) {
    await tab.until(() => document.title === '(2) Chat' && see.texts() === 'seen,new,one,two');
  }
  await page.look(true);
  await other.until(() => document.title === 'Chat' && see.texts() === 'seen,one,two');
  ann.say('three');
  await page.until(() => see.texts() === 'seen,new,one,two,three');
  await other.until(() => document.title === 'Chat' && see.texts() === 'seen,one,two,three');
  await other.enterAgain();
  await other.untilShown('seen', 'one', 'two', 'three');
  await other.until(() => $('#new').length === 0);
});

test('Two tabs of a room announce a line once, and none that is read in one of them', {}, async stage => {
  const {ann, page, network} = await stage.open();
  network.preload(() => {
    localStorage['chat:notify'] = '"everything"';
    window.shown = [];
    window.Notification = class {
      static permission = 'granted';
      constructor(title, {body}) { shown.push(body); }
      close() {}
    };
    Math.random = () => 0; // the first tab is the quicker one
  });
  await page.enter();
  network.preload(() => { Math.random = () => 0.999; });
  const other = await page.another();
  await other.look(false);
  ann.say('read');
  await page.untilShown('read');
  await page.look(false);
  ann.say('announced by the first');
  await page.until(() => shown.join() === 'announced by the first');
  await page.close();
  ann.say('announced by the second');
  await other.until(() => shown.join() === 'announced by the second');
});
