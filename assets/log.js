// log.js owns the log: entries of lines, the outbox's entries, notices, and the rules between them. It also
// owns what is in view, and which lines are new to the person.
//
// It exports addLine, queue, settle, markOwn and notice with moveNotice, which change the log; draw,
// showNew, toEnd and scroll; isAway and onUnread; and the helpers element, plural, visible, parse, clock and
// mentions.

import {path, load, save, device, person} from './store.js';
import {isOwn, nextPosition, serverTime} from './connection.js';

const maxEntries = 2000; // elements in the log; more make a browser slow
const groupTime = 5 * 60 * 1000; // milliseconds after which a speaker's next line shows name and time again
const [$log, $lines, $outbox, $below] = ['#log', '#lines', '#outbox', '#below'].map(id => $(id));

// element returns a new element with children. Strings among them become text, never markup.
export function element(name, className, ...children) {
  const e = document.createElement(name);
  e.className = className;
  return append(e, children);
}

// append appends children one by one, because a line may have more links than a call can have arguments.
function append(e, children) {
  for (const child of children) {
    e.append(child);
  }
  return e;
}

// plural returns n and a noun in the right number: "1 message", "2 messages".
export function plural(n, noun) {
  return n + ' ' + noun + (n === 1 ? '' : 's');
}

// ---- Entries. The property line of an entry's element is an object with
//
//   name, text    of the line; name is undefined if the line has none
//   own           whether the person said it
//   at, position  as in connection.js's event line; undefined in the outbox
//   isNew         whether it was said while the person was away; set by addLine, makeOwn and startAbsence
//   began         when the first line of its group was said; set by group

// controls matches control characters, but not the tab. Among them are those that change the direction of a
// text. Marks such as U+200E and joiners stay, because some languages and emoji need them.
const controls = /[\0-\x08\n-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

// visible returns text with a visible character in the place of each control character. A terminal into
// which somebody pastes a line would obey control characters.
export function visible(text) {
  return text.replace(controls, c => c < ' ' ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : c === '\x7f' ? '\u2421' : '\ufffd');
}

// parse returns {name, text} of a line "NAME: TEXT", and {text} of any other, both visible. Everything that
// the page shows of a line passes here. parse removes the first space of " NAME: TEXT", which only says
// that NAME is no name.
export function parse(line) {
  const [, space, name, text] = /^( ?)([^\s:][^:\u2028]{0,63}): (.*)$/su.exec(line) ?? [];
  if (name === undefined || space) {
    return {text: visible(space ? line.slice(1) : line)};
  }
  return {name: visible(name), text: visible(text)};
}

const dayFormat = new Intl.DateTimeFormat(undefined, {dateStyle: 'full'});
const fullFormat = new Intl.DateTimeFormat(undefined, {dateStyle: 'full', timeStyle: 'medium'});

// clock returns the time of day of a Date, as hh:mm.
export const clock = at => at.toTimeString().slice(0, 5);

function timeElement(at) {
  const time = element('time', '', clock(at));
  time.dateTime = at.toISOString();
  time.title = fullFormat.format(at);
  return time;
}

// entry returns the entry of a line. first is its first child: the time, or a mark.
function entry(line, classes, first) {
  const {name, text} = parse(line);
  const body = element('span', 'body');
  body.dir = 'auto';
  if (name !== undefined) {
    const shownName = element('bdi', 'name', name);
    shownName.style.setProperty('--hue', hue(name));
    body.append(element('span', 'speaker', shownName, ' '));
  }
  const own = classes.includes('own');
  body.append(append(element('span', 'text'), formatted(text.replaceAll('\u2028', '\n'), !own)));
  const e = element('div', 'entry ' + classes, first, body);
  e.line = {name, text, own};
  return e;
}

// hue returns one of twelve hues for a name, in degrees, the same on all devices. It folds the name's
// FNV-1a hash.
function hue(name) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) {
    hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  }
  return ((hash ^ hash >>> 16) >>> 0) % 12 * 30;
}

// formatted returns text as an array of strings and links, with the person's name marked if marksName is
// true.
function formatted(text, marksName) {
  return text.split(/(\bhttps?:\/\/[^\s<>"]*[^\s<>"'.,:;!?)\]}])/i).flatMap(function (part, i) {
    if (i % 2 === 0 || !URL.canParse(part)) {
      return marksName ? withMentions(part) : part;
    }
    const a = element('a', '', part);
    a.href = part;
    a.target = '_blank';
    a.rel = 'noopener noreferrer';
    return a;
  });
}

let mention; // {name, pattern} of the last call of mentionOf

// mentionOf returns a pattern that matches name or @name as a word, and captures it.
function mentionOf(name) {
  if (mention?.name !== name) {
    const escaped = name.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
    mention = {name, pattern: new RegExp('(?<![\\p{L}\\p{N}_])(@?' + escaped + ')(?![\\p{L}\\p{N}_])', 'iu')};
  }
  return mention.pattern;
}

// mentions reports whether the person has a name and text contains it.
export const mentions = text => Boolean(person.name) && mentionOf(person.name).test(text);

function withMentions(text) {
  return mentions(text) ? text.split(mentionOf(person.name)).map((part, i) => i % 2 ? element('mark', '', part) : part) : text;
}

// ---- Drawing. Elements wait, and are added together, once an animation frame.

let waiting = []; // elements to append to the log; set by add, removeRule and draw
let drawPlanned = false; // draw will be called; set by add, reset by draw
let following = true; // the log stays at its end; set by scrolling, toEnd and showNew
let below = 0; // entries added since the log stopped following its end; set by draw, follow and showNew

function add(e) {
  waiting.push(e);
  if (waiting.length > maxEntries) {
    waiting.shift();
  }
  if (!drawPlanned) {
    drawPlanned = true;
    document.hidden ? setTimeout(draw, 200) : requestAnimationFrame(draw);
  }
}

// draw adds the waiting elements to the log at once.
export function draw() {
  drawPlanned = false;
  if (waiting.length === 0) {
    return;
  }
  const lines = $lines[0];
  below += waiting.filter(e => e.line).length;
  lines.append(...arranged(waiting));
  waiting = [];
  while (lines.childElementCount > maxEntries) {
    lines.firstElementChild.remove();
  }
  if ((rule === 'added' || rule === 'shown') && !newRule.isConnected) {
    lines.prepend(newRule); // the loop above has removed it, or add has dropped it
  }
  lines.querySelector('.entry')?.classList.remove('continued');
  group($outbox.children('.entry').get(), lines.lastElementChild);
  $('#empty').prop('hidden', true);
  follow();
}

let lastDay = dayFormat.format(new Date()); // day of the last line; arranged changes it

// arranged returns elements with rules between days, and groups their entries.
function arranged(elements) {
  const all = [];
  for (const e of elements) {
    const day = e.line?.at && dayFormat.format(e.line.at);
    if (day && day !== lastDay) {
      lastDay = day;
      all.push(element('div', 'day', element('span', '', day)));
    }
    all.push(e);
  }
  group(all, $lines[0].lastElementChild);
  return all;
}

// group marks the entries that continue a group of lines of one speaker, within groupTime. They show no
// name and time. last is the element before the first of elements, or null.
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

// notice adds a notice, and returns its element for moveNotice.
export function notice(text) {
  const e = element('div', 'notice', element('span', 'body', text));
  add(e);
  return e;
}

// moveNotice changes the text of a notice, and moves it to the end of the log.
export function moveNotice(e, text) {
  e.firstElementChild.textContent = text;
  if (!waiting.includes(e)) {
    add(e);
  }
}

// ---- What is in view.

function follow() {
  if (following) {
    below = 0;
    $log[0].scrollTop = $log[0].scrollHeight;
  }
  $below.prop('hidden', below === 0).text('↓ ' + plural(below, 'new message'));
}

// toEnd brings the log's end into view, and keeps it there until the person scrolls up.
export function toEnd() {
  following = true;
  follow();
}

// scroll scrolls the log down by a number of pages, or up if it is negative.
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

// ---- What is new. A line is new if somebody else said it while the person was away, even if it comes
// later or after a reload. A rule stands before the first new line. The title counts new lines while the
// person is away.

const newRule = element('div', '', element('span', '', 'New'));
newRule.id = 'new';

// firstUnseen is the position of the first line that the person hasn't seen, {epoch, seq}; {} if it is not
// known. startAbsence sets and stores it, for later loads of the page.
let firstUnseen = load(device, path + ':read', {});

// absence is when the person left and came back, by the server's clock in milliseconds. startAbsence and
// endAbsence set it.
let absence = {from: Infinity, to: 0};

// rule is the state of newRule since the person left: 'none', 'added', 'shown' once it was brought into
// view, or 'removed' by the person. markNew, showNew, startAbsence, placeRule and the key Escape set it.
let rule = 'none';

let unread = 0; // new lines since the person left; set by markNew, markOwn and endAbsence
let whenUnread = () => {}; // set by onUnread

// isAway reports whether the person is looking elsewhere.
export const isAway = () => document.hidden || !document.hasFocus();

// onUnread sets the function that is called with the number of unread lines, now and after each change.
export function onUnread(f) {
  whenUnread = f;
  f(unread);
}

// wasSaidInAbsence reports whether a line is new. firstUnseen decides about an old line, and absence about any
// other.
function wasSaidInAbsence({own, old, position, at}) {
  if (own) {
    return false;
  }
  return old ? position.epoch === firstUnseen.epoch && position.seq >= firstUnseen.seq :
    isAway() || at >= absence.from && at <= absence.to;
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
  waiting = waiting.filter(e => e !== newRule);
  newRule.remove();
}

function startAbsence() {
  firstUnseen = nextPosition() ?? firstUnseen;
  save(device, path + ':read', firstUnseen);
  rule = 'none';
  for (const e of $lines.children('.entry').get()) {
    e.line.isNew = false;
  }
  absence = {from: serverTime(), to: Infinity};
}

function endAbsence() {
  unread = 0;
  absence.to = serverTime();
  whenUnread(0);
  draw();
  showNew();
}

// showNew brings the rule into view if the person is there. It does so once for each absence.
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

let wasAway = isAway(); // set by checkAway

function checkAway() {
  if (wasAway !== isAway()) {
    wasAway = !wasAway;
    wasAway ? startAbsence() : endAbsence();
  }
}

$(window).on('blur focus', checkAway);
$(document).on('visibilitychange', checkAway);
$(document).on('keydown', function (event) {
  if (event.key === 'Escape' && !event.originalEvent.isComposing && newRule.isConnected) {
    rule = 'removed';
    removeRule();
  }
});

// ---- Lines and messages.

// addLine adds a line, which connection.js reports, and returns whether it is new. It removes the entry of
// line.message from the outbox.
export function addLine(line) {
  const {text, at, position, message, own} = line;
  const isNew = wasSaidInAbsence(line);
  if (isNew) {
    markNew();
  }
  message?.element.remove();
  const e = entry(text, own ? 'own' : '', timeElement(at));
  Object.assign(e.line, {at, position, isNew});
  add(e);
  return isNew;
}

// queue shows a message of connection.js's outbox below the log, and keeps its entry as message.element.
export function queue(message) {
  message.element = entry(message.text, 'own', element('span', 'mark', 'unsent'));
  setTimeout(() => $(message.element).addClass('late'), 2000);
  $outbox.append(message.element);
  group($outbox.children('.entry').get(), $lines[0].lastElementChild);
  $('#empty').prop('hidden', true);
  toEnd();
}

// settle moves a message from the outbox into the log, because its line won't come. The text mark stands in
// the place of the time. classes are the entry's additional classes, or ''.
export function settle(message, classes, mark) {
  message.element.remove();
  add(entry(message.text, 'own ' + classes, element('span', 'mark', mark)));
}

// markOwn shows a line as own if isOwn has become true of it, and no longer counts it as new.
export function markOwn() {
  for (const e of $lines.children('.entry:not(.own)').get().concat(waiting)) {
    if (e.line?.position && isOwn(e.line.position)) {
      makeOwn(e);
    }
  }
  group($lines.children().get());
  placeRule();
}

function makeOwn(e) {
  e.line.own = true;
  e.classList.add('own');
  $(e).find('mark').replaceWith((i, text) => document.createTextNode(text));
  if (e.line.isNew) {
    e.line.isNew = false;
    whenUnread(unread = Math.max(0, unread - 1));
  }
}

// placeRule moves the rule before the first new line, or removes it if no line is new.
function placeRule() {
  draw();
  const first = $lines.children('.entry').get().find(e => e.line.isNew);
  if (newRule.isConnected && first) {
    first.before(newRule);
  } else if (newRule.isConnected) {
    removeRule();
    rule = 'none';
  }
}

// ---- The clipboard. A copy of several entries has the time and the name of each. A copy from within one
// text is left to the browser.

function asPlainText({line: {at, name, text}}) {
  const line = name === undefined ? text : name + ': ' + text;
  return (at ? clock(at) + ' ' : '') + line.replaceAll('\u2028', '\n');
}

// isSelected reports whether range contains some text of e. A range may touch an element without that.
function isSelected(e, range) {
  if (!range.intersectsNode(e)) {
    return false;
  }
  const part = range.cloneRange(), whole = document.createRange();
  whole.selectNodeContents(e);
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
  const entries = $log.find('.entry').get().filter(e => isSelected(e, range));
  if (entries.length > 0 && $(range.commonAncestorContainer).closest('.text').length === 0) {
    originalEvent.clipboardData.setData('text/plain', entries.map(asPlainText).join('\n'));
    originalEvent.preventDefault();
  }
});
