// Lines that are dead without a word, reasons for an outage, tabs that are closed meanwhile, and wrong clocks.

import assert from 'node:assert/strict';
import {test} from './harness.js';

// withClock has pages run ahead of the time: the function pass(seconds, done) lets seconds pass at once, or only as many
// as done needs to return true, and returns how many. received is the number of messages on the last WebSocket.
function withClock() {
  const now = performance.now.bind(performance), wall = Date.now, every = window.setInterval, ticks = [];
  let ahead = 0, slept = 0;
  performance.now = () => now() + ahead;
  Date.now = () => wall() + ahead + slept;
  window.setInterval = (f, ms, ...args) => ms === 1000 ? ticks.push(f) : every(f, ms, ...args);
  window.pass = function (seconds, done = () => false) {
    for (let passed = 1; passed <= seconds; passed++) {
      ahead += 1000;
      ticks.forEach(f => f());
      if (done()) {
        return passed;
      }
    }
    return Infinity;
  };
  window.sleep = function (seconds) {
    slept += 1000 * seconds;
    ticks.forEach(f => f());
  };
  window.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      window.received = 0;
      this.addEventListener('message', () => { received++; });
    }
  };
  Object.defineProperty(navigator, 'connection', {value: new EventTarget()});
}

// idle opens a chat whose page runs ahead of the time, and waits until nothing is on its way.
async function idle(stage) {
  const {network, page, ...rest} = await stage.open();
  network.preload(withClock);
  await page.enter();
  await untilGreeted(page);
  return {network, page, ...rest};
}

const untilGreeted = page => page.until(() => see.live() && received >= 2);

// knownAfter returns how many seconds must pass until the page knows that it is offline.
const knownAfter = page => page.eval(() => pass(100, () => !see.live()));

for (const ways of [['down'], ['up'], ['down', 'up']]) {
  test(`An idle page knows within 45 s that its line passes nothing (${ways.join(' and ')})`, {short: ways.length === 2}, async stage => {
    const {network, page} = await idle(stage);
    ways.forEach(way => { network[way] = false; });
    const seconds = await knownAfter(page);
    assert.ok(seconds <= 45, `got ${seconds} s, want at most 45`);
    await page.until(() => $('#word').text() !== 'live');
    network.heal();
    await page.untilLive();
  });
}

test('A healthy line stays, however long nobody says anything', {}, async stage => {
  const {network, page} = await idle(stage);
  const {upgrades} = network;
  for (let minute = 0; minute < 3; minute++) {
    const before = await page.eval(() => {
      const before = received;
      pass(37);
      return before;
    });
    await page.until(before => received > before && see.live(), before); // the page has asked, and got an answer
  }
  assert.equal(network.upgrades, upgrades);
});

test('A page that is looked at, or whose network changes, knows within 5 s that its line passes nothing', {}, async stage => {
  const acts = {
    'the tab comes into view': () => { document.dispatchEvent(new Event('visibilitychange')); },
    'the window gets the focus': () => { window.dispatchEvent(new Event('focus')); },
    'the browser thaws the page': () => { document.dispatchEvent(new Event('resume')); },
    'the system says that there is a network': () => { window.dispatchEvent(new Event('online')); },
    'the system says that there is none': () => { window.dispatchEvent(new Event('offline')); },
    'the network is another one': () => { navigator.connection.dispatchEvent(new Event('change')); },
    'the device wakes up': () => { sleep(600); },
    'the person presses a key': () => { document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'x', bubbles: true})); },
    'the person clicks': () => { document.body.dispatchEvent(new PointerEvent('pointerdown', {bubbles: true})); },
    'the person scrolls': () => { $('#log')[0].dispatchEvent(new WheelEvent('wheel', {bubbles: true})); },
  };
  const {network, page} = await idle(stage);
  for (const [what, act] of Object.entries(acts)) {
    network.cut();
    await page.eval(() => { pass(6); });
    await page.eval(act);
    const seconds = await knownAfter(page);
    assert.ok(seconds <= 5, `got ${seconds} s when ${what}, want at most 5`);
    network.heal();
    await untilGreeted(page);
  }
});

test('A page whose message, or whose handshake, gets no answer knows that within some 10 s', {}, async stage => {
  const {network, page} = await idle(stage);
  network.cut();
  await page.eval(() => {
    $('#msg').val('into the void').trigger('input');
    $('#form')[0].requestSubmit();
  });
  const seconds = await knownAfter(page);
  assert.ok(seconds <= 11, `got ${seconds} s for a message, want at most 11`);
  await page.until(() => $('#word').text() === 'connecting'); // the next attempt, which gets no answer
  const more = await page.eval(() => pass(100, () => $('#word').text() === 'offline'));
  assert.ok(more <= 11, `got ${more} s for a handshake, want at most 11`);
  network.heal();
  await page.untilShown('into the void');
});

// ---- Reasons.

// Each reason is [what is wrong, a function that has the network do so, what the page says, the help that it offers]. The
// network refuses whatever goes to the WebSocket's address, unless its function does something else.
const refusing = answer => network => { network.answer = path => path === '/ws' ? answer : undefined; };
const login = 'Something before the chat wants you to log in, perhaps again.';
const reasons = [
  ['a proxy redirects to its login page', refusing({status: 302, headers: {location: 'https://login.example/'}}), login, 'Log in again'],
  ['a proxy redirects to a login page on the same host', refusing({status: 307, headers: {location: '/login'}}), login, 'Log in again'],
  ['a proxy shows its login page', refusing({status: 200, headers: {'content-type': 'text/html'}, body: '<form></form>'}), login, 'Log in again'],
  ['a proxy asks for a password', refusing({status: 401}), login, 'Log in again'],
  ['a portal of a hotel asks for a login', refusing({status: 511}), login, 'Log in again'],
  ['a proxy refuses access', refusing({status: 403, body: 'Forbidden'}), 'Something before the chat refuses access.', 'Log in again'],
  ['a proxy rewrites Host', network => { network.host = 'internal:8080'; }, 'The server refuses pages from http://127.0.0.1', ''],
  ['no WebSocket passes', network => {
    let seen = network.upgrades;
    network.answer = () => network.upgrades > seen && (seen = network.upgrades) ? {status: 400} : undefined;
  }, 'The server answers, but no WebSocket reaches it.', 'Reload'],
  ['the chat has moved', refusing({status: 404}), 'The chat is not at this address now.', 'Reload'],
  ['there were too many requests', refusing({status: 429, headers: {'retry-after': '2'}}), 'There were too many requests from here.', ''],
  ['the proxy does not reach the chat', refusing({status: 502}), 'The proxy before the chat can’t reach it (502).', ''],
  ['the proxy waits for the chat in vain', refusing({status: 504}), 'The proxy before the chat can’t reach it (504).', ''],
  ['the server fails', refusing({status: 500}), 'The server answers with an error (500).', 'Reload'],
  ['nothing answers', network => { network.answer = undefined; network.port = 1; }, 'The server can’t be reached.', ''],
];

test('The page says why it is offline, and offers what helps', {}, async stage => {
  const {chat, page, network} = await stage.open();
  network.preload(() => { // attempts come sooner
    const later = window.setTimeout;
    window.setTimeout = (f, ms, ...args) => later(f, ms < 3000 ? ms / 10 : ms, ...args);
  });
  await page.enter();
  const whenLive = await page.eval(() => $('#why').text());
  for (const [what, happen, why, help] of reasons) {
    happen(network);
    network.heal();
    await page.until((why, help) => $('#why').text().startsWith(why) && see.visible('#why') &&
        ($('#help:visible').text()) === help, why, help)
      .catch(error => { throw new Error(`when ${what}: ${error.message}`); });
    assert.equal(await page.eval(() => $('#word').text() === 'live'), false, what);
    Object.assign(network, {answer: undefined, host: undefined, port: chat.port});
    await page.until(why => see.live() && $('#offline').is(':hidden') && $('#why').text() === why, whenLive);
    await page.enter(); // otherwise the pauses grow with each connection that was short
  }
});

test('"Log in again" loads the page, and what is unsent is sent afterwards', {}, async stage => {
  const {page, network} = await stage.open();
  network.answer = () => ({status: 302, headers: {location: '/login'}});
  network.heal();
  await page.until(() => $('#help:visible').text() === 'Log in again');
  await page.say('one');
  network.answer = path => path === '/' ? {status: 200, headers: {'content-type': 'text/html'}, body: '<h1>Who are you?</h1>'} : {status: 401};
  await page.click('#help');
  await page.until(() => document.querySelector('h1').textContent === 'Who are you?');
  network.answer = undefined;
  await page.enter();
  await page.untilShown('one');
});

test('A page that the chat has no place for shows the past, and nothing twice once it gets in', {}, async stage => {
  const [chat, page] = await Promise.all([stage.start('-max-conns', '1'), stage.person()]);
  const ann = await chat.join();
  ann.say('Ann: one', 'Ann: two');
  await ann.expect('Ann: one', 'Ann: two');
  await page.goto(chat.url);
  await page.until(() => $('#word').text() === 'chat is full' && see.has('Ann one', 'Ann two') &&
      see.visible('#offline'));
  await page.until(() => /^\d\d:\d\d$/.test($('#lines time').first().text()));
  await page.say('let me in');
  ann.say('Ann: three');
  await ann.expect('Ann: three');
  ann.leave();
  await page.untilLive();
  await page.untilShown('Ann one', 'Ann two', 'Ann three', 'let me in');
  await page.until(() => see.notices().length === 0);
});

test('The notice of an outage of days names the days', {}, async stage => {
  const {network, page} = await idle(stage);
  network.cut();
  await knownAfter(page);
  await page.eval(seconds => pass(seconds), 3 * 24 * 60 * 60);
  network.heal();
  await page.untilLive();
  await page.until(() => {
    const [, from, to] = /^Offline (\w+ \d+, \d+), .* to (\w+ \d+, \d+), .*\.$/.exec($('#lines .notice').last().text()) ?? [];
    return Date.parse(to) - Date.parse(from) === 3 * 24 * 60 * 60 * 1000;
  });
});

// ---- Tabs that are closed with something unsent.

// asked notes in an array which questions the browser asks before the page is left, and answers them with yes.
function asked(page) {
  const questions = [];
  page.page.on('dialog', dialog => questions.push(dialog.type()));
  return questions;
}

test('What a closed tab has not sent, another tab of the room sends once', {}, async stage => {
  const {ann, page, network} = await stage.open();
  const other = await page.another();
  network.cut();
  await page.say('one', 'two');
  await page.until(() => see.unsent().join() === 'one,two');
  const questions = asked(page);
  await page.page.close({runBeforeUnload: true});
  await other.until(() => see.unsent().join() === 'one,two');
  assert.deepEqual(questions, ['beforeunload']);
  await other.say('three');
  network.heal();
  await other.untilShown('one', 'two', 'three');
  await other.until(() => $('.own').length === 3);
  ann.say('the end');
  await ann.expect('one', 'two', 'three', 'the end');
});

test('What the last tab has not sent, the next tab of the room sends, with the draft', {}, async stage => {
  const {chat, ann, page, network} = await stage.open('lobby/');
  const here = await chat.join('/lobby/ws');
  const elsewhere = await page.another();
  await elsewhere.enter(chat.url);
  network.cut();
  await page.say('one', 'two');
  await page.type('a draft');
  await page.until(() => see.unsent().join() === 'one,two');
  await page.page.close({runBeforeUnload: true});
  network.heal();
  await elsewhere.untilLive();
  await elsewhere.until(() => see.allSent() && $('#msg').val() === ''); // it is in another room
  await elsewhere.enter(chat.url + 'lobby/');
  await elsewhere.untilShown('one', 'two');
  await elsewhere.until(() => $('#msg').val() === 'a draft');
  await elsewhere.focus('#msg');
  await elsewhere.press('Enter');
  await here.expect('one', 'two', 'a draft');
  ann.say('the end');
  await ann.expect('the end');
});

// The next tab can't know that the other one has ended, so it waits until that has said nothing for minutes.
test('What a tab had not sent when the browser crashed is sent some minutes later', {}, async stage => {
  const {ann, page, network} = await stage.open();
  network.cut();
  await page.say('lost?');
  await page.until(() => see.unsent().length === 1);
  const [key, value] = await page.eval(() => Object.entries(localStorage).find(([key]) => key.startsWith('/:outbox:')));
  network.preload(function (key, value) {
    localStorage[key] = value; // whatever the tab could still do
    const {now} = Date, every = window.setInterval;
    window.minutes = 0;
    Date.now = () => now() + minutes * 60000;
    window.setInterval = (f, ms, ...args) => every(f, ms === 10000 ? 100 : ms, ...args);
  }, key, value);
  const other = stage.keep(await page.newTab());
  await page.close();
  network.heal();
  await other.enter(page.url);
  await other.say('mine');
  await other.untilShown('mine');
  await other.eval(() => { minutes = 3; });
  await other.untilShown('mine', 'lost?');
  await ann.expect('mine', 'lost?');
});

test('Leaving the page asks while something is unsent, and while the device can’t keep the draft', {}, async stage => {
  const {page} = await stage.open();
  const questions = asked(page);
  await page.say('sent');
  await page.untilShown('sent');
  await page.type('a draft, which the device keeps');
  await page.enterAgain();
  assert.deepEqual(questions, []);
  await page.eval(() => { WebSocket.prototype.send = () => {}; });
  await page.focus('#msg');
  await page.press('Enter');
  await page.until(() => see.unsent().length === 1);
  await page.enterAgain();
  assert.deepEqual(questions.splice(0), ['beforeunload']);
  await page.untilShown('sent', 'a draft, which the device keeps');
  await page.eval(() => { Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }; });
  await page.focus('#msg');
  await page.type('a draft, which nothing keeps');
  await page.enterAgain();
  assert.deepEqual(questions, ['beforeunload']);
});

// ---- Clocks, versions, lines of raw clients.

test('A clock of the device that is wrong, or is set while the page is open, changes no time that the page shows', {}, async stage => {
  const {ann, page, network} = await stage.open();
  network.preload(() => {
    const {now} = Date;
    window.hours = 5;
    Date.now = () => now() + hours * 3600e3;
    window.Date = class extends Date {
      constructor(...args) {
        args.length ? super(...args) : super(Date.now());
      }
    };
  });
  const isRight = () => $('#lines time').get().every(time => Math.abs(new Date(time.dateTime) - (Date.now() - hours * 3600e3)) < 60000);
  await page.enter();
  ann.say('Ann: one');
  await page.until(() => see.entries().length === 1);
  for (const hours of [1, -24, 0]) {
    await page.eval(value => { hours = value; }, hours);
    const before = await page.eval(() => see.entries().length);
    ann.say('Ann: a line');
    await page.say('mine');
    await page.until(n => see.entries().length === n && see.allSent(), before + 2);
    assert.ok(await page.eval(isRight), `${hours} h ahead: ${await page.eval(() => $('#lines time').get().map(time => time.dateTime).join())}`);
    await page.eval(() => { $('#people').trigger('click'); });
    await page.until(() => $('#speakers').text().startsWith('Ann'));
    await page.eval(() => { $('#presence').prop('open', false); });
  }
  await page.until(() => $('.day').length <= 1 && $('#new').length === 0);
});

test('After the server has got another version, the page offers to load it', {}, async stage => {
  const {page, network} = await stage.open();
  await page.until(() => $('#people').text() && $('#newer').is(':hidden'));
  network.edit = (text, path) => path === '/' ? text.replace(/data-page="[^"]*"/, 'data-page="old"') : text; // a page of before
  await page.enter();
  await page.until(() => $('#newer').is(':visible') && $('#newer').text().includes('A newer version is here.'));
  await page.type('a draft');
  network.edit = undefined;
  await page.click('#reload');
  await page.until(() => window.see?.live() && $('#people').text() && $('#newer').is(':hidden') &&
      $('#msg').val() === 'a draft');
});

test('Lines in which nothing can be seen are no entries, and take nobody’s place', {}, async stage => {
  const {ann, page} = await stage.open();
  ann.say('', ' ', '\u200b', 'Ann: ', 'Ann: \u2028 \u00ad', 'the end');
  await page.untilShown('the end');
  await page.until(() => see.notices().length === 0 && $('#lines').children().length === 1);
});

test('Connections that end soon after they begin are tried less and less often, and the bar says what may be the reason', {}, async stage => {
  const {page, network} = await stage.open();
  let connections = 0;
  network.serve = function (socket) {
    connections++;
    socket.send('E 0 0');
    socket.close(1008);
  };
  network.hangUp();
  await page.until(() => see.visible('#offline') && /^Connections end soon/.test($('#why').text()));
  assert.ok(connections <= 8, `got ${connections} connections, want 8 at most`);
});
