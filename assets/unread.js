// unread.js owns what is new to the person: the lines that somebody else said while the person was away, or was
// reading further up. The rule "New" stands before the first of them, and the title counts those of an absence.
// What the person reads in one tab of the room is read in all its tabs. unread.js exports addLine, through which lines
// come into the log, markOwn, isAway and hasRead.

import {path, load, save, device, onStored} from './store.js';
import {emit, on} from './events.js';
import {nextPosition, serverTime} from './connection.js';
import {fill} from './entry.js';
import {append, plan, rows, unqueue} from './log.js';
import {isBlank, parse} from './names.js';
import {isOwn} from './own.js';
import {isNew, isRead} from './reading.js';
import {bringIntoView, change, isFollowing} from './view.js';

const idleTime = 3 * 60 * 1000; // milliseconds without a touch after which the person counts as absent
const newsTime = 5000; // milliseconds in which further new lines belong to those that came into view
const key = path + ':read';

const firstRead = load(device, key, {}); // read when the page was opened
let read = firstRead; // the position of the first line that may be unread
let unread = 0; // new lines since the person left
let wasBelow = false; // there are new lines below the view, where the person has scrolled up
let shownAt = -Infinity; // when the rule last came into view, by performance.now(); Infinity until a new rule does

// hasRead reports whether the person has read the line at a position, in this tab or another.
export const hasRead = position => isRead(position, read);

function setUnread(n) {
  if (unread !== n) {
    unread = n;
    emit('unread', n);
  }
}

// ---- Whether the person is there.

// isAway reports whether the person is looking elsewhere.
export const isAway = () => document.hidden || !document.hasFocus();

let lastTouch = performance.now(); // when the person last used keyboard or pointer
let returned = isAway() ? Infinity : 0; // when the person came back, by the server's clock; as in reading.js

// checkPresence finds out whether the person is there. event is what the person has just done, or undefined.
function checkPresence(event) {
  lastTouch = event ? performance.now() : lastTouch;
  const isThere = !isAway() && performance.now() - lastTouch < idleTime;
  if (isThere && returned === Infinity) {
    returned = serverTime();
    plan();
  } else if (!isThere && returned < Infinity) {
    returned = Infinity;
    shownAt = -Infinity;
  }
}

$(window).on('focus blur', checkPresence);
$(document).on('visibilitychange keydown pointerdown wheel', checkPresence).on('mousemove', function (event) {
  if (event.originalEvent.movementX || event.originalEvent.movementY) { // or the page moves below the mouse
    checkPresence(event);
  }
});

// ---- New lines.

// addLine adds the line of an event, and returns whether it is new. A line without a visible text is not shown.
export function addLine(line) {
  checkPresence();
  const {at, position, own, old, message} = line, {name, text} = parse(line.text), isShown = !isBlank(text);
  const isBelow = !old && !own && !isFollowing(), isUnseen = isShown && (isBelow || isNew(line, old ? firstRead : read, returned));
  if (isUnseen && (isBelow ? !wasBelow : performance.now() - shownAt > newsTime)) {
    forget(() => true);
    shownAt = isBelow ? shownAt : Infinity;
  }
  wasBelow = isBelow || wasBelow && !isFollowing();
  if (isUnseen && returned === Infinity) {
    setUnread(unread + 1);
  }
  if (isShown) {
    append({name, text, at, position, own, isNew: isUnseen});
  }
  unqueue(message);
  return isUnseen;
}

// forget marks the new lines that isOld chooses as no longer new, and counts the unread lines again.
function forget(isOld) {
  rows.filter(row => row.isNew && isOld(row)).forEach(row => { row.isNew = false; });
  setUnread(returned < Infinity ? 0 : rows.filter(row => row.isNew).length);
  plan();
}

onStored(key, function () {
  const stored = load(device, key, {});
  read = isRead(stored, read) ? read : stored;
  forget(({position}) => isRead(position, stored));
});

// markOwn shows lines as own if isOwn has become true of them, and no longer counts them as new.
export function markOwn() {
  const found = rows.filter(({own, position}) => !own && position && isOwn(position));
  found.forEach(row => { row.own = true; });
  found.filter(row => row.element).forEach(fill);
  forget(row => row.own);
}

// ---- What the person sees.

const [rule] = $('<div id="new"><span>New</span></div>');
// The rule stands before the first new line, and the log scrolls to it once. If the person is there after a drawing,
// all lines so far are read, in all tabs.
on('drawn', function () {
  const first = rows.find(row => row.isNew)?.element, isThere = returned < Infinity, position = nextPosition();
  if (first?.previousSibling !== rule) {
    change(() => first ? first.before(rule) : rule.remove(), 0);
  }
  setUnread(isThere ? 0 : unread);
  if (isThere && shownAt === Infinity && rule.isConnected) {
    shownAt = performance.now();
    bringIntoView(rule);
  }
  if (isThere && position && (position.epoch !== read.epoch || isRead(read, position))) {
    read = position;
    save(device, key, read);
  }
});

$(window).on('keydown', function (event) { // after what Escape closes
  if (event.key === 'Escape' && !event.originalEvent.isComposing) {
    forget(() => true);
  }
});
