// The tables of this file say which names are equal, which lines have a name, and what mentions a name.

import test from 'node:test';
import assert from 'node:assert/strict';
import {cleanName, findMentions, isBlank, parse, sameName, visible, wellFormed} from '../names.js';

// check calls f for each row of a table, with all but the row's last value, and wants the last value.
function check(f, table) {
  for (const [...args] of table) {
    const want = args.pop();
    assert.deepEqual(f(...args), want, JSON.stringify(args) + ' gives ' + JSON.stringify(f(...args)) + ', want ' + JSON.stringify(want));
  }
}

test('A name is shown composed, trimmed, and without what cannot be seen.', () => check(cleanName, [
  ['\u200b'.repeat(15), ''], // openstreetmap-website 4538
  ['快\u200b_\u200b乐', '快_乐'], // openstreetmap-website 4538
  ['ㅤ', ''], // owncast 4522
  ['A \u200b \u200b \u200b B', 'A B'], // bluesky social-app 5703
  ['\u202e', ''], // matrix-js-sdk 1141
  ['\u00a0', ''], // teeworlds 904
  ['admin\u00a0', 'admin'], // fluux-messenger 903
  ['\u200e\u200d\u200c\u200b\u2060\u202c\ufeff\u200f', ''], // tf2_bot_detector 204
  ['bot\u200b', 'bot'], // tf2_bot_detector 203
  ['Ann', 'Ann'],
  ['  Ann  Lee ', 'Ann Lee'],
  ['Ann\u3000\u00a0\u2003Lee', 'Ann Lee'],
  ['Ann\tLee\r\n', 'Ann Lee'],
  ['Ann\u2028Lee\u2029', 'Ann Lee'],
  ['Jose\u0301', 'José'],
  ['\u1112\u1161\u11ab', '한'],
  ['Ａｎｎ', 'Ａｎｎ'], // the person's choice stays
  ['\u200b', ''],
  ['A\u200bn\u2060n\ufeff', 'Ann'],
  ['\u200b \u200b', ''],
  ['A \u200b \u200b B', 'A B'],
  ['A\u200b\u0301', 'Á'], // composed when the space between is gone
  ['\u200e\u202eAnn\u202c', 'Ann'],
  ['\u2066Ann\u2069', 'Ann'],
  ['An\u00adn', 'Ann'],
  ['\u2800', ''], // Braille blank
  ['\u3164', ''], // Hangul filler
  ['\u115f\u1160\uffa0', ''],
  ['\u{e0041}\u{e0042}', ''], // tags
  ['\u17b4\u17b5\u180e\u034f', ''],
  ['\u{1d159}\ufffc\ufff9', ''],
  ['A\x00\x1b\x7f\x9fnn', 'Ann'],
  ['A\ud800', 'A\ufffd'],
  ['👩\u200d💻', '👩\u200d💻'],
  ['👩🏽\u200d🚀', '👩🏽\u200d🚀'],
  ['🏳\ufe0f\u200d🌈', '🏳\ufe0f\u200d🌈'],
  ['❤\ufe0f', '❤\ufe0f'],
  ['😀\ufe0f', '😀'], // looks the same without
  ['A\ufe0f', 'A'],
  ['1\ufe0f\u20e3', '1\ufe0f\u20e3'],
  ['1\ufe0f', '1'],
  ['🇩🇪', '🇩🇪'],
  ['🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}', '🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}'],
  ['\u200d👩\u200d', '👩'],
  ['A\u200dB', 'AB'],
  ['小\u200d明', '小明'],
  ['علی\u200cرضا', 'علی\u200cرضا'],
  ['علی\u200c', 'علی'],
  ['ശ്രീ\u200cകുമാർ', 'ശ്രീ\u200cകുമാർ'],
  ['രാജന്\u200d', 'രാജന്\u200d'], // the spelling of ൻ before Unicode 5.1
  ['ක්\u200dෂ', 'ක්\u200dෂ'],
  ['', ''],
]));

test('Cleaning a clean name changes nothing.', () => {
  const alphabet = [...'Aa e\u0301ı1#ക്നعیᠠ한\u1112\u1161\u11abタﾞ❤😀👩💻🏽🏴🇩🇪', '\u200b', '\u200c', '\u200d', '\ufe0f', '\ufe0e', '\u20e3', '\u2800',
    '\u180b', '\u{e0067}', '\u{e007f}', '\u3000', '\t', '\x1b', '\u2028', '\ud83d', '\u0958', '\ufb1d'];
  let seed = 1;
  for (let n = 0; n < 2000; n++) {
    let name = '';
    for (let i = 0; i < 8; i++) {
      seed = Math.imul(seed, 1103515245) + 12345 & 0x7fffffff;
      name += alphabet[(seed >>> 8) % alphabet.length];
    }
    const clean = cleanName(name);
    assert.equal(cleanName(clean), clean, JSON.stringify(name));
    assert.ok(sameName(name, clean), JSON.stringify(name));
    if (clean !== '' && !clean.startsWith('@')) {
      assert.deepEqual(findMentions(clean, name), [[0, clean.length]], JSON.stringify([name, clean]));
    }
  }
});

test('Names are equal that look alike, but for case, width and joiners.', () => check(sameName, [
  ['Ann', 'Ann', true],
  ['Ann', 'ANN', true],
  ['Ann', 'Ann\u200b', true],
  ['Ann', ' Ann ', true],
  ['Ann Lee', 'Ann \u00a0Lee', true],
  ['Ann', 'Ａｎｎ', true],
  ['Ann', '𝐀𝐧𝐧', true],
  ['José', 'Jose\u0301', true],
  ['José', 'Jose', false],
  ['タロウ', 'ﾀﾛｳ', true],
  ['ダイ', 'ﾀﾞｲ', true],
  ['한', '\u1112\u1161\u11ab', true],
  ['Straße', 'STRASSE', true],
  ['Straße', 'STRAẞE', true],
  ['ΣΟΦΟΣ', 'σοφος', true],
  ['ΣΟΦΟΣ', 'σοφοσ', true],
  ['İpek', 'ipek', true],
  ['İPEK', 'İpek', true],
  ['Işık', 'IŞIK', true],
  ['ΑΝΝΑ', 'Анна', false],
  ['Анна', 'АННА', true],
  ['علی\u200cرضا', 'علیرضا', true],
  ['❤', '❤\ufe0f', true],
  ['👩', '👩\u200d💻', false],
  ['👍', '👍🏽', false],
  ['🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}', '🏴', false],
  ["O'Brien", 'O’Brien', true], // phones type ’
  ['Ann-Marie', 'Ann\u2010Marie', true],
  ['Ann-Marie', 'Ann\u2011Marie', true],
  ['محمد', 'ﻣﺤﻤﺪ', true],
  ['小明', '⼩明', true],
  ['Ann', 'Anna', false],
  ['Ann', 'A nn', false],
  ['Ann', 'Ann.', false],
]));

test('A line "NAME: TEXT" has a name that can be seen.', () => check(parse, [
  ['Ann: hi', {name: 'Ann', text: 'hi'}],
  ['Ann:  hi', {name: 'Ann', text: ' hi'}],
  ['Ann: ', {name: 'Ann', text: ''}],
  ['Ann:hi', {text: 'Ann:hi'}],
  [' Ann: hi', {text: 'Ann: hi'}],
  ['  Ann: hi', {text: '  Ann: hi'}],
  ['Ann: a: b', {name: 'Ann', text: 'a: b'}],
  ['Ann : hi', {name: 'Ann', text: 'hi'}],
  ['Jose\u0301: e\u0301', {name: 'José', text: 'e\u0301'}], // a text stays as it is
  ['A\u200bnn: hi', {name: 'Ann', text: 'hi'}],
  ['\u200b: hi', {text: '\u200b: hi'}],
  ['\u3164\u2800: hi', {text: '\u3164\u2800: hi'}],
  ['\u200b Ann: hi', {name: 'Ann', text: 'hi'}],
  ['An\x1bn\u202e: \x1b[1m\u202e', {name: 'Ann', text: '␛[1m\ufffd'}],
  ['Ann\u2028: hi', {text: 'Ann\u2028: hi'}],
  ['Ann: one\u2028two', {name: 'Ann', text: 'one\u2028two'}],
  ['x'.repeat(64) + ': hi', {name: 'x'.repeat(64), text: 'hi'}],
  ['x'.repeat(65) + ': hi', {text: 'x'.repeat(65) + ': hi'}],
  ['👩'.repeat(64) + ': hi', {name: '👩'.repeat(64), text: 'hi'}],
  [': hi', {text: ': hi'}],
  ['', {text: ''}],
]));

// In these rows « and » enclose the mentions of the name.
const mentions = [
  // Reports of other chats, by their numbers.
  ['nickname', 'https://mastodon.gamedev.place/@nickname/101075087356757315 mail@nickname.info'], // converse.js 1327
  ['番茄', '我爱吃«番茄»炒饭'], // mattermost 8590
  ['user1', '«＠user1»さん'], // mattermost 34302
  ['🚀', 'deploy «🚀»«🚀»!'], // mattermost 9233
  ['Илья', 'привет, «илья»! Ильяс'], // mattermost 22758
  ['test.', '«@test.»: something'], // Rocket.Chat 956
  ['rafael', 'hi «@rafael».'], // Rocket.Chat 10563
  ['test1', 'test > «@test1», >«@test1»'], // Rocket.Chat 28846
  ['Jackson Wages', '«@Jackson Wages» would'], // Rocket.Chat 6363
  ['سارة', 'مرحبا «@سارة»، كيف'], // Rocket.Chat 1639
  ['test', 'ütest testü tést «test»'], // element-web 6695
  ['&Adam', 'Adam «&Adam»'], // element-web 6307
  ['a`b', '«a`b»: hi'], // element-web 9028
  ['Tom', 'tomorrow phantom «Tom»'], // riot-android 3469
  ['rda', 'yesterday'], // element-android 1781
  ['Rob', 'Robå Roba «Rob»'], // weechat 644
  ['N', 'någonting nää snål «N»'], // weechat 644
  ['H', 'Höhe öH Hß «H»'], // scripts.irssi.org 694
  ['ncf', '(«ncf») <«ncf»> (quaff «ncf»)'], // halloy 2260
  ['dgw', '+«dgw» «@dgw» %«dgw»'], // thelounge 159
  ['nick', '@«@nick», nicki-minaj-is-my-hero'], // thelounge 158
  ['a-[]`{}', '«a-[]`{}», hi'], // IRC-js 17
  ['c', 'carrot b/c c++ C# e.c. «c»: «c», («c») /«c» «@c»++'], // hexchat 1060
  ["Bonnie O'Neil", '«Bonnie O’Neil»'], // swdv691-write-ups-web-app 23
  ['Léo Dubois', '«@Le\u0301o Dubois»'], // Signal-Desktop 5359
  ['Mark', 'M\u0430rk'], // element-web 5826: the letter of another script is another letter
  ['john', '@john.citizen «@john».'], // matterhorn 373
  ['john.citizen', '«@john.citizen»'], // matterhorn 373
  ['Kenny🟢', '«@Kenny🟢» hi'], // stream-chat-react 2368
  ['Kenny.  ', '«@Kenny.» hi'], // stream-chat-react 2368
  ['The H', 'the Habiticans, «the H»'], // habitica 9506
  ['cafe\u0301', '«@café»'], // bitchat 214
  ['Ana', '@Ana\u0301 «@Ana»'], // f0 5430
  ['MiguelX413', '«@MiguelX413»は'], // instaloader 1455
  ['example', 'josé@example.com почта@example.ru αλφα@example.com'], // multica 8502
  ['Mi', '你好«@Mi» 从\u3000«@mi»'], // multica 8502
  ['timluc-miptev', "«@timluc-miptev», what's up"], // urbit 4247
  ['libert', '@libertyxweekly'], // esteem 91
  ['加贝', '«@加贝»你好'], // esoTalk 146
  ['adam', "«adam»'s, «Adam», Adams"], // online-go 890
  ['bjrambo', "(«@bjrambo») «@bjrambo»'s «@bjrambo»님 «@bjrambo»様"], // rhymix 448
  ['서울', '«서울»은어디인가요?'], // remnic 2161
  // Words.
  ['Ann', '«Ann»'],
  ['Ann', 'hi «Ann»!'],
  ['Ann', '(«Ann»), "«Ann»", *«Ann»*, <«Ann»>, «Ann»: «Ann»; «Ann»…«Ann»?'],
  ['Ann', 'Anna, Joanna, mañAnn, mañana, Ann2, 2Ann, Ann_, _Ann, Annß, ÄAnn, Annи'],
  ['Ann', '«ann» «ANN» «aNn»'],
  ['Ann', "«Ann»'s «Ann»’s «Ann»'in d'«Ann» d’«Ann» '«Ann»' ‘«Ann»’"],
  ['Ann', '«Ann»-san non-«Ann» «Ann»- -«Ann» «Ann»--«Ann» «Ann»–Bob'],
  ['Ann', 'Ann-Marie Marie-Ann Éva-Ann @Ann-Marie'],
  ['Ann-Marie', '«Ann-Marie» «@Ann-Marie»'],
  ['Ann', '1/«Ann», «Ann»/Bob, «Ann»+Bob, «Ann»&Bob, a=«Ann», #«Ann», ~«Ann»~, |«Ann»|'],
  ['Ann', 'one\u2028«Ann»\u2028two'],
  ['Ann', ''],
  ['', 'Ann'],
  ['\u200b', 'A\u200b'],
  ["O'Brien", "«O’Brien», «O'Brien»'s «@o’brien»’s"],
  ['Ann', 'Ann\u200ba Ann\u200ca Jo\u200bann'],
  ['Ann', '«@Ann»\u2005hi'], // WeChat's space
  // With @.
  ['Ann', '«@Ann» hi'],
  ['Ann', '«＠Ann», «﹫Ann»'],
  ['Ann', '@«@Ann» @ «Ann» /«@Ann» >«@Ann» («@Ann») hi«@Ann»'],
  ['Ann', '@Anna @Ann_ @Ann2'],
  ['@Ann', '«@Ann» «Ann»'],
  ['Ann', 'joe@ann.com ann@example.com ann.lee@example.com joe@mail.ann.com josé@ann.com почта@ann.ru'],
  ['Ann', 'https://ann.com/ann?ann#ann http://x.org/@Ann/1'],
  ['Ann', 'https://x.org «Ann» https://x.org，«Ann»'],
  // Letters and marks.
  ['Anne', 'Anne\u0301'],
  ['Anné', '«Anne\u0301» «Anné» Anne'],
  ['Anne\u0301', '«Anné»'],
  ['e\u0301', 'cafe\u0301 «é»'],
  ['Ann', '«Ａｎｎ» «𝐀𝐧𝐧» «A\u200bnn» «A\u00adn\ufeffn»'],
  ['A\u200bnn', 'hi «Ann»'],
  ['Straße', '«STRASSE» «strasse» «STRAẞE»'],
  ['ss', 'ßßß «ß»'],
  ['s', 'ß «s»'],
  ['İpek', '«ipek» «İPEK» «i̇pek» İpekli'],
  ['ΣΟΦΟΣ', '«Σοφος», «σοφοσ» σοφός'],
  ['fi', '«ﬁ» ﬁn'],
  ['f', 'ﬁ «f»'],
  ['Анна', '«анна», Аннабель, с «Анна»'],
  ['राम', '«राम» ने, रामा'],
  // One character, digits, symbols.
  ['J', '«J», thanks «j»! «J»\'s jam'],
  ['t', "don't don’t «t» «@t»"],
  ['m', "I'm a.m. «m»"],
  ['R', 'R&D «R»'],
  ['7', '«7» 17 7th «@7»'],
  ['42', '«42» 420 142'],
  ['Ann2', '«Ann2» Ann22 Ann'],
  ['a_b', '«a_b» a_bc'],
  ['Ann Lee', '«Ann Lee» «ann  lee» «Ann\u3000Lee» «Ann\u2028Lee» Ann Leeds AnnLee'],
  ['.', '... hi. «@.» «.»'],
  ['?', 'what? ?? «?»'],
  [':)', 'hi:) «:)» «@:)»'],
  ['C++', '«C++» C++11 «C++», C'],
  ['$Adam', '«$Adam» Adam'],
  ['{ Adam }', '«{ Adam }», Adam'],
  ['test.', '«@test.»: hi, «test.» test.com'],
  ['a.*b', '«a.*b» axxb'],
  ['[x]\\', '«[x]\\» x'],
  // Emoji.
  ['🦊', '«🦊» hi«🦊»! «🦊»«🦊» «@🦊»さん'],
  ['👩', '👩\u200d💻 👩🏽 «👩»'],
  ['👩\u200d💻', '«👩\u200d💻» 👩💻'],
  ['👍', '👍🏽 «👍»'],
  ['❤', '«❤\ufe0f» «❤»'],
  ['❤\ufe0f', '«❤»'],
  ['🇩🇪', '«🇩🇪» «🇩🇪»🇫🇷'],
  ['🇪🇩', '🇩🇪🇩🇪 «🇪🇩»'],
  ['Ann🦊', '«Ann🦊» «@ann🦊» Ann'],
  ['Ann', '«Ann»🦊 🦊«Ann»'],
  ['🦊Ann', '«🦊Ann» 🦊Anna'],
  // Chinese and Japanese.
  ['小明', '«@小明»你好'],
  ['小明', '«小明»，你好！你好«小明»你好 大«小明»'],
  ['小明', '你好«@小明»，你好«＠小明»'],
  ['小明', '小红'],
  ['小明', '«小明»3点来'],
  ['小明', '小明_2'],
  ['明', '明天 说明 «明»，你好 «@明»天 «明»さん'],
  ['林', '«林»さん 林田さん 小林'],
  ['田中', '«田中»さん'],
  ['さくら', '«さくら»ちゃん «さくら»ー'],
  ['アン', 'アンテナ プラン アンー «アン»さん «アン»、«アン»・リー'],
  ['ｱﾝ', '«アン»さん «ｱﾝ»さん アンテナ ｱﾝﾃﾅ'],
  ['Ann', '«Ann»さん、你好«Ann»你好'],
  ['Ａｎｎ', 'おい«ann»、'],
  ['辻', '«辻\u{e0100}»さん'],
  // Korean.
  ['민수', '«민수»야 «민수»는 «민수»씨 «@민수»님'],
  ['민수', '김민수 지민수야'],
  ['민수', '안녕«@민수»야'],
  ['민수', '«\u1106\u1175\u11ab\u1109\u116e»야'],
  ['미', '민 «미»'],
  ['Ann', '«Ann»은 «Ann»씨 안녕«Ann»'],
  // Thai, Lao, Khmer, Burmese.
  ['สมชาย', 'สวัสดี«สมชาย»ครับ «@สมชาย»'],
  ['สม', 'สมิ สมา «สม»ชาย'],
  ['มา', 'เมา «มา»ลี'],
  ['ນາງ', 'ສະບາຍດີ«ນາງ»'],
  ['សុខា', 'សួស្តី«សុខា»'],
  ['មាន', 'ស្មាន «មាន»'],
  ['အောင်', 'မင်္ဂလာပါ«အောင်»'],
  // Arabic and Hebrew.
  ['محمد', '«محمد» و«محمد» ل«محمد»، محمدي سمحمد'],
  ['علی', '«علی\u200c»جان علیرضا'],
  ['علی\u200cرضا', '«علیرضا» «علی\u200cرضا»'],
  ['דנה', '«דנה» ל«דנה» ש«דנה» דנהה'],
];

test('A name is mentioned where it is a word of its own.', () => check(function (name, marked) {
  const text = marked.replace(/[«»]/g, '');
  let at = 0, shown = '';
  for (const [start, end] of findMentions(text, name)) {
    shown += text.slice(at, start) + '«' + text.slice(start, end) + '»';
    at = end;
  }
  return shown + text.slice(at);
}, mentions.map(([name, marked]) => [name, marked, marked])));

test('At most 20 mentions are found, and long texts are no trouble.', () => {
  assert.equal(findMentions('Ann '.repeat(1000), 'Ann').length, 20);
  for (const text of ['Ann'.repeat(40000), 'A'.repeat(100000), '明'.repeat(100000), 'A-'.repeat(50000), ('A'.repeat(99) + '-Ann ').repeat(1000), '://ann/'.repeat(20000),
    'ann@'.repeat(30000), 'a\u0301'.repeat(50000), '\u200b'.repeat(100000) + 'A', '👩\u200d'.repeat(50000) + 'A', ' '.repeat(100000) + 'A']) {
    ['Ann', 'A', '明', 'a\u0301'].forEach(name => assert.ok(findMentions(text, name).length <= 20));
  }
});

test('A text is blank if nothing of it can be seen.', () => check(isBlank, [
  ['\u2800'.repeat(30), true], // element-web 34019, ddnet 2163
  ['\u200b', true], // tdesktop 3145
  ['', true],
  [' \t\n\u2028\u3000', true],
  ['\u200b\u200d\ufeff\u2060', true],
  ['\u2800\u2800', true],
  ['\u3164\u115f\uffa0', true],
  ['\u202e\u2066', true],
  ['\u{1d159}\ufffc', true],
  ['\u{e0041}', true],
  ['.', false],
  ['\u200b.', false],
  ['\x1b', false], // shown as ␛
  ['\ud800', false], // sent as \ufffd
  ['👩\u200d💻', false],
  ['\u0301', false],
]));

test('Lone surrogates are replaced, and pairs stay.', () => check(wellFormed, [
  ['a😀b', 'a😀b'],
  ['\ud83d', '\ufffd'],
  ['\ude00\ud83d', '\ufffd\ufffd'],
  ['a\ud83d😀\ude00b', 'a\ufffd😀\ufffdb'],
]));

test('Control characters are shown, and all others stay.', () => check(visible, [
  ['a\tb\u2028c', 'a\tb\u2028c'],
  ['\0\x1b\n\r\x7f', '␀␛␊␍␡'],
  ['\x80\x9f\u202a\u202e\u2066\u2069', '\ufffd'.repeat(6)],
  ['\u200e\u200b👩\u200d💻', '\u200e\u200b👩\u200d💻'],
]));
