// What becomes of the text of a line: names, mentions, links, and nothing that a sender chooses beyond that.

import assert from 'node:assert/strict';
import {visible} from '../../assets/names.js';
import {all, test} from './harness.js';

const everywhere = {engines: all};

test('The log sets off the name that a line begins with, in a colour of that name', {}, async stage => {
  const {ann, page} = await stage.open();
  const others = [
    'Bob: hi', 'Ann the first: hi', 'no name here', 'https://example.org/: is an address', ': nobody', 'Cléo: hi', 'Bob: again',
  ];
  ann.say(...others);
  await page.until(() => $('.name').get().map(e => e.textContent).join('|') === 'Bob|Ann the first|Cléo|Bob');
  await page.until(() => {
    const [a, b, c, d] = $('.name').get().map(e => getComputedStyle(e).color);
    return a === d && a !== b && a !== c && b !== c;
  });
  await page.say('TODO: buy milk', 'no colon');
  for (const again of [true, false]) { // a message of a person without a name has none, even after a reload
    await page.until(() => see.entries().slice(-2).join('|') === 'TODO: buy milk|no colon' &&
      $('#lines .own').length === 2);
    await page.until(() => $('#lines .own .name').length === 0);
    again && await page.enterAgain();
  }
  await ann.expect(...others, ' TODO: buy milk', 'no colon');
  await page.expectNoComplaints();
});

test('Names that look the same are the same, and what cannot be seen is no name', everywhere, async stage => {
  const {ann, page} = await stage.open();
  ann.say('Zoé: one', 'Zoe\u0301: two', 'Zo\u200bé: three', 'Zoé\u2060 : four', '\u200b: no name', '\u3164\u2800: nor this');
  await page.until(() => see.entries().length === 6);
  await page.until(() => $('.name').get().map(e => e.textContent).join() === 'Zoé,Zoé,Zoé,Zoé' &&
    $('#lines .continued').length === 3);
  await page.rename(' Zo\u200be\u0301  ');
  await page.until(() => $('#who').text() === 'Zoé');
});

test('A person is mentioned in scripts with and without spaces', everywhere, async stage => {
  const {ann, page} = await stage.open();
  let n = 0;
  for (const [name, text, mentions] of [
    ['小明', '@小明你好', '@小明'],
    ['小明', '你好小明！', '小明'],
    ['田中', '田中さん、おはよう', '田中'],
    ['アン', 'アンさん、アンテナ', 'アン'],
    ['สมชาย', 'สวัสดีสมชายครับ', 'สมชาย'],
    ['민수', '민수야, 안녕', '민수'],
    ['محمد', 'شكرا يا محمد!', 'محمد'],
    ['Zoé', 'zoe\u0301, and @ZOÉ, but no Zoés', 'zoe\u0301,@ZOÉ'],
  ]) {
    await page.rename(name);
    await page.until(name => $('#who').text() === name, name);
    ann.say('Bob: ' + text);
    await page.until((n, text) => see.entries().length === n &&
      $('#lines .text').last().text() === text, ++n, text);
    await page.until(mentions => $('#lines .entry').last().find('mark').get().map(e => e.textContent).join() === mentions, mentions);
  }
});

test('A link ends where a reader expects it, and its text says where it leads', everywhere, async stage => {
  const {ann, page} = await stage.open();
  const lines = [ // texts, and the links in them as they are shown
    ['https://en.wikipedia.org/wiki/Go_(programming_language)', ['https://en.wikipedia.org/wiki/Go_(programming_language)']],
    ['(see https://example.com/a_(b), or http://example.org/?c=d&e#f.)', ['https://example.com/a_(b)', 'http://example.org/?c=d&e#f']],
    ['HTTP://EXAMPLE.ORG. "https://example.com/q"', ['http://example.org', 'https://example.com/q']],
    ['<https://example.com/r> https://example.com/s?', ['https://example.com/r', 'https://example.com/s']],
    ['https://example.com，请看', ['https://example.com']],
    ['请看https://example.com/路径。', ['https://example.com/路径']],
    ['「https://example.com/い」を見て', ['https://example.com/い']],
    ['שלום https://example.com/א/ב, ועוד', ['https://example.com/א/ב']],
    ['www.example.com/a is one', ['www.example.com/a']],
    ['https://bank.example@evil.example/', ['https://evil.example/']],
    ['https://exаmple.com/', ['https://xn--exmple-4nf.com/']], // a Cyrillic letter
    ['https://example.com/\u202egpj.exe', ['https://example.com/\ufffdgpj.exe']],
    ['javascript:alert(1) data:text/html,x ftp://a.b https:// http://[ xhttp://no mailto:a@example.org', []],
  ];
  ann.say(...lines.map(([text]) => text));
  await page.until(n => see.entries().length === n, lines.length);
  const got = await page.eval(() => $('#lines .entry').get().map(e => {
    return $(e).find('a').get().map(a => [a.textContent, a.href, a.rel, a.target]);
  }));
  lines.forEach(([text, links], i) => {
    assert.deepEqual(got[i].map(([shown]) => shown), links, text);
    for (const [shown, href, rel, target] of got[i]) {
      assert.equal(href, new URL(shown.replace(/^www/, 'http://www')).href, text);
      assert.deepEqual([rel, target], ['noopener noreferrer', '_blank']);
    }
  });
  await page.until(() => { // also among letters from right to left, its host is left of its path
    const a = $('#lines .entry').get().find(e => e.line.text.startsWith('שלום')).querySelector('a');
    const [host, path] = ['example', 'א'].map(part => {
      const range = document.createRange(), start = a.textContent.indexOf(part);
      range.setStart(a.firstChild, start);
      range.setEnd(a.firstChild, start + 1);
      return range.getBoundingClientRect().left;
    });
    return host < path;
  });
});

test('Nothing that anyone says becomes markup, moves what others say, or widens the page', {short: true}, async stage => {
  const {ann, page} = await stage.open('-max-message', '16384');
  await page.phone();
  const lines = [
    'see https://example.org/a_(b)?c=d&e#f, http://example.org. (http://x.example/) xhttp://no ftp://no https:// http://[ mailto:a@example.org',
    '<b>bold</b> <script>alert(1)</script> <img src=x onerror=alert(1)> &amp; &lt;',
    '<svg/onload=alert(1)>: <iframe srcdoc="<script>parent.alert(1)</script>">',
    '"><input autofocus onfocus=alert(1)> \' onmouseover=\'alert(1)',
    'javascript:alert(1) data:text/html,<script>alert(1)</script> vbscript:x',
    'https://example.org/"onmouseover="alert(1) http://<b>x</b>',
    '\u202e\u2066bidi override\u2067 never closed',
    '\u200b\u200d\ufeff\u2060\u00ad: zero width',
    '{{max-message}} ${alert(1)} \x00 \x1b[31m \r \t end',
    '🙂'.repeat(4096),
    'x'.repeat(4096),
    'a\u0301\u0302\u0303\u0304'.repeat(100),
    'after all',
  ];
  ann.say(...lines);
  await page.until(n => see.entries().length === n, lines.length);
  const isNoWider = () => document.documentElement.scrollWidth === 320 && $('#log')[0].scrollWidth === $('#log')[0].clientWidth;
  await page.until(isNoWider);
  await page.eval(() => { $('.fold').trigger('click').remove(); });
  await page.until(isNoWider);
  await page.until(() => {
    const names = ['class', 'style', 'datetime', 'title', 'dir', 'href', 'target', 'rel'];
    return $('#lines').find('*').get().every(e => ['DIV', 'SPAN', 'BDI', 'TIME', 'A'].includes(e.tagName) &&
      [...e.attributes].every(a => names.includes(a.name)));
  });
  await page.until(() => $('#lines a').get().every(a => /^https?:$/.test(a.protocol) &&
    a.rel === 'noopener noreferrer'));
  await page.until(() => $('.entry').first().find('a').get().map(a => a.textContent).join(' ') ===
    'https://example.org/a_(b)?c=d&e#f http://example.org http://x.example/');
  await page.until(() => $('.entry').last().text().endsWith('after all') && // and stands in line
    $('.entry .body').last()[0].getBoundingClientRect().left === $('.entry .body').first()[0].getBoundingClientRect().left);
  const shown = await page.eval(() => see.entries());
  assert.deepEqual(shown, lines.map((line, i) => visible(i === 2 ? line.replace('>: ', '> ') : line)));
  await page.expectNoComplaints();
});

test('Control characters are shown, in the log, names, notifications and copies, and all others are as they were said', {}, async stage => {
  const {ann, page, network} = await stage.open();
  network.preload(() => {
    localStorage['chat:notify'] = '"everything"';
    window.shown = [];
    window.Notification = class {
      static permission = 'granted';
      constructor(title, {body}) { shown.push(title + '|' + body); }
      close() {}
    };
  });
  await page.enter();
  await page.look(false);
  const say = async (line, announced) => {
    ann.say(line);
    await page.until(announced => shown.at(-1) === announced, announced);
  };
  await say('Bob\x1b[2J\x7f: a\x00b\x07c\x08d\re\x0b\x0cf\x1b]0;title\x07\tg\x7fh',
    'Bob[2J – Chat|a␀b␇c␈d␍e␋␌f␛]0;title␇\tg␡h');
  await say('Bob: two\u2028rows', 'Bob – Chat|two\nrows');
  ann.say(
    'Bob: \u0085\u009b31m \u202arm \u202b\u202c\u202d\u202eelif\u2066\u2067\u2068\u2069',
    'Bob: \u200eשלום\u200f \u061cمرحبا نمی\u200cخواهم 👩\u200d👩\u200d👧 🏴\u{e0067}\u{e0062}\u{e007f} \u00a0é',
    'see https://example.org/\x1b[31m\u202e',
  );
  const lines = [
    'Bob[2J a␀b␇c␈d␍e␋␌f␛]0;title␇\tg␡h',
    'Bob two\nrows',
    'Bob \ufffd\ufffd31m \ufffdrm \ufffd\ufffd\ufffd\ufffdelif\ufffd\ufffd\ufffd\ufffd',
    'Bob \u200eשלום\u200f \u061cمرحبا نمی\u200cخواهم 👩\u200d👩\u200d👧 🏴\u{e0067}\u{e0062}\u{e007f} \u00a0é',
    'see https://example.org/␛[31m\ufffd',
  ];
  await page.untilShown(...lines);
  await page.until(() => $('#lines .name').first().text() === 'Bob[2J' &&
    $('#lines a').attr('href') === 'https://example.org/');

  const copied = async selector => {
    await page.focus('#log');
    await page.eval(selector => { getSelection().selectAllChildren($(selector)[0]); }, selector);
    await page.press('c', 'Control');
    await page.focus('#msg');
    await page.press('v', 'Control');
    const text = await page.until(() => $('#msg').val());
    await page.eval(() => { $('#msg').val('').trigger('input'); });
    return text;
  };
  assert.equal(await copied('#lines .text'), lines[0].slice('Bob[2J '.length));
  assert.equal((await copied('#lines')).replace(/^\d\d:\d\d /gm, ''),
    lines.map(line => line.replace(/^(Bob\S*) /, '$1: ')).join('\n'));

  // These are all characters that the page replaces.
  const replaced = [[0x00, 0x08], [0x0a, 0x1f], [0x7f, 0x7f], [0x80, 0x9f], [0x202a, 0x202e], [0x2066, 0x2069]];
  for (let c = 0; c < 0x110000; c++) {
    const instead = c < 32 ? 0x2400 + c : c === 127 ? 0x2421 : 0xfffd;
    const wanted = String.fromCodePoint(replaced.some(([from, to]) => c >= from && c <= to) ? instead : c);
    visible(String.fromCodePoint(c)) === wanted || assert.fail(`got another character than ${wanted} for U+${c.toString(16)}`);
  }
  await page.expectNoComplaints();
});

test('Lines without anything to see are not shown', {}, async stage => {
  const {ann, page, network} = await stage.open();
  ann.say('first', ' ', '\u200b', '\u2028', 'Bob: \u3000\u2800', 'last');
  await page.untilShown('first', 'last');
  network.hangUp(); // they count for the position from which the page goes on
  ann.say(' ', 'after all');
  await page.untilShown('first', 'last', 'after all');
  await page.say('my own');
  await page.untilShown('first', 'last', 'after all', 'my own');
  await page.enterAgain();
  await page.untilShown('first', 'last', 'after all', 'my own');
  await page.until(() => $('#new').length === 0);
});

test('Lines and names from right to left have their own direction', {}, async stage => {
  const {ann, page} = await stage.open();
  ann.say('Bob: שלום, world!', 'Bob: hello, עולם!', 'دانا: مرحبا');
  await page.until(() => $('#lines .body').get().map(e => getComputedStyle(e).direction).join() === 'rtl,ltr,rtl');
  await page.insert('שלום, world!');
  await page.until(() => getComputedStyle($('#msg')[0]).direction === 'rtl');
  await page.picture('rtl.png');
});
