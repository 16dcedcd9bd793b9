// links.js finds the links in a text, without the DOM. It exports splitLinks.
// A link begins with http://, https:// or www. and ends where GitHub or linkify-it end it. Balanced brackets
// belong to a link, but the punctuation and the markup at its end do not. A full-width comma or full stop
// ends a link everywhere, because the scripts that use these marks have no spaces between words.
// The text of a link shows where the link leads: new URL(link.text) is link.href, if http:// is put before a
// text that begins with www.

const maxLinks = 50; // in a text, because a text of nothing but links would flood the page
const maxHost = 253; // characters, because DNS has no longer names
const beginning = /https?:\/\/|www\./gi;
const user = /[\w.~!$&+=:%@-]*@/y; // ASCII only, because "https://a.example请问b@c.example" has no user
const inHost = '\\p{L}\\p{M}\\p{N}\\p{So}'; // the URL parser decides which of them a host may have
const host = RegExp(
  `\\[[\\da-f:.]+\\]|(?!\\p{M})[${inHost}](?:[${inHost}\\p{Cf}\\p{Cs}._-]{0,300}[${inHost}])?(?:\\.(?=/))?`, 'iuy');
const tail = /[/?#][^\s\p{Z}\p{Cc}<>"`｜\u2400-\u2421]*/uy; // U+2400 to U+2421 stand for control characters

// glued matches the host in "a.exampleです", in which a word of a script without spaces follows. No top-level
// domain has ASCII letters together with such a script or with emoji.
const cjk = '\\p{sc=Han}\\p{sc=Hira}\\p{sc=Kana}\\p{sc=Hang}ー';
const spaceless = cjk + '\\p{sc=Thai}\\p{sc=Laoo}\\p{sc=Khmr}\\p{sc=Mymr}';
const glued = RegExp(`^(?:.*\\.)?[a-z\\d][a-z\\d-]*(?=[${spaceless}\\p{So}][^.]*$)(?!\ufffd)`, 'iu');

const token = /[\dA-Za-z/=%#-]+|&#?\w{1,31};|……|——|\[\/|./gsu; // a word, an entity, a mark, or a character
const stop = /^(?:[，。、；：！？．｡､]|……|——|\[\/)$/; // ends a link anywhere; [/ begins a tag of BBCode
const final = /(?:[^\p{P}\p{Cf}~～|^]|[/#%&@-])$/u; // a token that can be the last of a link
const pairs = '()[]{}（）［］｛｝｟｠「」『』｢｣【】〔〕〖〗〘〙〚〛《》〈〉⟨⟩⟪⟫«»‹›“”‘’';

// A host that could imitate another host is shown as punycode. A host imitates none if all of it is of one of
// these scripts, or if each of its labels is ASCII or East Asian. Greek is absent, because its domain ευ
// resembles eu. A right-to-left host would change places with a path, so it is shown only without one.
const scripts = 'Arab|Armn|Beng|Cyrl|Deva|Geor|Gujr|Guru|Hebr|Knda|Laoo|Mlym|Orya|Sinh|Taml|Telu|Thai';
const oneScript = RegExp(scripts.replace(/\w+/g, '^(?:(?!\\p{N})\\p{sc=$&}|[\\d.-])+$$'), 'u');
const cjkLabel = RegExp(`^(?:[a-z\\d-]*|[${cjk}\\d-]*)$`, 'u');
const rightToLeft = /[\p{sc=Arab}\p{sc=Hebr}]/u;

// hidden matches what stays escaped in a link's text: what nobody sees, and what would end a link.
const hidden = /[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\u2800，。、；：！？．｡､｜]/gu;

// splitLinks returns the parts of a text in order: strings, and {href, text} for each link. No string is
// empty. After 50 links the rest is one string. The time it takes is proportional to the length of text.
export function splitLinks(text) {
  const parts = [];
  let done = beginning.lastIndex = 0; // done is the number of characters of text that are in parts
  for (let match; parts.length < 2 * maxLinks && (match = beginning.exec(text)); ) {
    const link = linkAt(text, match.index, match[0].toLowerCase());
    if (link) {
      parts.push(text.slice(done, link.start), {href: link.href, text: link.text});
      done = beginning.lastIndex = link.end;
    }
  }
  return [...parts, text.slice(done)].filter(part => part !== '');
}

// linkAt returns the link whose scheme or www., in lower case, is at an index, or undefined. A link starts
// after its user: "https://bank.example@" stays text before it, because it looks like a host.
function linkAt(text, index, scheme) {
  const bare = scheme === 'www.', before = text[index - 1] ?? '';
  const hostIndex = bare ? index : index + scheme.length;
  const start = hostIndex + (bare ? 0 : matchAt(user, text, hostIndex).length);
  const whole = matchAt(host, text, start), name = glued.exec(whole)?.[0] ?? whole;
  let end = start + name.length;
  if ((bare ? /[\w.:/\\@+%&=#?-]/ : /[a-z\d]/i).test(before) || name === '' || name.length > maxHost ||
      text.startsWith('://', end) || bare && (text[end] === '@' || !/^www\.[^.]+\.[^.]/i.test(name))) {
    return undefined;
  }
  end += matchAt(/:\d+/y, text, end).length;
  const address = (bare ? 'http://' : scheme) + text.slice(start, end);
  const path = parsed(address) ? pathOf(matchAt(tail, text, end), before) : '';
  const url = parsed(address + path);
  return url && {start: start === hostIndex ? index : start, end: end + path.length, href: url.href,
    text: shown(url, name, path).slice(bare ? 'http://'.length : 0)};
}

function matchAt(pattern, text, index) {
  pattern.lastIndex = index;
  return pattern.exec(text)?.[0] ?? '';
}

function attempt(f, otherwise) {
  try {
    return f();
  } catch {
    return otherwise;
  }
}

const parsed = address => attempt(() => new URL(address));

// pathOf returns what of rest belongs to a link. before is the character before the link.
function pathOf(rest, before) {
  const open = []; // {closing, end} of each open bracket: its counterpart, and the end of a link before it
  let end = 0;
  for (const {0: c, index} of rest.matchAll(token)) {
    const pair = pairs.indexOf(c), next = index + c.length;
    if (stop.test(c) || pair % 2 === 0 && c > '\x7f' && rest[index - 1] < '\x80') {
      break; // a bracket of another script does not belong to an ASCII path
    } else if (pair % 2 === 0) {
      open.push({closing: pairs[pair + 1], end});
    } else if (c === open[open.length - 1]?.closing) {
      open.pop();
      end = next;
    } else if (/['’]/.test(c) ? /['‘’]/.test(before) || !/^[\p{L}\p{N}_&/-]/u.test(rest.slice(next)) : pair > 0) {
      break; // c is a quotation mark, not an apostrophe, or it closes a bracket before the link
    } else if (final.test(c)) {
      end = next;
    }
  }
  return rest.slice(0, open[0]?.end ?? end);
}

// shown returns the text of a link. name and path are its host and its path as the sender has typed them.
function shown(url, name, path) {
  const typed = name.normalize('NFKC').toLowerCase(), origin = url.protocol + '//' + url.host;
  const readable = /[^\0-\x7f]/.test(typed) && parsed('http://' + typed)?.hostname === url.hostname &&
    (oneScript.test(typed) || typed.split('.').every(label => cjkLabel.test(label))) &&
    !(rightToLeft.test(typed) && (url.port || path.length > 1));
  const rest = path && url.href.slice(origin.length); // '' if the sender has typed no slash
  return (readable ? origin.replace(url.hostname, typed) : origin) + rest.replace(/(?:%[89A-F][\dA-F])+/g,
    escaped => attempt(() => decodeURIComponent(escaped).replace(hidden, encodeURIComponent), escaped));
}
