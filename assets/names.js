// names.js owns names: how they are cleaned, compared and found in a text. It also owns what of a text can be
// seen. It exports visible, parse, cleanName, sameName, findMentions, isBlank and wellFormed.

// These are parts of character classes. unseen has what shows nothing, among it blanks that Unicode counts as
// symbols, such as the Braille blank. shaped has the scripts in which a joiner changes the letters beside it.
const unseen = String.raw`\p{Default_Ignorable_Code_Point}\u2800\ufff9-\ufffc\u{16fe4}\u{1d159}`;
const hidden = unseen + String.raw`\0-\x08\x0e-\x1f\x7f-\x9f`;
const shaped = ['Arab', 'Syrc', 'Nkoo', 'Deva', 'Beng', 'Guru', 'Gujr', 'Orya', 'Taml', 'Telu', 'Knda', 'Mlym', 'Sinh', 'Khmr', 'Mymr']
  .map(script => `\\p{Script=${script}}`).join('');

// notNeeded matches hidden characters, and captures what needs one and stays: letters with a joiner, emoji, flags
// and keycaps. Of these, notCompared captures only flags and emoji with a joiner.
const letter = `(?![${unseen}])[${shaped}]`, picture = '\\p{Extended_Pictographic}', tone = '\\p{Emoji_Modifier}';
const flag = String.raw`\u{1f3f4}[\u{e0030}-\u{e0039}\u{e0061}-\u{e007a}]{4,6}\u{e007f}`;
const emoji = `(?:(?!\\p{Emoji_Presentation})${picture}[\\ufe0e\\ufe0f]|${picture}${tone}?)`;
const notNeeded = new RegExp(`(${letter}[\\u200c\\u200d](?=${letter})|\\u0d4d\\u200d|[\\u1820-\\u18aa][\\u180b-\\u180f]|` +
  `${flag}|${emoji}(?:\\u200d${emoji})*|[0-9#*]\\ufe0f\\u20e3)|[${hidden}]`, 'gu');
const notCompared = new RegExp(`(${flag}|${picture}${tone}*\\u200d(?=${picture}))|[${hidden}]`, 'gu');
const blank = new RegExp(`^[\\s${unseen}]*$`, 'u');

// controls matches control characters, but not the tab. Among them are those that change the direction of a
// text. Marks such as U+200E and joiners stay, because some languages and emoji need them.
const controls = /[\0-\x08\n-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

// visible returns text with a visible character in the place of each control character. A terminal into
// which somebody pastes a line would obey control characters.
export function visible(text) {
  return text.replace(controls, c => c < ' ' ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : c === '\x7f' ? '\u2421' : '\ufffd');
}

// isBlank reports whether nothing of a text can be seen. Control characters can, because visible shows them.
export const isBlank = text => blank.test(text);

// wellFormed returns text with U+FFFD in the place of each lone surrogate.
export const wellFormed = text => text.replace(/\p{Surrogate}/gu, '\ufffd');

// cleanName returns a name as the page shows it: composed, trimmed, with single spaces, and without what
// can't be seen, except where a script or an emoji needs it. It returns '' if nothing remains.
export function cleanName(text) {
  const name = wellFormed(text).replace(notNeeded, '$1').replace(/\s+/g, ' ').trim().normalize('NFC');
  return name === text ? name : cleanName(name); // composing may change what a joiner stands beside
}

// fold returns text as names are compared. It decomposes compatibility characters, because Ａｎｎ is Ann to a
// reader. Lower case after upper case makes ß and ss equal. So are σ and ς, all i of Turkish, and the
// apostrophes and hyphens that keyboards put in the place of ' and -.
function fold(text) {
  const plain = text.replace(/[\ufe0e\ufe0f]/g, '').replace(notCompared, '$1').replace(/\s+/g, ' ').normalize('NFKD');
  return plain.toLowerCase().toUpperCase().toLowerCase()
    .replace(/ς/g, 'σ').replace(/i\u0307/g, 'i').replace(/[‘’ʼ]/g, "'").replace(/‐/g, '-');
}

// sameName reports whether two names are equal but for case, width, and what can't be seen.
export const sameName = (a, b) => fold(cleanName(a)) === fold(cleanName(b));

// parse returns {name, text} of a line "NAME: TEXT", and {text} of any other, as the page shows them. A NAME
// that can't be seen is no name. The first space of " NAME: TEXT" only says that NAME is no name, and goes.
export function parse(line) {
  const [, space, raw, text] = /^( ?)([^\s:][^:\u2028]{0,63}): (.*)$/su.exec(line) ?? [];
  const name = raw && !space && cleanName(raw);
  return name ? {name, text: visible(text)} : {text: visible(space ? line.slice(1) : line)};
}

// ---- Mentions. A name is mentioned where it is no part of a longer word. Its neighbours decide that:
//
//   - A letter, a digit or "_" continues a name. So Ann is not in Anna, mañAnn or Ann_2.
//   - Scripts without spaces begin a word anywhere: 小明 is in 你好小明 and in 大小明, because only a dictionary
//     can tell. But a name of one character needs an @ beside characters of its script, as 明 in 明天.
//   - Katakana continues Katakana, so アン is not in アンテナ. Other Japanese may follow it: アンさん.
//   - Hangul may follow a name, because it may be a particle: 민수야, Ann은. Before a Korean name it may not.
//   - A name of symbols alone needs an @ or white space. An emoji needs neither.
//   - After @ a name begins anywhere. The last patterns below have the other cases.

// segment matches white space, an emoji, or a character with what belongs to it.
const segment = new RegExp(`\\s[\\s${hidden}]*|\\p{Regional_Indicator}{2}|(?:${picture}[\\ufe0e\\ufe0f${tone}]*\\u200d(?=${picture}))*` +
  `[^][\\p{M}${tone}\\u1160-\\u11ff\\ud7b0-\\ud7ff\\uff9e\\uff9f${hidden}]*`, 'gu');
const word = /^[\p{L}\p{N}\p{M}_]/u, at = /^[@＠﹫]/, symbol = /^(?!\p{Extended_Pictographic}|\p{Regional_Indicator})[\p{P}\p{S}]/u;

// These match two neighbours with "|" between them. bound includes Thai and Lao vowels, and the signs that put
// one Khmer or Burmese consonant below another.
const bound = /^_|\|_|^\p{scx=Kana}.*\|\p{scx=Kana}|^\p{Logical_Order_Exception}|\|[ะาำๅະາຳ]|[\u1039\u17d2\u1a60]\|/su;
const spaceless = ['Hani', 'Hira', 'Kana', 'Bopo', 'Thai', 'Laoo', 'Khmr', 'Mymr', 'Tale', 'Lana', 'Java'].map(s => `\\p{scx=${s}}`);
const separator = `[${spaceless.join('')}\\p{scx=Hang}${picture}\\p{Regional_Indicator}]`;
const separable = new RegExp(`^${separator}|\\|${separator}`, 'u');
const alike = new RegExp(spaceless.map(script => `^${script}.*\\|${script}`).join('|'), 'su');
const korean = /^\p{scx=Hang}.*\|\p{scx=Hang}/su;

// These match a text with NUL in the place of the name. elsewhere matches a URL, a mail address, @ann.lee, and
// a name with a hyphen: Ann-Marie, but neither Ann-san nor non-Ann. torn matches the T of don't and the C of
// C++ and b/c. prefixed matches Arabic and Hebrew words of one letter, such as "and": ومحمد, לדנה.
const elsewhere = new RegExp(String.raw`://[!-~]*\0|\0[\w.+-]*@[\w-]+\.\w|[\p{L}\p{N}]@(?:\0[\w.-]*\.\w|[\w.-]*\.\0)|@\0\.\p{Ll}|` +
  String.raw`\p{Lu}[\p{L}\p{M}]*[-‐‑]\0|\0[-‐‑]\p{Lu}`, 'u');
const torn = /\p{L}['’]\0|[\p{L}\p{N}][/&.-]\0|\0(?:[+#]|[/&.-][\p{L}\p{N}])/u, prefixed = /(?:^|[^\p{L}\p{N}\p{M}_])[وفبلكובהכלמש]\0/u;

// findMentions returns where text mentions name, as an array of [start, end], at most 20. Both are positions
// in UTF-16 units. An @ before the name is part of the mention. The time is linear in the length of text.
export function findMentions(text, name) {
  const wanted = fold(cleanName(name)).replace(/^@(?=.)/su, ''), found = [];
  const parts = wanted !== '' && fold(text).includes(wanted) ? text.match(segment) : [];
  const starts = [], partAt = new Map(); // partAt has the index of a part by its position in folded
  let folded = '', length = 0;
  for (const part of [...parts, '']) {
    partAt.set(folded.length, starts.push(length) - 1);
    folded += /^[!-~]$/.test(part) ? part.toLowerCase() : fold(part);
    length += part.length;
  }
  for (let i = -1; parts.length > 0 && (i = folded.indexOf(wanted, i + 1)) >= 0 && found.length < 20;) {
    const first = partAt.get(i), end = partAt.get(i + wanted.length);
    if (first !== undefined && end !== undefined && stands(text, parts, starts, first, end)) {
      found.push([starts[first] - (at.test(parts[first - 1]) ? parts[first - 1].length : 0), starts[end]]);
      i += wanted.length - 1;
    }
  }
  return found;
}

// stands reports whether the name in parts, from first to before end, is a word and no part of an address.
// Where U+200C follows a Persian name, a suffix begins.
function stands(text, parts, starts, first, end) {
  const name = parts.slice(first, end), last = parts[end - 1], before = parts[first - 1] ?? '', after = parts[end] ?? '';
  const called = at.test(before), pair = before + '|' + name[0];
  const context = text.slice(Math.max(0, starts[first] - 256), starts[first]) + '\0' + text.slice(starts[end], starts[end] + 64);
  return (/^\p{Script=Arab}.*\u200c$/u.test(last) || !continues(after, last + '|' + after, name, called)) &&
    (called || name.length > 2 && prefixed.test(context) ||
      !continues(before, pair, name, false) && !korean.test(pair) && !(name.length === 1 && torn.test(context))) &&
    !elsewhere.test(context);
}

// continues reports whether next, a neighbour of a name, belongs to its word. pair is next and the name's edge.
function continues(next, pair, name, called) {
  return word.test(next) ? bound.test(pair) || !separable.test(pair) || !called && name.length === 1 && alike.test(pair) :
    !called && symbol.test(next) && name.every(part => symbol.test(part));
}
