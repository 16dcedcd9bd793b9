// screenshots.js takes pictures of the page in each of its states, on two phones, a phone on its side, and a desktop,
// in light and dark. Somebody must look at them. They are in the directory that the command names:
//
//   CHAT=/tmp/chat node screenshots.js /tmp/pictures
//
// The arguments after the directory choose states, by name.

import {mkdirSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {Chat} from './chat.js';
import {start} from './engines.js';
import {asPerson} from './person.js';

const sizes = [[320, 640], [390, 844], [844, 390], [1280, 800]];
const keyboard = [[320, 300], [390, 420], [844, 180]]; // what an open keyboard leaves of the phones
const phone = 1000; // pixels; a window that is narrower is one

const rows = n => Array.from({length: n}, (_, i) => 'row ' + (i + 1)).join('\u2028');
const lines = [
  'Bob: Hello!', 'Bob: This is a longer line, which has several rows on a phone, for sure.', 'no name here',
  'Clara: Look at https://en.wikipedia.org/wiki/Go_(programming_language), Ann.', 'Émile: @Ann, are you there?',
  'שלום: ‏מה שלומך היום?', '田中: こんにちは', 'Bob: Z̷͚̳̫̻̟̃̇̀̚ä̵͎̝́̓̈́l̴̢̛͔͇̫͎͕̄̈́̎g̶̢̛͎̺̲̈́̈́ó̷̰̫͇̮̈́̆͑̌', 'A name as long as a name may be, or nearly: yes',
  'Bob: Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft',
];

// openMenu returns a state in which a menu is open.
const openMenu = selector => async function ({page, ann}) {
  ann.say(...lines);
  await page.until(n => see.entries().length === n, lines.length);
  await page.click(selector + ' > summary');
  await page.until(selector => $(selector).prop('open'), selector);
};

// goOffline has the server refuse connections, and waits until the page says so.
async function goOffline({page, network}, answer) {
  network.answer = path => path.endsWith('/ws') ? answer : undefined;
  network.hangUp();
  await page.until(() => see.visible('#offline'));
}

// Each state is a function that brings an open page there, or an object with that as run, and
//
//   path     what follows the chat's URL; '#newcomer' opens a page that asks for the name
//   sizes    others than sizes
//   before   a function that is called with the Network before the page is opened
//   dead     true if the page doesn't start
const states = {
  async empty({page}) {
    await page.until(() => see.visible('#empty'));
  },
  log: {
    path: 'a-room-with-a-name-that-is-as-long-as-a-name-of-a-room-may-be-64/',
    async run({page, ann}) {
      await page.rename('Ann');
      ann.say(...lines);
      await page.until(n => see.entries().length === n, lines.length);
      await page.say('An own line.', 'And another one.');
      await page.until(n => see.entries().length === n && see.allSent(), lines.length + 2);
    },
  },
  prompt: {path: '#newcomer', run: askName},
  'prompt above a keyboard': {path: '#newcomer', sizes: keyboard, run: askName},
  'input above a keyboard': {sizes: keyboard, run: tooLong},
  tooLong,
  async offline(stage) {
    await goOffline(stage, {status: 502, body: ''});
    await stage.page.say('This waits.');
    await stage.page.until(() => see.unsent().length === 1);
  },
  full: stage => goOffline(stage, {status: 503, headers: {'retry-after': '5'}, body: 'The chat is full. Try again later.'}),
  loggedOut: stage => goOffline(stage, {status: 401, body: 'Log in.'}),
  async refused({page, ann, network}) {
    ann.say(...lines);
    await page.until(n => see.entries().length === n, lines.length);
    network.serve = socket => {
      socket.send('EPOCH 0 0');
      socket.send(Buffer.from('{"taken":0}'));
      socket.on('message', (data, isBinary) => isBinary || socket.close(1009));
    };
    network.hangUp();
    await page.untilLive();
    await page.say('This is refused.');
    await page.until(() => $('.refused').length > 0);
  },
  people: openMenu('#presence'),
  bell: openMenu('#bell'),
  rooms: openMenu('#menu'),
  async folded({page, ann}) {
    ann.say('Bob: Hello!', 'Clara: ' + rows(60), 'Bob: ' + rows(60));
    await page.until(() => $('.fold').length === 2);
    await page.eval(() => { $('.fold')[0].scrollIntoView({block: 'end'}); });
  },
  async newRule({page, ann}) {
    ann.say('Bob: Hello!');
    await page.until(() => see.entries().length === 1);
    await page.look(false);
    ann.say('Clara: This is new.', 'Clara: So is this.');
    await page.until(() => see.entries().length === 3);
    await page.look(true);
    await page.until(() => see.visible('#new'));
  },
  async below({page, ann}) {
    ann.say(...Array(8).fill(lines).flat());
    await page.until(n => see.entries().length === n, 8 * lines.length);
    await page.eval(() => { $('#log')[0].scrollTop = 100; });
    ann.say(...lines);
    await page.until(() => see.visible('#below'));
  },
  newer: {
    before: network => network.edit = text => text.replace(/data-page="[^"]*"/, 'data-page="older"'),
    run: ({page}) => page.until(() => see.visible('#newer')),
  },
  tooOld: {
    dead: true,
    before: network => network.answer = path => path.endsWith('/page.js') ? {status: 404} : undefined,
    run: ({page}) => page.until(() => {
      document.getAnimations().forEach(animation => animation.finish());
      return getComputedStyle($('#old')[0]).visibility === 'visible';
    }),
  },
};

async function askName({page}) {
  await page.say('Hello, everybody!');
  await page.until(() => see.visible('#ask'));
}

async function tooLong({page}) {
  await page.focus('#msg');
  await page.insert('This is too long. '.repeat(300));
  await page.until(() => $('#left').hasClass('over'));
}

// photograph opens a state, and takes its pictures.
async function photograph(browser, directory, name, state) {
  const {path = '', dead, before, run, sizes: all = sizes} = typeof state === 'function' ? {run: state} : state;
  const chat = await Chat.start(['-title', 'The chat of the house']);
  const page = asPerson(await browser.newTab());
  try {
    const {network} = chat;
    before?.(network);
    const ann = await chat.join(/^[^#]/.test(path) ? '/' + path + 'ws' : '/ws');
    await page.phone(...sizes[1]);
    await (dead ? page.goto(chat.url + path) : page.enter(chat.url + path));
    await run({page, ann, chat, network});
    for (const [width, height] of all) {
      await page.devtools('Emulation.setTouchEmulationEnabled', {enabled: width < phone});
      await page.devtools('Emulation.setDeviceMetricsOverride', {width, height, deviceScaleFactor: 1, mobile: width < phone});
      for (const scheme of ['light', 'dark']) {
        await page.media('', {'prefers-color-scheme': scheme});
        await page.eval(() => new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn))));
        writeFileSync(join(directory, `${name} ${width}x${height} ${scheme}.png`), Buffer.from((await page.devtools('Page.captureScreenshot')).data, 'base64'));
      }
    }
  } finally {
    await page.close();
    await chat.close();
  }
}

const [directory, ...chosen] = process.argv.slice(2);
mkdirSync(directory, {recursive: true});
const browser = await start('chromium');
for (const [name, state] of Object.entries(states)) {
  if (chosen.length === 0 || chosen.includes(name)) {
    await photograph(browser, directory, name, state).catch(error => {
      console.error(name + ': ' + error.message);
      process.exitCode = 1;
    });
  }
}
await browser.close();
