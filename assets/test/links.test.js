// The cases say where links begin and end, what they show, and where they lead.

import {test} from 'node:test';
import assert from 'node:assert/strict';
import {splitLinks} from '../links.js';

// A case is a text with its links in ⟦⟧. A link shows what stands in the brackets, or what follows a ⇒ there.
const cases = {
  'plain addresses': [
    '',
    'no link at all, just a.b and 3:4',
    '⟦https://example.com⟧',
    '⟦https://example.com/⟧',
    'See ⟦http://example.com/foo_bar/⟧ and ⟦https://example.com/?a=b&c=d#e⟧ too',
    '⟦https://example.com?q=1⇒https://example.com/?q=1⟧ ⟦https://example.com#top⇒https://example.com/#top⟧',
    '⟦HTTPS://EXAMPLE.COM/Path⇒https://example.com/Path⟧',
    '⟦http://localhost:8080/x⟧ and ⟦http://host-name⟧',
    '⟦http://localhost:8000⟧?',
    '⟦https://example.com:443/x⇒https://example.com/x⟧',
    '⟦https://example.com⟧: it is there, and ⟦https://example.com./x⟧',
    '⟦http://[::1]:8080/x⟧ and ⟦http://[2001:DB8::0:1]/⇒http://[2001:db8::1]/⟧',
    '⟦http://192.168.1.1/abc⟧ and ⟦http://999⇒http://0.0.3.231⟧',
    '⟦https://example.com/a--b/c-⟧',
    '⟦https://example.com/a..b...c⟧ ⟦https://example.com/a,b;c:d!e@f$g⟧',
    '⟦https://www.google.com/maps/place/New+York,+NY/@40.7,-73.9,11z/data=!4m2!3m1!1s0x8:0xc8?hl=en⟧',
    '⟦https://example.com/a/../b⇒https://example.com/b⟧',
    '⟦https://example.com/100%25/%2F%20x⟧ and ⟦https://example.com/50%⟧',
    '⟦https://web.archive.org/web/2020/https://example.com/x⟧',
    'text:⟦http://example.com/⟧ git+⟦https://example.com/x.git⟧',
    '⟦https://en.wikipedia.org/wiki/Guns_N\'_Roses⟧, ⟦https://en.wikipedia.org/wiki/Rock_\'n\'_Roll⟧, \'⟦https://e.example/a⟧\'', // rocket.chat 9739
    'line one ⟦https://example.com/a⟧\n⟦https://example.com/b⟧\tend',
  ],
  'www. without a scheme leads to http:, as on GitHub': [
    '⟦www.example.com⟧ and (⟦www.example.com/a_(b)⟧).',
    '请看⟦www.example.com⟧，谢谢',
    '⟦WWW.Example.com/Path⇒www.example.com/Path⟧',
    'www. www.example www..com www.- wwwx.example.com',
    'me@www.example.com www.example.com@evil.example a.www.example.com ftp://www.example.com',
  ],
  'what is no link': [
    'http:// https:// http://. http://.. http://# http://## http://? http://??',
    'http://.example.com http://-example.com https:///example.com https:/example.com',
    'javascript:alert(1) JavaScript://%0aalert(1) data:text/html,x vbscript:x file:///etc/passwd',
    'ftp://example.com mailto:me@example.com tel:+123 about:blank //example.com ://example.com',
    'xhttp://example.com hhttps://example.com 1https://example.com hppt://example.com',
    'http://1.2.3.400 http://example.com:500000 http://[::zz] http://[1 https://exa\ufffdmple.com',
    'https://' + 'a'.repeat(300) + '.example',
    'http://⟦https://example.com/x⟧',
    'javascript:⟦https://example.com⟧',
  ],
  'punctuation at the end': [
    '⟦https://example.com⟧. ⟦https://example.com/a⟧, ⟦https://example.com/b⟧; ⟦https://example.com/c⟧:',
    '⟦https://example.com/a⟧! ⟦https://example.com/b⟧? ⟦https://example.com/c⟧... ⟦https://example.com/d⟧…',
    '⟦https://example.com/a⟧?! ⟦https://example.com/b⟧!!!',
    '⟦https://example.com/a?b=c⟧? ⟦https://example.com/a?b=c⟧.',
    '⟦https://example.com/a⟧– so',
    '⟦https://example.com/Michelson–Morley⟧',
    '⟦https://example.com/a-⟧. ⟦https://example.com/a/#⟧',
  ],
  'balanced brackets': [
    '⟦https://en.wikipedia.org/wiki/Go_(programming_language)⟧',
    '(⟦https://en.wikipedia.org/wiki/Go_(programming_language)⟧)',
    '(see ⟦https://en.wikipedia.org/wiki/Go_(programming_language)⟧).',
    '(⟦https://example.com/a⟧) [⟦https://example.com/b⟧] {⟦https://example.com/c⟧}',
    '(⟦https://example.com⟧)0 [⟦https://example.com/⟧]0 (⟦https://example.com/a⟧)b',
    '⟦https://example.com/a_(b_(c)_d)_e⟧ ⟦https://example.com/a_(b)_(c)⟧',
    '⟦https://example.com/a[b]⟧ ⟦https://example.com/a([b])⟧ ⟦https://example.com/a⟧([b)]',
    '⟦https://example.com/{id}/x⇒https://example.com/%7Bid%7D/x⟧',
    '⟦https://example.com/a⟧(the second paragraph) is it',
    '⟦https://example.com⟧(the first one)',
    '⟦https://example.com/a(b)⟧.',
    '⟦https://example.com/⟧)))) and ⟦https://example.com/⟧((((',
    '(((⟦https://example.com/a⟧)))',
    '⟦http://index.example/a.2.b.(Wrox,.2010,.0470565527).pdf⟧',
  ],
  quotes: [
    '"⟦https://example.com/a⟧" \'⟦https://example.com/a⟧\' `⟦https://example.com/a⟧`',
    '“⟦https://example.com/a⟧” ‘⟦https://example.com/a⟧’ „⟦https://example.com/a⟧“ ‚⟦https://example.com/a⟧‘',
    '«⟦https://example.com/a⟧» »⟦https://example.com/a⟧« ‹⟦https://example.com/a⟧› « ⟦https://example.com/a⟧ »',
    "['⟦https://example.com/a⟧','⟦https://example.com/b⟧']",
    '{"url":"⟦https://example.com/a⟧","next":"⟦https://example.com/b⟧"}',
    "⟦https://example.com/I'm_king⟧ ⟦https://example.com/10'-x⟧ ⟦https://example.com/a⟧'",
    '⟦https://fr.wikipedia.org/wiki/L’Équipe⟧ et ⟦https://example.com/l⟧’',
    '"say \\"⟦https://example.com/a⟧\\" to him"',
  ],
  markup: [
    '[x](⟦https://example.com/a⟧) and [y](⟦https://example.com/a_(b)⟧ "title")',
    '[⟦https://example.com/a⟧](⟦https://example.com/a⟧)',
    '[https](⟦https://www.ibm.example⟧)[mailto](mailto:someone@ibm.example)',
    '![picture](⟦https://example.com/a.png⟧)',
    '<⟦https://example.com/a⟧> <⟦https://example.com⟧>. <⟦https://example.com/a⟧',
    '**⟦https://example.com/a⟧** *⟦https://example.com⟧* _⟦https://example.com/a⟧_ ~~⟦https://example.com/a⟧~~',
    '||⟦https://example.com/a⟧|| |⟦https://example.com⟧| ｜⟦https://example.com/a⟧｜b',
    '<a href="⟦https://example.com/a?b=c&d=e⟧">x</a> <b>⟦https://example.com/a⟧</b>',
    "<a href='⟦https://example.com/a⟧'>x</a> <a href=⟦https://example.com/a⟧>x</a>",
    '[url=⟦https://example.com/a⟧]x[/url] [url]⟦https://example.com/a⟧[/url] [[⟦https://example.com/a⟧]]',
    '>⟦https://example.com/a⟧ \\url{⟦https://example.com/a⟧}',
    '&lt;⟦https://example.com/a⟧&gt; &quot;⟦https://example.com/a⟧&quot;, &lt;⟦https://example.com⟧&gt;',
    '⟦https://example.com/?a=b&amp;c=d⟧ ⟦https://example.com/?a=b⟧&copy; ⟦https://example.com/a⟧&#39;',
    '⟦https://example.com/a_b*c~d⟧ ⟦https://example.com/a⟧.**',
  ],
  Chinese: [
    '⟦https://example.com⟧，请看',
    '请看⟦https://example.com⟧。',
    '请看⟦https://example.com/a⟧，然后⟦https://example.com/b⟧；还有⟦https://example.com/c⟧！好吗？',
    '⟦https://example.com⟧请看',
    '链接：⟦https://example.com/a⟧、⟦https://example.com/b⟧',
    '（⟦https://example.com/a⟧） 【⟦https://example.com/a⟧】 《⟦https://example.com/a⟧》 「⟦https://example.com/a⟧」了',
    '（见⟦https://zh.wikipedia.org/wiki/苹果（公司）⟧）',
    '访问⟦https://example.com/docs⟧（中文说明）了解更多',
    '“⟦https://example.com/a⟧”是这个 ‘⟦https://example.com/a⟧’是那个',
    '⟦https://example.com/a⟧……然后 ⟦https://example.com/b⟧——好',
    '⟦https://zh.wikipedia.org/wiki/你好⟧，很好',
    '⟦https://zh.wikipedia.org/wiki/%E4%BD%A0%E5%A5%BD%EF%BC%8C⇒https://zh.wikipedia.org/wiki/你好%EF%BC%8C⟧',
    '⟦https://example.com⟧请联系me@example.org',
    '**⟦https://example.com/a⟧**，谢谢',
    '⟦https://例子.中国/路⟧ ⟦https://中文.com/⟧',
  ],
  Japanese: [
    '⟦https://example.com⟧です。⟦https://example.com/a⟧。',
    '「⟦https://example.com/⟧」と『⟦https://example.com/a⟧』と｢⟦https://example.com/b⟧｣',
    '⟦https://ja.wikipedia.org/wiki/東京（曖昧さ回避）⟧、です',
    '⟦https://ja.wikipedia.org/wiki/スティーブ・ジョブズ⟧、',
    '⟦https://ja.wikipedia.org/wiki/Yahoo!#ドットコムバブル（2000年_-_2001年）⟧',
    '⟦https://日本語.jp/⟧ ⟦https://ドメイン.テスト⟧ ⟦https://example.jp⟧は',
    '⟦https://example.com/a⟧　全角の空白 ⟦https://example.com/a⟧｡',
    '⟦https://example.com/a⟧､次 ⟦https://example.com/a⟧〜 ⟦https://example.com/a⟧．次',
  ],
  Korean: [
    '⟦https://example.com⟧에서 보세요',
    '⟦https://ko.wikipedia.org/wiki/한국어_(언어)⟧, (⟦https://example.com/a⟧)를',
    '⟦https://한국.kr⟧ ⟦http://도메인.한국/⟧',
  ],
  'Arabic and Hebrew': [
    'انظر ⟦https://example.com/a⟧، ثم ⟦https://example.com/b⟧؛ أو ⟦https://example.com/c⟧؟',
    '(⟦https://ar.wikipedia.org/wiki/لغة_(برمجة)⟧) ﴿⟦https://example.com⟧﴾',
    '⟦https://موقع.مصر⟧ ⟦https://موقع.مصر/⟧ ⟦https://موقع.مصر/a⇒https://xn--4gbrim.xn--wgbh1c/a⟧',
    '⟦https://fa.wikipedia.org/wiki/می\u200cشود⇒https://fa.wikipedia.org/wiki/می%E2%80%8Cشود⟧',
    'ראו ⟦https://example.com/a⟧, (⟦https://he.wikipedia.org/wiki/עברית⟧).',
    '״⟦https://example.com/a⟧״ ⟦https://he.wikipedia.org/wiki/צה״ל⟧',
    '⟦https://דוגמה.קום⇒https://דוגמה.קום⟧ ⟦https://דוגמה.קום:81⇒https://xn--6dbbec0c.xn--9dbq2a:81⟧',
  ],
  'Thai, Hindi and Russian': [
    'ดู⟦https://example.com⟧ครับ ⟦https://th.wikipedia.org/wiki/ภาษาไทย⟧',
    '⟦https://ไทย.ไทย/หน้า⟧',
    'देखो ⟦https://example.com/a⟧। ⟦https://hi.wikipedia.org/wiki/हिन्दी⟧॥',
    'Смотри: ⟦https://example.com/a⟧, «⟦https://ru.wikipedia.org/wiki/Го_(язык)⟧».',
    '⟦https://ru.wikipedia.org/wiki/%D0%93%D0%BE⇒https://ru.wikipedia.org/wiki/Го⟧',
    '⟦https://президент.рф/путь⟧ ⟦https://ПРИМЕР.РФ⇒https://пример.рф⟧',
    'Հայ ⟦https://example.com/a⟧։ አማ ⟦https://example.com/a⟧። ខ្មែរ ⟦https://example.com/a⟧។',
    '⟦http://bücher.example⇒http://xn--bcher-kva.example⟧ ⟦https://παράδειγμα.ευ⇒https://xn--hxajbheg2az3al.xn--qxa6a⟧',
  ],
  emoji: [
    '⟦https://example.com⟧👍 ⟦https://example.com⟧❤️ 🎉⟦https://example.com/a⟧ 🎉',
    '⟦https://example.com/😀⟧ ⟦https://i❤.ws/⇒https://xn--i-7iq.ws/⟧',
    '⟦https://example.com/❤\ufe0f⇒https://example.com/❤%EF%B8%8F⟧',
  ],
  'what imitates another host': [
    '⟦https://аррӏе.com⇒https://xn--80ak6aa92e.com⟧ ⟦https://xn--80ak6aa92e.com⟧',
    '⟦https://gооgle.com/x⇒https://xn--ggle-55da.com/x⟧ ⟦https://apple.cоm⇒https://apple.xn--cm-fmc⟧',
    '⟦https://paypàl.com⇒https://xn--paypl-uqa.com⟧ ⟦https://ɢoogle.com⇒https://xn--oogle-wmc.com⟧',
    '⟦https://ⓖⓞⓞⓖⓛⓔ.com⇒https://google.com⟧ ⟦https://ｅｘａｍｐｌｅ.com/⇒https://example.com/⟧',
    '⟦https://аррӏе日本.jp⇒https://xn--80ak6aa92e5236bo4b.jp⟧ ⟦https://a日本.jp⇒https://xn--a-kn6bt1b.jp⟧',
    'https://google.com@⟦evil.example/x⇒https://evil.example/x⟧',
    'http://me:secret@⟦example.com:8080/⇒http://example.com:8080/⟧ http://@⟦example.com⇒http://example.com⟧',
    'https://a@b.example@⟦evil.example⇒https://evil.example⟧',
    'https://www.bank.example%2Flogin&id=1@⟦evil.example⇒https://evil.example⟧',
    '⟦https://example.com⟧\\@evil.example ⟦https://example.com⟧∕@evil.example',
    '⟦https://evil.example/@example.com⟧ ⟦https://evil.example/⁄example.com⟧',
    '⟦https://evil.example?@example.com⇒https://evil.example/?@example.com⟧',
    '⟦https://example.com/a\\b⇒https://example.com/a/b⟧',
    '⟦http://0x7f.1/⇒http://127.0.0.1/⟧ ⟦http://2130706433⇒http://127.0.0.1⟧',
  ],
  'what nobody can see': [
    '⟦https://example.com/\u202egpj.exe⇒https://example.com/%E2%80%AEgpj.exe⟧',
    '⟦https://example.com/a\u2066b\u2069c⇒https://example.com/a%E2%81%A6b%E2%81%A9c⟧',
    '⟦https://example.com/a\u200bb?\u2060#\u00adx⇒https://example.com/a%E2%80%8Bb?%E2%81%A0#%C2%ADx⟧',
    '⟦https://example.com/a\u3164b\u2800c\u034fd⇒https://example.com/a%E3%85%A4b%E2%A0%80c%CD%8Fd⟧',
    '⟦https://example.com/%E2%80%AEx%C2%A0%E3%80%80⟧',
    '\u2066⟦https://example.com/a⟧\u2069 ⟦https://example.com/a⟧\u200b ⟦https://example.com⟧\u200e\u202c',
    '⟦https://exam\u200bple.com/⇒https://example.com/⟧ https://exam\u202eple.com/',
    '⟦https://example.com/a⟧\0b ⟦https://example.com⟧\0 ⟦https://example.com/a⟧\x1b[0m ⟦https://example.com/a⟧\x85',
    '⟦https://example.com/a⟧␀b ⟦https://example.com⟧␡',
    '⟦https://example.com/a⟧\u00a0b ⟦https://example.com/a⟧\u2028⟦https://example.com/b⟧\ufeff',
    '⟦https://example.com/\ud800x⇒https://example.com/\ufffdx⟧ ⟦https://example.com⟧\udc00 https://exa\ud800mple.com',
    '⟦https://example.com/%FF%D0⟧ ⟦https://example.com/%d0%93⟧ ⟦https://example.com/%u0416⟧',
  ],
};

// partsOf returns the text of a case and the parts that splitLinks must return for it.
function partsOf(marked) {
  let text = '';
  const parts = [];
  for (const [i, part] of marked.split(/[⟦⟧]/).entries()) {
    const [typed, shown = typed] = i % 2 ? part.split('⇒') : [part];
    text += typed;
    if (i % 2) {
      parts.push({href: new URL(/^www/.test(shown) ? 'http://' + shown : shown).href, text: shown});
    } else if (typed !== '') {
      parts.push(typed);
    }
  }
  return {text, parts};
}

for (const [name, list] of Object.entries(cases)) {
  test('links: ' + name, function () {
    for (const marked of list) {
      const {text, parts} = partsOf(marked);
      assert.deepEqual(splitLinks(text), parts, JSON.stringify(text));
    }
  });
}

test('what a link shows is found again as the same link', function () {
  for (const marked of Object.values(cases).flat()) {
    for (const {href, text} of splitLinks(partsOf(marked).text)) {
      assert.deepEqual(text && splitLinks(text), text && [{href, text}]);
    }
  }
});

test('a text has at most 50 links', function () {
  const parts = splitLinks('https://a.example/ '.repeat(60));
  assert.equal(parts.filter(part => part.href).length, 50);
  assert.equal(parts.slice(-1)[0], ' ' + 'https://a.example/ '.repeat(10));
});

// Quadratic time would be minutes here.
test('hostile texts of 100,000 characters are split', function () {
  const units = ['(', ')', '.', '/', 'a', 'é', '看', '\u202e', '@', '&amp;', 'https://', 'http://[', 'www.', 'www.a.',
    '看www.', 'https://a', 'https://a/(', 'https://a/（', 'https://é.', 'https://a.1.', 'https://a@', 'https://a:',
    'https://1.2.3.400 ', 'https://xn--a ', 'https://a/%D0', 'https://a/\u200b', 'https://a/\'', 'https://a/“”',
    'https://1-', 'http://看.'];
  for (const unit of units) {
    for (const start of ['', 'https://a.example/看']) {
      const parts = splitLinks(start + unit.repeat(100000 / unit.length));
      assert.ok(parts.filter(part => part.href).length <= 50, unit);
      assert.ok(parts.every(part => part !== ''), unit);
    }
  }
});

// Nothing that a sender types can make a link of another kind, or one that shows another host than it has.
test('random texts have only links that show where they lead', function () {
  const words = ['http://', 'https://', 'www.', 'javascript:', 'a.example', 'example.com', 'рф', 'é', '看', 'א', '80',
    '/', '?', '#', '@', ':', '.', '(', ')', '[', ']', '\u202e', '\u200b', '\ud83d', '%', '%E2%80%AE', '%2F', ' ', '，',
    '"', "'", '\\', '\0', '&gt;', 'xn--'];
  let seed = 1;
  const random = n => (seed = seed * 48271 % 2147483647) % n;
  for (let i = 0; i < 2000; i++) {
    const text = Array.from({length: 1 + random(12)}, () => words[random(words.length)]).join('');
    for (const part of splitLinks(text)) {
      if (part.href) {
        const shown = new URL((/^www/.test(part.text) ? 'http://' : '') + part.text);
        assert.equal(shown.href, part.href, JSON.stringify(text));
        assert.match(part.href, /^https?:\/\/[^/@]+\//, JSON.stringify(text));
        assert.doesNotMatch(part.text, /[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}]/u, JSON.stringify(text));
      } else {
        assert.ok(text.includes(part) && part !== '', JSON.stringify(text));
      }
    }
  }
});
