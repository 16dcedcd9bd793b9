// limit.js makes a line of what was typed, and counts it against the server's limit. The server counts
// bytes, and the page shows characters. It exports content, asLine and measure.

import {isBlank, parse, wellFormed} from './names.js';

// content returns a typed text without the blank rows around it, or '' if nothing of it can be seen.
export function content(typed) {
  const text = typed.trimEnd().replace(/^\n+/, '');
  return isBlank(text) ? '' : text;
}

// oneLine returns text with U+2028 for each line break, so that a message remains one line of the stream.
const oneLine = text => text.replace(/\n/g, '\u2028');

// beginning returns what stands before a text in its line: the name, or the space that says that a text such
// as "note: this" has no name in it. A name is shorter than the part of the text that is parsed.
const beginning = (text, name) => name ? name + ': ' : parse(oneLine(text.slice(0, 200))).name ? ' ' : '';

// asLine returns the line for the server. name may be ''.
export const asLine = (text, name) => beginning(text, name) + oneLine(wellFormed(text));

// count returns the number of characters of a text, some of which have two UTF-16 units.
const count = text => text.replace(/[\udc00-\udfff]/g, '').length;
const characters = n => n + (n === 1 ? ' character' : ' characters');

// measure compares the line that asLine would make with limit, in bytes. It returns {over, words}: whether the
// line is longer, and what the page says about its length; '' while the limit is far away.
export function measure(text, name, limit) {
  const line = beginning(text, name) + oneLine(text);
  const {read, written} = new TextEncoder().encodeInto(line, new Uint8Array(limit));
  if (read < line.length) {
    return {over: true, words: characters(count(line.slice(read))) + ' too long'};
  }
  const left = limit - written, isNear = text !== '' && left <= Math.max(64, limit / 10);
  const about = Math.floor(left * count(line) / written);
  return {over: false, words: isNear ? 'about ' + characters(about) + ' left' : ''};
}
