// What the server does with the pages of others, and what browsers report of it.

import {readFileSync} from 'node:fs';
import {all, test} from './harness.js';

const {GORILLA} = process.env; // the file of the page of gorilla's chat example; TestPage finds it
test("The page of gorilla's chat example works with this server", {engines: all, skip: GORILLA ? '' : 'there is no GORILLA'}, async stage => {
  const [chat, page] = await Promise.all([stage.start(), stage.person()]);
  const ann = await chat.join();
  const keepsSocket = '<script>WebSocket = class extends WebSocket { constructor(...args) { super(...args); window.opened = this; } };</script>';
  const body = readFileSync(GORILLA, 'utf8').replace('<head>', '<head>' + keepsSocket);
  chat.network.answer = path => path === '/' ? {status: 200, headers: {'content-type': 'text/html; charset=utf-8'}, body} : undefined;
  await page.goto(chat.url);
  await page.until(() => opened.readyState === WebSocket.OPEN);
  ann.say('Ann: one', 'Ann: a break\u2028in it');
  const shown = lines => [...document.querySelectorAll('#log > div')].map(line => line.textContent).join('|') === lines.join('|');
  await page.until(shown, ['Ann: one', 'Ann: a break\u2028in it']);
  await page.click('#msg');
  await page.say("from gorilla's page");
  await page.until(shown, ['Ann: one', 'Ann: a break\u2028in it', "from gorilla's page"]);
  await ann.expect('Ann: one', 'Ann: a break\u2028in it', "from gorilla's page");
});

// frame returns a masked frame, whose first byte has the final bit, the reserved bits and the opcode (RFC 6455, section 5.2).
function frame(first, payload) {
  const mask = [0x37, 0xfa, 0x21, 0x3d];
  const length = Buffer.alloc(payload.length < 126 ? 1 : 9, 0x80);
  if (payload.length < 126) {
    length[0] |= payload.length;
  } else {
    length[0] |= 127;
    length.writeBigUInt64BE(BigInt(payload.length), 1);
  }
  return Buffer.concat([Buffer.of(first), length, Buffer.from(mask), Buffer.from(payload).map((byte, i) => byte ^ mask[i % 4])]);
}

// closing returns a close frame.
const closing = (code, reason) => frame(0x88, Buffer.concat([Buffer.of(code >> 8, code & 0xff), Buffer.from(reason)]));

// Browsers don't send most of what is refused, so the network replaces their first message.
test('The onclose of a browser reports the code of each refusal', {}, async stage => {
  const refused = [
    [Buffer.concat([frame(0x81, Buffer.from('x')), closing(1000, '')]), 1000],
    [frame(0x88, Buffer.of()), 1005], // the browser's code for a close frame without one
    [closing(4321, 'bye'), 4321],
    [frame(0xf1, Buffer.from('reserved bits')), 1002],
    [frame(0x83, Buffer.from('reserved opcode')), 1002],
    [frame(0, Buffer.from('of nothing')), 1002],
    [frame(0x82, Buffer.from('binary')), 1003],
    [frame(0x81, Buffer.of(0xff)), 1007],
    [frame(0x81, Buffer.alloc(1 << 20, 'too long')), 1009],
  ];
  const [chat, page] = await Promise.all([stage.start(), stage.person()]);
  const waiting = new Map(refused.map(([bytes], i) => ['/ws?' + i, bytes]));
  chat.network.rewrite = (chunk, url) => {
    const instead = waiting.get(url) ?? chunk;
    waiting.delete(url);
    return instead;
  };
  await page.goto(chat.url);
  await page.untilLive();
  await page.eval(() => {
    window.ended = {};
    window.talk = name => {
      const socket = new WebSocket('/ws?' + name);
      socket.onopen = () => socket.send('hello');
      socket.onclose = event => { ended[name] = event.code + ' ' + event.wasClean; };
      return socket;
    };
  });
  for (const [i, [, code]] of refused.entries()) {
    await page.eval(i => { talk(i); }, i);
    await page.until((i, code) => ended[i] === code + ' true', i, code);
  }
  await page.eval(() => { window.last = talk('last'); });
  await page.until(() => last.readyState === WebSocket.OPEN);
  const stopped = chat.stop();
  await page.until(() => ended.last === '1001 true');
  await stopped;
});

test('A page in a browser without WebSocket says so', {engines: all}, async stage => {
  const [chat, page] = await Promise.all([stage.start(), stage.person()]);
  chat.network.preload(() => { delete window.WebSocket; });
  await page.goto(chat.url);
  await page.until(() => see.visible('#offline') && $('#why').text().includes('no WebSocket'));
});
