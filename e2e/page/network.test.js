// Restarts of the chat, networks that lose what is sent, and messages that are said once all the same.

import assert from 'node:assert/strict';
import {test} from './harness.js';

test('Messages that are typed while the chat is down are sent in order and once when it is back, and the page says that the room was restarted', {}, async stage => {
  const {chat, page} = await stage.open();
  await page.say('before');
  await page.untilShown('before');
  await chat.kill();
  await page.until(() => $('#word').text() === 'offline' && see.visible('#now') &&
      $('#wait').text().startsWith('Next try in '));
  await page.say('one', 'two', 'three');
  await page.until(() => see.unsent().join() === 'one,two,three' &&
      $('#outbox .mark').first().text() === 'unsent' && $('#msg').val() === '');
  await page.picture('offline.png');

  await chat.restart();
  await page.eval(() => { $('#now').trigger('click').trigger('click'); });
  await page.untilLive();
  await page.until(() => $('#people').text() === '1 person'); // by one connection
  await page.untilShown('before', 'one', 'two', 'three');
  await page.until(() => see.notices().join() === 'The room was restarted.');
  const late = await chat.join('/ws?since=');
  await late.next(); // the position
  await late.expect('one', 'two', 'three');

  await chat.kill();
  await page.until(() => $('#word').text() === 'offline');
  await chat.restart();
  await page.untilLive(); // by itself
  await page.untilShown('before', 'one', 'two', 'three');
  await page.until(() => see.notices().length === 2);

  // The positions of own lines were those of earlier runs.
  const ann = await chat.join();
  ann.say("another's");
  await page.until(() => see.entries().length === 5);
  await page.say('own');
  await page.until(() => see.entries().length === 6);
  ann.say("another's");
  await page.until(() => $('.entry').get().slice(4).map(e => e.classList.contains('own')).join() === 'false,true,false');
});

test('With -state, a restart does not interrupt the conversation, and the page says nothing about it', {}, async stage => {
  const {chat, page} = await stage.open('lobby/', '-state', 'state');
  await page.say('before');
  await page.untilShown('before');
  await chat.stop();
  await page.until(() => $('#word').text() === 'offline');
  await page.say('meanwhile');
  await chat.restart();
  await page.untilLive();
  await page.say('after');
  await page.untilShown('before', 'meanwhile', 'after');
  await page.until(() => see.notices().length === 0);
});

test('If the network loses what is sent, in one direction or in both, each message is still said once', {}, async stage => {
  const {ann, page, network} = await stage.open();
  await page.say('first');
  await page.untilShown('first');
  network.down = false;
  await page.say('heard');
  await ann.expect('first', 'heard');
  network.up = false;
  await page.say('not heard');
  await page.until(() => see.unsent().join() === 'heard,not heard');
  ann.say('from elsewhere');
  await ann.expect('from elsewhere');
  network.heal();
  await page.untilShown('first', 'heard', 'from elsewhere', 'not heard');
  await page.until(() => $('.own').length === 3 && see.notices().length === 0);
  ann.say('the end');
  await ann.expect('not heard', 'the end');
});

test('The page connects at once when the network is back, and when the person looks at the page', {}, async stage => {
  const {page, network} = await stage.open();
  await page.eval(() => { // pauses last an hour
    const later = window.setTimeout;
    window.setTimeout = (f, ms) => later(f, ms < 600 ? 3600e3 : ms);
  });
  for (const act of [() => { window.dispatchEvent(new Event('online')); }, () => { window.dispatchEvent(new Event('focus')); },
    () => { document.dispatchEvent(new Event('visibilitychange')); }]) {
    network.heal();
    await page.until(() => $('#word').text() === 'offline');
    await page.eval(act);
    await page.untilLive();
  }
});

for (const history of ['256', '0']) {
  test(`A message in flight on a connection that breaks is sent again, while others talk on (-history ${history})`, {}, async stage => {
    const {ann, page, network} = await stage.open('-history', history);
    let n = 0;
    const talk = setInterval(() => ann.say('talk ' + n++), 200);
    try {
      await page.until(() => see.entries().length > 2);
      network.up = false;
      await page.say('in flight');
      network.heal();
      await page.untilLive();
      await page.say('new');
      await page.until(() => see.entries().filter(line => !line.startsWith('talk')).sort().join() === 'in flight,new' && see.allSent());
    } finally {
      clearInterval(talk);
    }
  });
}

test('The page counts the lines that the server no longer has, and knows that its message was among them', {}, async stage => {
  const {ann, page, network} = await stage.open('-history', '2');
  ann.say('first');
  await page.untilShown('first');
  network.down = false;
  await page.say('mine');
  await ann.expect('first', 'mine');
  for (let n = 0; n < 5; n++) {
    ann.say('line ' + n);
    await ann.expect('line ' + n);
  }
  network.heal();
  await page.until(() => $('#lines').find('.body, .notice').get().map(e => e.textContent).join() === 'first,4 messages were missed.,line 3,line 4,mine' &&
    $('#lines .mark').text() === 'sent' && see.allSent());
});

test('Unsent messages, and a draft of several lines, outlive a reload, and are gone once they are sent', {}, async stage => {
  const {page, network} = await stage.open();
  network.cut();
  await page.say('unsent');
  await page.type('one');
  await page.press('Enter', 'Shift');
  await page.type('two');
  await page.until(() => see.unsent().join() === 'unsent');
  network.heal();
  await page.enterAgain();
  await page.untilShown('unsent');
  await page.until(() => $('#msg').val() === 'one\ntwo' && $('#msg')[0].clientHeight > 60);
  await page.focus('#msg');
  await page.press('Enter');
  await page.untilShown('unsent', 'one\ntwo');
  await page.enterAgain();
  await page.until(() => see.entries().length === 2 && $('#msg').val() === '' &&
      Object.keys(localStorage).every(key => !/:(outbox|draft)/.test(key)));
});

// Other programs on the same host, older pages, and people with developer tools store what they like.
test('Whatever is stored under the keys of the page, it says and hears', {}, async stage => {
  const {ann, page} = await stage.open();
  await page.say('one');
  await page.untilShown('one');
  await page.type('a draft');
  await page.look(false);
  await page.look(true);
  const said = ['one'];
  for (const value of ['', 'null', 'true', '0', '-1e999', '"x"', '[]', '[null]', '[[]]', '{}', '{"id":7,"at":"x","messages":[1,null],"first":{}}',
    '{"epoch":{},"line":"x","seq":null}', '{"__proto__":null}', '<script>', '\u0000']) {
    const count = await page.eval(value => {
      const stores = [localStorage, sessionStorage], keys = stores.map(Object.keys);
      stores.forEach((store, i) => keys[i].forEach(key => { store[key] = value; }));
      return keys.flat().length;
    }, value);
    assert.ok(count >= 3, `got ${count} keys`);
    await page.goto('about:blank');
    await page.enter();
    await page.eval(() => $('#nameless:visible').trigger('click'));
    said.push('heard with ' + JSON.stringify(value), 'said with ' + JSON.stringify(value));
    ann.say(said.at(-2));
    await page.until(text => $('#lines .text').last().text() === text, said.at(-2));
    await page.eval(text => {
      $('#msg').val(text).trigger('input');
      $('#form')[0].requestSubmit();
      $('#nameless:visible').trigger('click');
    }, said.at(-1));
    await ann.expect(...said.splice(0));
    await page.until(() => see.allSent());
    await page.expectNoComplaints();
  }
});

test('Without a connection a bar says that messages will be sent, and several outages in a row leave one line', {}, async stage => {
  const [chat, page] = await Promise.all([stage.start(), stage.person()]);
  await page.phone();
  chat.network.preload(() => {
    const later = window.setTimeout, now = performance.now.bind(performance);
    const hurry = ms => ms > 200 && ms < 2000 ? ms / 4 : ms; // so that the bar comes sooner
    window.setTimeout = (f, ms, ...args) => later(f, hurry(ms), ...args);
    window.minutes = 0;
    performance.now = () => now() + minutes * 60000;
  });
  await page.enter(chat.url);
  await page.until(() => $('#offline').is(':hidden'));
  for (let outage = 0; outage < 3; outage++) {
    await chat.kill();
    await page.until(() => /What you write will be sent. Next try in \d+ s.\s+Now$/.test($('#offline:visible')[0]?.innerText));
    await page.eval(() => { minutes += 2; });
    if (outage === 0) {
      await page.picture('offline-phone.png');
      await page.until(() => document.documentElement.scrollWidth === 320);
    }
    await chat.restart();
    await page.eval(() => { $('#now').trigger('click'); });
    await page.untilLive();
    await page.until(() => $('#offline').is(':hidden'));
  }
  const outages = await page.until(() => (all => all.length > 0 &&
      all)($('#lines .notice').get().map(e => e.textContent).filter(text => text.startsWith('Offline '))));
  assert.match(outages.join(), /^Offline \d\d:\d\d to \d\d:\d\d.$/);
  const [from, to] = outages[0].match(/\d\d:\d\d/g).map(time => new Date('2001-01-01T' + time));
  const minutes = (to - from + 24 * 3600e3) % (24 * 3600e3) / 60000;
  assert.ok(minutes >= 2 && minutes <= 4, `got an outage of ${minutes} minutes, want 2 or a little more`); // the chat's clock is not ahead
});

test('A message is marked as unsent after 2 s without an answer, and neither the mark nor its end moves the text', {}, async stage => {
  const {page, network} = await stage.open();
  network.cut();
  await page.eval(() => {
    window.left = () => $('.entry .text').last()[0].getBoundingClientRect().left;
    window.looks = []; // of [milliseconds since the message came, whether it is marked, where the text begins]
    const look = began => {
      const marked = getComputedStyle($('#outbox .mark')[0]).visibility === 'visible';
      looks.push([performance.now() - began, marked, left()]);
      marked ? window.done = true : see.later(look, 20, began);
    };
    new MutationObserver(() => looks.length || look(performance.now())).observe($('#outbox')[0], {childList: true});
  });
  await page.say('hello');
  await page.until(() => window.done);
  const looks = await page.eval(() => looks);
  for (const [time, marked, left] of looks) {
    assert.ok(!marked || time >= 1990, `marked after ${time} ms, want 2000`);
    assert.equal(left, looks[0][2], `where the text begins after ${time} ms`);
  }
  network.heal();
  await page.until(at => see.has('hello') && left() === at, looks[0][2]);
});

test('A line of another person with the same words is not an own line, and does not replace the own message', {}, async stage => {
  const {ann, page, network} = await stage.open();
  await page.until(() => $('#people').text() === '2 people');
  network.up = false;
  await page.say('same');
  await page.until(() => see.unsent().length === 1);
  ann.say('same');
  await page.until(() => see.entries().join() === 'same' && $('#lines .own').length === 0 && see.unsent().length === 1);
  network.heal();
  await page.untilShown('same', 'same');
  await page.until(() => $('#lines .entry').get().map(e => e.classList.contains('own')).join() === 'false,true');
  ann.say('the end');
  await ann.expect('same', 'same', 'the end');
});

test('A duplicated tab leaves unsent messages to the tab that has them', {}, async stage => {
  const {ann, page, network} = await stage.open();
  await page.eval(() => {
    window.send = WebSocket.prototype.send;
    WebSocket.prototype.send = () => {};
  });
  await page.say('one', 'two');
  await page.until(() => see.unsent().join() === 'one,two');
  const other = await page.copied();
  await other.say('from the second');
  await other.untilShown('from the second');
  await page.say('three');
  await page.until(() => see.unsent().join() === 'one,two,three');
  await page.eval(() => { WebSocket.prototype.send = send; });
  network.heal();
  await page.untilShown('from the second', 'one', 'two', 'three');
  await other.untilShown('from the second', 'one', 'two', 'three');
  await page.say('the end');
  await ann.expect('from the second', 'one', 'two', 'three', 'the end');
});

// A refused message keeps its number. So the messages after it have the same numbers in both tabs.
test('If two tabs have the same unsent messages, one of which the server refuses, the others are said once', {}, async stage => {
  const {ann, page} = await stage.open('-max-message', '50');
  const other = await page.another();
  for (const tab of [page, other]) {
    await tab.eval(() => {
      localStorage['/:outbox:before'] = JSON.stringify({taken: 0, texts: ['long'.repeat(20), 'two', 'three'], at: 0});
    });
    await tab.reload();
    await tab.until(() => see.entries().filter(line => line === 'two' ||
        line === 'three').join() === 'two,three' && see.allSent());
    await tab.until(() => localStorage['/:outbox:before'] === undefined);
  }
  await page.until(() => see.live());
  await page.say('the end');
  await ann.expect('two', 'three', 'the end');
});

test('Two tabs of one person, one of them duplicated, type while the network is cut repeatedly, and each message is said once and in order', {}, async (stage, t) => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  let state = seed;
  const heads = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >= 2 ** 31;
  t.diagnostic('seed ' + seed);
  const {ann, page, network} = await stage.open();
  await page.rename('Ann');
  await page.eval(() => {
    WebSocket.prototype.send = new Proxy(WebSocket.prototype.send, {apply: (...args) => window.swallow ||
        Reflect.apply(...args)});
    window.swallow = true;
  });
  await page.say('tab 0 before');
  await page.until(() => see.unsent().length > 0);
  const tabs = [page, await page.copied()];
  await page.eval(() => { window.swallow = false; });
  network.heal();
  const typed = [['tab 0 before'], []]; // by tab
  for (let cut = 0; cut < 12; cut++) {
    for (const [i, tab] of tabs.entries()) {
      const texts = [`tab ${i} message ${cut}`, 'ok'];
      await tab.say(texts[0]);
      if (i === 0) {
        network.down = heads();
        network.up = false;
      }
      await tab.say(texts[1]);
      typed[i].push(...texts);
    }
    network.down = false;
    network.up = heads();
    network.heal();
  }
  const total = typed.flat().length;
  for (const tab of tabs) {
    await tab.until(total => see.entries().length >= total && see.allSent(), total);
  }
  await page.say('the end');
  const heard = [];
  while (heard.at(-1) !== 'the end') {
    heard.push((await ann.next()).replace(/^Ann: /, ''));
  }
  assert.equal(heard.length, total + 1, heard.join());
  for (const [i, tab] of tabs.entries()) {
    const named = lines => lines.filter(line => line.startsWith('tab ' + i));
    assert.deepEqual(named(heard), named(typed[i]));
    await tab.until(() => see.entries().at(-1).endsWith('the end'));
    assert.deepEqual(await tab.eval(() => see.entries().map(line => line.replace(/^Ann /, ''))), heard);
    await tab.until(() => $('#lines .entry:not(.own)').length === 0 && see.notices().length === 0);
  }
});
