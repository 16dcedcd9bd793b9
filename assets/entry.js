// entry.js makes the elements of one line. Whatever a sender chooses, an entry has few elements and a limited
// height. It exports entry, fill, foldIfHigh and costOf, and the helpers element, plural, clock
// and inWords.

import {person} from './store.js';
import {findMentions} from './names.js';
import {splitLinks} from './links.js';

const maxMarks = 20; // mentions that are marked in a line; splitLinks bounds the links
const maxHeight = 22; // em; a higher entry is folded to the height that the style gives it
const maxRows = 12; // rows shown of a folded text
const maxShown = 1200; // letters shown of a folded text
const maxName = 100; // letters shown of a name

// width returns about how many letters are as wide as text. Wide symbols, cuneiform and emoji are slow to lay out.
const width = text => text.replace(/[\p{So}\u{10000}-\u{1ffff}]/gu, 'wwwwww').length;

// beginning returns the start of text that is about as wide as most letters, and has at most maxRows rows.
function beginning(text, most) {
  const start = text.split('\n', maxRows).join('\n').slice(0, most);
  return start.slice(0, most * start.length / width(start)).replace(/[\ud800-\udbff]$/, ''); // half a character
}

// costOf returns about how many elements a line has, if each link or mention has 8 characters. A long text costs
// more, because of its memory.
export const costOf = ({text}) => 8 + Math.min(70, width(text.slice(0, maxShown)) / 8) + text.length / 500;

// element returns a new element with children. Strings among them become text, never markup.
export function element(name, className, ...children) {
  const e = document.createElement(name);
  e.className = className;
  e.append(...children);
  return e;
}

// plural returns n and a noun in the right number: "1 message", "2 messages".
export const plural = (n, noun) => n + ' ' + noun + (n === 1 ? '' : 's');

// clock returns the time of day of a Date, as hh:mm.
export const clock = at => at.toTimeString().slice(0, 5);

// inWords returns a Date or number in the person's language. Some browsers know no time zone, and throw.
export function inWords(value, options) {
  try {
    return value.toLocaleString(undefined, options);
  } catch {
    return value.toString().slice(0, 21);
  }
}

// timeElement gets its title, the date and time, only when the pointer reaches it, because formatting them is slow.
const timeElement = at => Object.assign(element('time', '', clock(at)), {
  dateTime: at.toISOString(),
  onmouseenter: ({target}) => { target.title = inWords(at, {dateStyle: 'full', timeStyle: 'medium'}); },
});
const link = (href, text) =>
  Object.assign(element('a', '', text), {href, dir: 'ltr', target: '_blank', rel: 'noopener noreferrer'});
const mention = text => element('mark', '', text);

// hue returns one of twelve hues for a name, in degrees, the same on all devices.
const hue = name => [...name].reduce((sum, c) => (31 * sum + c.codePointAt(0)) % 1009, 0) % 12 * 30;

// entry makes the entry of a line, its property element, and returns it. A line has name and text, as parse
// returns them, own, at and position, as in the event line, and isNew. In the place of at it may have mark, a
// word. classes are additional classes. An entry has the property line.
export function entry(line) {
  const {name, mark, classes} = line, body = element('span', 'body', element('span', 'text'));
  body.dir = 'auto';
  if (name !== undefined) {
    const shownName = element('bdi', 'name', beginning(name, maxName));
    shownName.style.setProperty('--hue', hue(name));
    body.prepend(element('span', 'speaker', shownName, ' '));
  }
  line.text = line.text.replace(/[\u2028\u2029]/g, '\n').replace(/(\p{M}{8})\p{M}+/gu, '$1');
  line.element = element('div', 'entry', mark ? element('span', 'mark', mark) : timeElement(line.at), body);
  $(line.element).addClass(classes);
  line.element.line = line;
  fill(line);
  return line.element;
}

// fill gives the entry of a line its text, with links and mentions. An own line mentions nobody.
export function fill({element: e, text, own, isOpen}) {
  const shown = [], shortened = beginning(text, maxShown);
  let left = isOpen || shortened === text ? Infinity : shortened.length; // a link may show more than was typed
  let marks = own || !person.name ? 0 : maxMarks;
  for (const part of splitLinks(text)) {
    const piece = (part.text ?? part).slice(0, left);
    left -= piece.length;
    if (piece && part.href) {
      shown.push(link(part.href, piece));
    } else if (piece) {
      const found = marks > 0 ? findMentions(piece, person.name).slice(0, marks) : [];
      const ends = [0, ...found.flat(), piece.length]; // of pieces that are unmarked and marked in turn
      shown.push(...ends.slice(1).map((end, i) => (i % 2 ? mention : String)(piece.slice(ends[i], end))));
      marks -= found.length;
    }
  }
  e.classList.toggle('own', own);
  e.querySelector('.text').replaceChildren(...shown);
}

// foldIfHigh folds those of the lines that are long, or high in this page. Their entries must be in the page.
export function foldIfHigh(lines) {
  const limit = maxHeight * parseFloat(getComputedStyle(document.body).fontSize);
  const high = lines.filter(({element: e, text}) => e.offsetHeight > limit || beginning(text, maxShown) !== text);
  $(high.map(line => line.element)).filter((i, e) => !e.querySelector('.fold')).addClass('folded').find('.body')
    .append('<button class="fold plain" type="button" aria-expanded="false">Show more</button>');
}

$('#log').on('click', '.fold', function () {
  const {line} = this.closest('.entry');
  line.isOpen = !line.isOpen;
  $(line.element).toggleClass('folded', !line.isOpen);
  $(this).attr('aria-expanded', String(line.isOpen)).text(line.isOpen ? 'Show less' : 'Show more');
  fill(line);
});
