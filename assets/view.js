// view.js owns what is in view of the log. The log follows its end, or stays where the person has scrolled,
// whatever is added or removed. It does so itself, because not all browsers anchor what is in view. Nothing
// moves while the person presses or selects something in the log. view.js exports change, through which all
// changes of the log go; isHeld and isFollowing; and toEnd, scroll, bringIntoView and showBelow.

import {plural} from './entry.js';

const [$log, $lines, $below] = ['#log', '#lines', '#below'].map(id => $(id));
const log = $log[0];

let following = true; // the log stays at its end; set by checkScroll and toEnd
let below = 0; // entries added since the log stopped following its end

// isFollowing reports whether the log stays at its end, so that the person sees what comes.
export function isFollowing() {
  checkScroll();
  return following;
}

// place is the first row in view, with its distance from the view's top, and scrollTop when these were noted.
let place = {}; // {row, top, scrolled}

// topOf returns the distance of a row from the top of the view.
const topOf = row => row.getBoundingClientRect().top - log.getBoundingClientRect().top;

function notePlace() {
  const start = log.offsetTop + log.scrollTop; // offsets don't count the scrolling
  const row = $lines.children().get().find(one => one.offsetTop + one.offsetHeight > start);
  place = {row, top: row && topOf(row), scrolled: log.scrollTop};
}

// keepPlace scrolls so that the end, or what the person reads, is where it was. If the row in view has left
// the log, the first one takes its place.
function keepPlace() {
  const row = place.row?.isConnected ? place.row : $lines[0].firstElementChild;
  if (following && !isHeld()) {
    below = 0;
    log.scrollTop = log.scrollHeight;
  } else if (row && Math.abs(topOf(row) - place.top) > 0.5) { // scrolling by 0 would end a scrolling that goes on
    log.scrollTop += topOf(row) - place.top;
  }
  if (following || row !== place.row) {
    notePlace();
  }
  place.scrolled = log.scrollTop;
  showBelow(0);
}

// change calls f, which changes the log, and keeps in view what is in view. added is the number of entries
// that f adds at the end. It must not be called while the log is held.
export function change(f, added) {
  checkScroll();
  f();
  below += added;
  keepPlace();
}

// checkScroll notes where the log is if the person has scrolled it. It must be called before that is used, because the
// scroll event may be still to come. What keepPlace has scrolled must not be noted again, because browsers round, and
// the errors would add up.
function checkScroll() {
  if (log.scrollTop !== place.scrolled) {
    following = log.scrollTop > log.scrollHeight - log.clientHeight - 8;
    below = following ? 0 : below;
    showBelow(0);
    notePlace();
  }
}

$log.on('scroll', checkScroll).on('click', '.fold', function () {
  log.scrollTop += Math.min(0, topOf(this.closest('.entry'))); // the start of a text that was folded again
  place = {}; // because the log may no longer be at its end
  checkScroll();
});

try {
  const resizes = new ResizeObserver(keepPlace);
  [log, ...log.children].forEach(e => resizes.observe(e));
} catch {} // the log goes on, but doesn't follow a change of the window

// toEnd brings the log's end into view, and keeps it there until the person scrolls up. It ends a selection
// in the log, which would hold the log.
export function toEnd() {
  if (isHeld()) {
    getSelection().removeAllRanges();
  }
  following = true;
  keepPlace();
}

// scroll scrolls the log down by a number of pages, or up if it is negative.
export const scroll = pages => log.scrollBy(0, pages * log.clientHeight * 0.9);

// bringIntoView scrolls up to a row if it is above the view. The log then no longer follows its end.
export function bringIntoView(row) {
  if (topOf(row) < 0) {
    log.scrollTop += topOf(row);
    below = $(row).nextAll('.entry').length;
    checkScroll();
  }
}

// showBelow shows how many entries came since the log stopped following its end, and waiting more.
export function showBelow(waiting) {
  const n = below + waiting;
  $below.prop('hidden', n === 0).text('↓ ' + plural(n, 'new message'));
}

// The button leaves the keyboard of a touch screen as it is, open or closed.
$below.on('mousedown', event => event.preventDefault()).on('click', function () {
  toEnd();
  matchMedia('(hover: none) and (pointer: coarse)').matches || $('#msg').trigger('focus');
});

// ---- Holding the log.

let isPressed = false; // a button or finger is down that went down in the log

// A browser may not report that a button goes up, but then it reports a move without a button.
$(window).on('mousedown touchstart', ({target}) => { isPressed = log.contains(target); })
  .on('mouseup mousemove touchend touchcancel blur', function ({originalEvent: {touches, buttons}}) {
    isPressed &&= (touches?.length ?? buttons) > 0;
  });

// isHeld reports whether nothing in the log may move now. Firefox keeps a selection while one types.
export function isHeld() {
  const selection = getSelection(), isTyping = $(document.activeElement).is('input, textarea');
  return isPressed || selection && !selection.isCollapsed && selection.getRangeAt(0).intersectsNode(log) && !isTyping;
}
