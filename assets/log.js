// log.js owns the rows of the log, which are lines, notices, and rules between days. It also shows the outbox.
// A row is data until it is drawn. The oldest rows go when there are too many, or they cost too much. log.js
// exports append, queue, unqueue, settle and notice; draw and plan; and rows.

import {emit} from './events.js';
import {serverTime} from './connection.js';
import {costOf, element, entry, foldIfHigh, inWords} from './entry.js';
import {group} from './groups.js';
import {parse} from './names.js';
import {change, isHeld, showBelow, toEnd} from './view.js';

const maxRows = 2000; // rows in the log; more make a browser slow
const maxCost = 32000; // of all rows; this is enough for 2,000 rows of 60 characters, or 370 of 4 KB
const maxNotices = 20; // so that a network that comes and goes leaves room for lines
const maxUnsent = 200; // entries of the outbox; older ones are sent all the same
const [$lines, $outbox] = [$('#lines'), $('#outbox')];

// ---- Rows. A row is a line, as in entry.js, or {kind, text}, of which kind is 'notice' or 'day'. add sets its
// cost, and draw its element.

export const rows = []; // oldest first; those that are not drawn are the last
const leaving = new Set(); // elements that the next drawing removes; undefined for a row that was never drawn
let cost = 0; // of all rows

function add(row) {
  row.cost = costOf(row);
  cost += row.cost;
  rows.push(row);
  while (rows.length > maxRows || cost > maxCost) {
    drop(rows[0]);
  }
  plan();
}

function drop(row) {
  rows.splice(rows.indexOf(row), 1);
  cost -= row.cost;
  leaving.add(row.element);
}

let lastDay = new Date(serverTime()).toDateString(); // day of the last line

// append adds a line at the end of the log, after a rule if it begins another day.
export function append(line) {
  const day = line.at.toDateString();
  if (day !== lastDay) {
    lastDay = day;
    add({kind: 'day', text: inWords(line.at, {dateStyle: 'full'})});
  }
  add(line);
}

// queue shows a message of the outbox below the log, until unqueue or settle.
export function queue(message) {
  const e = message.element = entry({...parse(message.text), own: true, mark: 'unsent'});
  setTimeout(() => $(e).addClass('late'), 2000);
  $outbox.append(e).children().slice(0, -maxUnsent).remove();
  plan();
  toEnd();
}

// unqueue has the next drawing remove a message of the outbox, if there is one.
export function unqueue(message) {
  leaving.add(message?.element);
  plan();
}

// settle moves a message from the outbox into the log, because its line won't come.
export function settle(message, classes, mark) {
  unqueue(message);
  add({...parse(message.text), own: true, classes, mark});
}

// notice adds a notice, or moves row, an earlier one, unless the last row has the same text. It returns the last row.
export function notice(text, row = {kind: 'notice'}) {
  const notices = rows.filter(({kind}) => kind === 'notice'), last = notices[notices.length - 1];
  if (last?.text === text && last === rows[rows.length - 1]) {
    return last;
  }
  notices.filter((one, i) => one === row || i <= notices.length - maxNotices).forEach(drop);
  add(Object.assign(row, {text, element: undefined}));
  return row;
}

// ---- Drawing.

let timer; // calls draw; undefined if nothing is to be drawn
let pause = 16; // milliseconds from plan to draw; in a flood, drawing takes a quarter of the time

// plan has draw called soon, after the event that is being handled.
export const plan = () => { timer ??= setTimeout(draw, pause); };

// draw makes elements of the rows that have none. While the log is held, it only shows how many there are.
export function draw() {
  const began = performance.now(), fresh = rows.filter(row => !row.element);
  const added = fresh.filter(row => !row.kind).length;
  clearTimeout(timer);
  timer = undefined;
  if (isHeld()) {
    showBelow(added);
    pause = 100;
    return plan();
  }
  change(function () {
    leaving.forEach(e => e?.remove());
    leaving.clear();
    $lines.append(fresh.map(makeElement));
    const unsent = $outbox.children().get().map(e => e.line), lines = fresh.concat(unsent);
    foldIfHigh(lines);
    group(lines, rows[rows.length - fresh.length - 1], serverTime());
    lines.forEach(line => line.element.classList.toggle('continued', line.continued));
    $lines.children('.entry').first().removeClass('continued');
    $('#empty').prop('hidden', (i, hidden) => hidden || rows.length + unsent.length > 0);
  }, added);
  emit('drawn');
  pause = Math.max(16, Math.min(500, 3 * (performance.now() - began)));
}

function makeElement(row) {
  try {
    row.element = row.kind ? element('div', row.kind, element('span', '', row.text)) : entry(row);
  } catch (error) {
    reportError(error); // one line must not take the others with it
    row.element = element('div', '');
  }
  return row.element;
}

// A touch shows the time of a line, as a pointer does that is over it.
$lines.on('click', '.entry', function () {
  $(this).addClass('touched').siblings().removeClass('touched');
});
