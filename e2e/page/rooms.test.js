// Rooms, their addresses, and chats that are full.

import {readFileSync} from 'node:fs';
import {test} from './harness.js';

test('A room has its own page, with a link to itself and a way to other rooms', {short: true}, async stage => {
  const [chat, page] = await Promise.all([stage.start(), stage.person()]);
  const elsewhere = await chat.join();
  await page.enter(chat.url + 'Lobby'); // redirects
  await page.until(() => location.pathname === '/lobby/' && $('h1').text() === 'lobby' && document.title === 'lobby – Chat');
  await page.until(() => $('#people').text() === '1 person');
  await page.say('hello, lobby');
  await page.untilShown('hello, lobby');
  const here = await chat.join('/lobby/ws');
  await page.until(() => $('#people').text() === '2 people');
  here.leave();
  await page.until(() => $('#people').text() === '1 person');
  elsewhere.say('hello, everyone');
  await elsewhere.expect('hello, everyone'); // and not the line of the lobby

  await page.click('#menu summary');
  await page.until(link => $('#menu').prop('open') && $('#link').val() === link, chat.url + 'lobby/');
  await page.picture('rooms.png');
  await page.phone();
  await page.picture('rooms-phone.png');
  await page.click('#share');
  await page.until(() => $('#shared').text() === 'Copied');
  await page.eval(() => {
    $('#other').val(' Kitchen ');
    $('#go')[0].requestSubmit();
  });
  await page.until(() => location.pathname === '/kitchen/' && $('h1').text() === 'kitchen' && see.live());
  await page.untilShown();
  await page.eval(() => {
    $('#other').val('');
    $('#go')[0].requestSubmit();
  });
  await page.until(() => location.pathname === '/' && $('h1').text() === 'Chat');
  await page.untilShown('hello, everyone');
  await page.eval(() => { $('#menu').prop('open', true); });
  await page.focus('#other');
  await page.say('lobby');
  await page.until(() => location.pathname === '/lobby/');
  await page.untilShown('hello, lobby');
  await page.expectNoComplaints();
});

test("A room's page shows the chat's title, which leads to the room without a name", {}, async stage => {
  const {chat, page} = await stage.open('lobby/', '-title', 'Tea & Talk');
  await page.until(() => $('h1').text() === 'lobby' && $('#up:visible').text() === 'Tea & Talk');
  await page.click('#up');
  await page.until(() => location.pathname === '/' && see.live() && $('h1').text() === 'Tea & Talk' && $('#up').is(':hidden'));
  await page.expectNoComplaints();
});

for (const [typed, room] of [['Kitchen Table', 'kitchen-table'], ['Café', 'cafe'], ['https://x.example/b/', 'b']]) {
  test(`A room's name that somebody types becomes one that is allowed: ${typed}`, {}, async stage => {
    const {page} = await stage.open('lobby/');
    await page.eval(() => { $('#menu').prop('open', true); });
    await page.focus('#other');
    await page.type(typed);
    await page.until(room => $('#syntax').text() === `The room will be “${room}”.`, room);
    await page.press('Enter');
    await page.until(room => location.pathname === `/${room}/` && see.live(), room);
  });
}

test('A room that can have no such name is refused with a sentence', {}, async stage => {
  const {page} = await stage.open('lobby/');
  await page.eval(() => { $('#menu').prop('open', true); });
  await page.focus('#other');
  await page.insert('厨房');
  await page.press('Enter');
  await page.until(() => $('#syntax').text().includes('has Latin letters, digits, - and _.') && document.activeElement.id === 'other');
  await page.until(() => location.pathname === '/lobby/');
});

test('The word "Copied" goes after a while', {}, async stage => {
  const {page, network} = await stage.open('lobby/');
  network.preload(() => {
    const later = window.setTimeout;
    window.setTimeout = (f, ms, ...args) => later(f, ms === 3000 ? 500 : ms, ...args);
  });
  await page.enterAgain();
  await page.click('#menu summary');
  await page.click('#share');
  await page.until(() => $('#shared').text() === 'Copied');
  await page.until(() => $('#shared').text() === '');
});

test('If the system has a share sheet, the link goes there', {}, async stage => {
  const {chat, page, network} = await stage.open('lobby/');
  network.preload(() => { navigator.share = async data => { window.shared = data; }; });
  await page.enterAgain();
  await page.eval(() => { $('#share').trigger('click'); });
  await page.until(url => $('#share').text() === 'Share' && shared.url === url && shared.title === 'lobby – Chat', chat.url + 'lobby/');
  await page.expectNoComplaints();
});

for (const [flag, word] of [['-max-conns', 'chat is full'], ['-rooms', 'too many rooms']]) {
  test(`A page that the chat has no place for says why, and gets in when somebody has left (${flag})`, {}, async stage => {
    const [chat, page] = await Promise.all([stage.start(flag, '1'), stage.person()]);
    const ann = await chat.join('/lobby/ws');
    await page.phone();
    await page.goto(chat.url + 'other'.repeat(12) + '/');
    await page.until(word => $('#word').text() === word && $('#why').text() === 'The server says: ' + word + '.' &&
      /^Next try in [1-5] s.$/.test($('#wait').text()) && see.visible('#now'), word);
    await page.until(() => document.documentElement.scrollWidth === 320);
    await page.picture(word.replaceAll(' ', '-') + '.png');
    await page.eval(() => { $('#menu').prop('open', true); });
    await page.until(() => see.rect('#menu > div').left >= 0);
    await page.eval(() => { $('#menu').prop('open', false); });
    await page.focus('#msg');
    await page.say('let me in');
    ann.leave();
    await page.untilLive();
    await page.untilShown('let me in');
  });
}

// Two chats on one host, below different paths, keep messages apart.
const {CERT, KEY} = process.env; // files; TestPage makes them
test('Behind a TLS proxy and below a path, the page finds its scripts, rooms and WebSocket', {skip: CERT ? '' : 'there are no CERT and KEY'}, async stage => {
  const [a, b, page] = await Promise.all([stage.start(), stage.start(), stage.person()]);
  const network = await stage.network({cert: readFileSync(CERT), key: readFileSync(KEY)});
  network.routes = {'/a/room': a.port, '/b': b.port};
  await page.enter(network.origin + '/a/room/');
  await page.say('through the proxy');
  await page.untilShown('through the proxy');
  await page.enter(network.origin + '/a/room/Lobby');
  await page.until(() => location.pathname === '/a/room/lobby/' && $('#link').val() === location.href);
  await page.eval(() => {
    $('#other').val('');
    $('#go')[0].requestSubmit();
  });
  await page.until(() => location.pathname === '/a/room/');
  await page.untilShown('through the proxy');
  await page.expectNoComplaints();

  await page.untilLive();
  await page.eval(() => { WebSocket.prototype.send = () => {}; });
  await page.focus('#msg');
  await page.say('for a');
  await page.type('draft for a');
  await page.until(() => see.unsent().join() === 'for a');
  await page.enter(network.origin + '/b/');
  await page.say('for b');
  await page.untilShown('for b');
  await page.until(() => $('#msg').val() === '');
  await page.enter(network.origin + '/a/room/');
  await page.untilShown('through the proxy', 'for a');
  await page.until(() => $('#msg').val() === 'draft for a');
});
