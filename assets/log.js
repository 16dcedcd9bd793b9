// log.js: the log. Entries of lines, notices, and rules between them; what is new, and what is in view.

import {path, load, save, device, person} from './store.js';
import {isOwn, nextPosition, serverTime} from './connection.js';

const maxEntries = 2000;
const groupTime = 5 * 60 * 1000; // milliseconds
const [$log, $lines, $outbox, $below] = ['#log', '#lines', '#outbox', '#below'].map(id => $(id));

// element makes an element. Text is text wherever it comes from.
export function element(name, className, ...children) {
  const e = document.createElement(name);
  e.className = className;
  return append(e, children);
}

// append appends children one by one: there can be too many for one call.
function append(e, children) {
  for (const child of children) {
    e.append(child);
  }
  return e;
}

export function count(n, what) {
  return n + ' ' + what + (n === 1 ? '' : 's');
}

// ---- Lines.

// parse returns the name and the text of a line: NAME: TEXT, or just TEXT. A space before what looks
// like a name says that it is none.
export function parse(line) {
  const [, space, name, text] = /^( ?)([^\s:][^:\u2028]{0,63}): (.*)$/su.exec(line) ?? [];
  return name === undefined ? {text: line} : space ? {text: line.slice(1)} : {name, text};
}

const dayFormat = new Intl.DateTimeFormat(undefined, {dateStyle: 'full'});
const fullFormat = new Intl.DateTimeFormat(undefined, {dateStyle: 'full', timeStyle: 'medium'});

export const clock = at => at.toTimeString().slice(0, 5);

function timeOf(at) {
  const time = element('time', '', clock(at));
  time.dateTime = at.toISOString();
  time.title = fullFormat.format(at);
  return time;
}

// entry makes the entry of a line, with its time or a mark before it.
function entry(line, classes, before) {
  const {name, text} = parse(line);
  const body = element('span', 'body');
  body.dir = 'auto';
  if (name !== undefined) {
    const called = element('bdi', 'name', name);
    called.style.setProperty('--hue', hue(name));
    body.append(element('span', 'speaker', called, ' '));
  }
  const own = classes.includes('own');
  body.append(append(element('span', 'text'), formatted(text.replaceAll('\u2028', '\n'), !own)));
  const made = element('div', 'entry ' + classes, before, body);
  made.line = {name, text, own};
  return made;
}

// hue gives each name one of twelve colours, the same on all screens: FNV-1a, folded.
function hue(name) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) {
    hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  }
  return ((hash ^ hash >>> 16) >>> 0) % 12 * 30;
}

// formatted returns text as strings, links, and where marked, mentions of the person's name.
function formatted(text, marked) {
  return text.split(/(\bhttps?:\/\/[^\s<>"]*[^\s<>"'.,:;!?)\]}])/i).flatMap(function (part, i) {
    if (i % 2 === 0 || !URL.canParse(part)) {
      return marked ? withMentions(part) : part;
    }
    const a = element('a', '', part);
    a.href = part;
    a.target = '_blank';
    a.rel = 'noopener noreferrer';
    return a;
  });
}

// mention matches @name and the word. It is made anew when the name changes.
let mention;

function mentionOf(name) {
  if (mention?.name !== name) {
    const escaped = name.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
    mention = {name, pattern: new RegExp('(?<![\\p{L}\\p{N}_])(@?' + escaped + ')(?![\\p{L}\\p{N}_])', 'iu')};
  }
  return mention.pattern;
}

export const mentions = text => Boolean(person.name) && mentionOf(person.name).test(text);

function withMentions(text) {
  return mentions(text) ? text.split(mentionOf(person.name)).map((part, i) => i % 2 ? element('mark', '', part) : part) : text;
}

// ---- Adding to the log, once an animation frame.

let waiting = []; // elements
let following = true; // the end of the log is in view
let below = 0; // entries that came while it was not
let drawing = false;

function add(added) {
  waiting.push(added);
  if (waiting.length > maxEntries) {
    waiting.shift();
  }
  if (!drawing) {
    drawing = true;
    document.hidden ? setTimeout(draw, 200) : requestAnimationFrame(draw);
  }
}

// draw adds what is waiting, if anything is.
export function draw() {
  drawing = false;
  if (waiting.length === 0) {
    return;
  }
  const lines = $lines[0];
  below += waiting.filter(added => added.line).length;
  lines.append(...arranged(waiting));
  waiting = [];
  while (lines.childElementCount > maxEntries) {
    lines.firstElementChild.remove();
  }
  if ((rule === 'added' || rule === 'shown') && !newRule.isConnected) {
    lines.prepend(newRule); // it was further up
  }
  lines.querySelector('.entry')?.classList.remove('continued');
  group($outbox.children('.entry').get(), lines.lastElementChild);
  $('#empty').prop('hidden', true);
  follow();
}

// arranged returns elements with rules between days, and entries grouped.
let lastDay = dayFormat.format(new Date());

function arranged(elements) {
  const all = [];
  for (const added of elements) {
    const day = added.line?.at && dayFormat.format(added.line.at);
    if (day && day !== lastDay) {
      lastDay = day;
      all.push(element('div', 'day', element('span', '', day)));
    }
    all.push(added);
  }
  group(all, $lines[0].lastElementChild);
  return all;
}

// group has entries of one speaker within some minutes share the name and time of the first. The first
// of entries follows last, if there is one.
function group(elements, last) {
  let previous = last?.line;
  for (const {line, classList} of elements) {
    const began = previous?.began ?? previous?.at;
    const continued = line?.name !== undefined && line.name === previous?.name && line.own === previous.own &&
      (line.at ?? Date.now()) - began < groupTime;
    classList.toggle('continued', continued);
    if (line) {
      line.began = continued ? began : line.at ?? Date.now();
    }
    previous = line;
  }
}

// notice adds a notice and returns it.
export function notice(text) {
  const added = element('div', 'notice', element('span', 'body', text));
  add(added);
  return added;
}

// moveNotice changes a notice and moves it to the end.
export function moveNotice(moved, text) {
  moved.firstElementChild.textContent = text;
  if (!waiting.includes(moved)) {
    add(moved);
  }
}

// ---- What is in view.

function follow() {
  if (following) {
    below = 0;
    $log[0].scrollTop = $log[0].scrollHeight;
  }
  $below.prop('hidden', below === 0).text('↓ ' + count(below, 'new message'));
}

export function toEnd() {
  following = true;
  follow();
}

export function scroll(pages) {
  $log[0].scrollBy(0, pages * $log[0].clientHeight * 0.9);
}

$log.on('scroll', function () {
  const log = $log[0];
  following = log.scrollTop > log.scrollHeight - log.clientHeight - 8;
  if (following && below > 0) {
    follow();
  }
});
$below.on('click', function () {
  toEnd();
  $('#msg').trigger('focus');
});
new ResizeObserver(follow).observe($log[0]);

// ---- What is new: what was said since the person looked elsewhere, also before a reload. A rule stands
// before the first of it. The title counts it while the person is away.

const newRule = element('div', '', element('span', '', 'New'));
newRule.id = 'new';
let read = load(device, path + ':read', {}); // position of the first line that was not seen; {} if nothing was
let absence = {from: Infinity, to: 0}; // when the person left and came back, by the server's clock
let rule = 'none'; // since the person left; then added, shown when it was brought into view, or removed
let unread = 0;
let whenUnread = () => {};

export const isAway = () => document.hidden || !document.hasFocus();

// onUnread has a function called with the number of unread lines.
export function onUnread(f) {
  whenUnread = f;
  f(unread);
}

// isNew reports whether a line was said while the person was away. It may come later.
function isNew({own, old, position, at}) {
  return !own && (old ? read.epoch === position.epoch && position.seq >= read.seq : isAway() || at >= absence.from && at <= absence.to);
}

function markNew() {
  if (isAway()) {
    whenUnread(++unread);
  }
  if (rule === 'none') {
    rule = 'added';
    removeRule();
    add(newRule);
  }
}

function removeRule() {
  waiting = waiting.filter(added => added !== newRule);
  newRule.remove();
}

function leave() {
  read = nextPosition() ?? read;
  save(device, path + ':read', read);
  rule = 'none';
  for (const one of $lines.children('.entry').get()) {
    one.line.isFresh = false;
  }
  absence = {from: serverTime(), to: Infinity};
}

function comeBack() {
  unread = 0;
  absence.to = serverTime();
  whenUnread(0);
  draw();
  showNew();
}

// showNew brings the rule into view, once, when the person is there.
export function showNew() {
  if (rule !== 'added' || isAway()) {
    return;
  }
  rule = 'shown';
  const top = newRule.isConnected ? newRule.offsetTop - $lines[0].offsetTop : Infinity;
  if (top < $log[0].scrollTop) {
    following = false;
    below = $(newRule).nextAll('.entry').length;
    $log[0].scrollTop = top;
    follow();
  }
}

let away = isAway();

function look() {
  if (away !== isAway()) {
    away = !away;
    away ? leave() : comeBack();
  }
}

$(window).on('blur focus', look);
$(document).on('visibilitychange', look);
$(document).on('keydown', function (event) {
  if (event.key === 'Escape' && !event.originalEvent.isComposing && newRule.isConnected) {
    rule = 'removed';
    removeRule();
  }
});

// ---- Lines as they come and go.

// addLine adds a line, and reports whether it is new.
export function addLine(line) {
  const {text, at, position, message, own} = line;
  const isFresh = isNew(line);
  if (isFresh) {
    markNew();
  }
  message?.element.remove();
  const added = entry(text, own ? 'own' : '', timeOf(at));
  Object.assign(added.line, {at, position, isFresh});
  add(added);
  return isFresh;
}

// queue shows a message that is to be sent.
export function queue(message) {
  message.element = entry(message.text, 'own', element('span', 'mark', 'unsent'));
  setTimeout(() => $(message.element).addClass('late'), 2000);
  $outbox.append(message.element);
  group($outbox.children('.entry').get(), $lines[0].lastElementChild);
  $('#empty').prop('hidden', true);
  toEnd();
}

// settle takes a message that will not be heard from the outbox into the log, with a mark.
export function settle(message, classes, mark) {
  message.element.remove();
  add(entry(message.text, 'own ' + classes, element('span', 'mark', mark)));
}

// claimOwn marks lines as own that were said in another tab.
export function claimOwn() {
  for (const one of $lines.children('.entry:not(.own)').get().concat(waiting)) {
    if (one.line?.position && isOwn(one.line.position)) {
      makeOwn(one);
    }
  }
  group($lines.children().get());
  placeRule();
}

function makeOwn(one) {
  one.line.own = true;
  one.classList.add('own');
  $(one).find('mark').replaceWith((i, text) => document.createTextNode(text));
  if (one.line.isFresh) {
    one.line.isFresh = false;
    whenUnread(unread = Math.max(0, unread - 1));
  }
}

// placeRule has the rule stand before the first line that is new.
function placeRule() {
  draw();
  const fresh = $lines.children('.entry').get().find(one => one.line.isFresh);
  if (newRule.isConnected && fresh) {
    fresh.before(newRule);
  } else if (newRule.isConnected) {
    removeRule();
    rule = 'none';
  }
}

// ---- The clipboard gets name and time of each line, but for a part of a text.

function plain({line: {at, name, text}}) {
  const said = name === undefined ? text : name + ': ' + text;
  return (at ? clock(at) + ' ' : '') + said.replaceAll('\u2028', '\n');
}

// isSelected reports whether some text of an entry is in a range.
function isSelected(one, range) {
  if (!range.intersectsNode(one)) {
    return false;
  }
  const part = range.cloneRange(), whole = document.createRange();
  whole.selectNodeContents(one);
  if (part.compareBoundaryPoints(Range.START_TO_START, whole) < 0) {
    part.setStart(whole.startContainer, whole.startOffset);
  }
  if (part.compareBoundaryPoints(Range.END_TO_END, whole) > 0) {
    part.setEnd(whole.endContainer, whole.endOffset);
  }
  return part.toString() !== '';
}

$(document).on('copy', function ({originalEvent}) {
  const selection = getSelection();
  if (selection.rangeCount === 0 || $(originalEvent.target).is('input, textarea')) {
    return;
  }
  const range = selection.getRangeAt(0);
  const entries = $log.find('.entry').get().filter(one => isSelected(one, range));
  if (entries.length > 0 && $(range.commonAncestorContainer).closest('.text').length === 0) {
    originalEvent.clipboardData.setData('text/plain', entries.map(plain).join('\n'));
    originalEvent.preventDefault();
  }
});
