// chat.js connects the modules. It handles all events of connection.js, and passes them to the log, the
// header and notify.js. It also owns the bar about outages, the list of speakers, and the menu of rooms. It
// exports nothing.

import {path, room, root, limits, person} from './store.js';
import {connect, isOwn, listen, untilRetry} from './connection.js';
import {addLine, clock, draw, element, isAway, markOwn, moveNotice, notice, parse, plural, queue, settle, showNew} from './log.js';
import {notify} from './notify.js';
import './form.js';

if (room) {
  $('h1').text(room).attr('title', room);
}

// ---- The state of the connection. During an outage a bar gives the reason and the time of the next
// attempt. After it, a notice in the log says how long it was.

const barDelay = 1000; // milliseconds of an outage before the bar appears
const shortOutage = 2000; // milliseconds; a shorter outage gets no notice
const outageGap = 5 * 60 * 1000; // milliseconds; outages with a shorter gap between them share a notice

// Set by offline, reset by online.
let offlineSince; // a Date; undefined while connected
let barTimer; // shows the bar; undefined while connected
let reason = 'Not connected yet.'; // the bar's text, a sentence

// Set by noteOutage.
let lastOutage; // the last one with a notice: {from, to, notice}
let wasOnline = false; // the time before the first connection is no outage

// showState handles connection.js's event state.
function showState(word, why) {
  const live = word === 'live';
  $('body').toggleClass('live', live);
  $('#word').text(word);
  $('#presence').prop('hidden', !live);
  if (live) {
    online();
  } else {
    offline(word, why);
  }
}

function offline(word, why) {
  offlineSince ??= new Date();
  barTimer ??= setTimeout(() => showBar(true), barDelay);
  if (why) {
    reason = 'Offline: ' + why[0].toLowerCase() + why.slice(1);
  } else if (word !== 'connecting' && word !== 'offline') {
    reason = 'The server says: ' + word + '.';
  }
  $('#why').text(reason);
  showWait();
}

function online() {
  clearTimeout(barTimer);
  barTimer = undefined;
  reason = 'Offline.';
  showBar(false);
  if (offlineSince) {
    noteOutage(offlineSince, new Date());
    offlineSince = undefined;
  }
}

function showBar(shown) {
  $('body').toggleClass('offline', shown);
  $('#offline').prop('hidden', !shown);
}

function showWait() {
  const left = untilRetry();
  $('#wait').text(left === undefined ? 'Connecting…' : 'Next try in ' + Math.max(1, Math.ceil(left / 1000)) + ' s.');
}

// noteOutage adds a notice of an outage to the log, or extends the last one.
function noteOutage(from, to) {
  const worthANotice = wasOnline && to - from >= shortOutage;
  if (worthANotice && lastOutage && from - lastOutage.to < outageGap) {
    lastOutage.to = to;
    moveNotice(lastOutage.notice, outageText(lastOutage));
  } else if (worthANotice) {
    lastOutage = {from, to};
    lastOutage.notice = notice(outageText(lastOutage));
  }
  wasOnline = true;
}

function outageText({from, to}) {
  const [began, ended] = [from, to].map(clock);
  return began === ended ? 'Offline at ' + began + '.' : 'Offline ' + began + ' to ' + ended + '.';
}

setInterval(() => offlineSince && showWait(), 250);
$('#now').on('click', connect);

// ---- Who is there.

const recently = 60 * 60 * 1000; // milliseconds for which a speaker is listed
const speakers = new Map(); // name to Date of the last line, oldest first; set by noteSpeaker

function noteSpeaker(name, at) {
  speakers.delete(name);
  speakers.set(name, at);
  limitSize(speakers);
}

// limitSize removes the oldest element of a Map or a Set with more than 100.
function limitSize(collection) {
  if (collection.size > 100) {
    collection.delete(collection.keys().next().value);
  }
}

$('#presence').on('toggle', function () {
  const recent = [...speakers].filter(([, at]) => Date.now() - at < recently).reverse();
  $('#speakers').empty().append(recent.map(([name, at]) => element('li', '', element('bdi', '', name), ' ', element('small', '', clock(at)))));
  if (recent.length === 0) {
    $('#speakers').append(element('li', '', 'Nobody with a name'));
  }
});

// ---- Namesakes. If somebody else writes under the person's name, a notice says so. It must not do so for
// a line that the person typed in another tab. That tab may receive the line later than this one, and only
// then records it as own. So each tab sends the others a line when it is typed.

const otherTabs = new BroadcastChannel(path); // carries typed lines
const typedElsewhere = new Set(); // lines typed in other tabs; otherTabs adds them
const namesakes = new Set(); // names that had their notice; checkNamesake adds them

otherTabs.onmessage = function ({data}) {
  typedElsewhere.add(data);
  limitSize(typedElsewhere);
};

// checkNamesake warns of a line under the person's name, unless another tab claims it within a second.
function checkNamesake({text, position}) {
  const name = person.name;
  setTimeout(function () {
    if (!isOwn(position) && !typedElsewhere.has(text) && !namesakes.has(name)) {
      namesakes.add(name);
      notice('Somebody else, or you on another device, writes as ' + name + ', too.');
    }
  }, 1000);
}

// ---- The connection's events.

listen({
  state: showState,
  people: n => $('#people').text(n === 1 ? '1 person' : n + ' people'),
  missed: n => notice(plural(n, 'message') + (n === 1 ? ' was' : ' were') + ' missed.'),
  restarted: () => notice('The room was restarted.'),
  queued(message) {
    otherTabs.postMessage(message.text);
    queue(message);
  },
  gone: message => settle(message, '', 'sent'),
  refused(message, why) {
    settle(message, 'refused', 'not sent');
    notice(why);
  },
  ownChanged: markOwn,
  line(line) {
    const {name} = parse(line.text);
    if (name !== undefined) {
      noteSpeaker(name, line.at);
    }
    if (!line.own && !line.old && name === person.name && name) {
      checkNamesake(line);
    }
    if (addLine(line) && isAway() && (name === undefined || name !== person.name)) {
      notify(line);
    }
  },
  caughtUp() {
    draw();
    showNew();
    // A screen reader has noticed the replay after 300 ms, and then doesn't read it aloud.
    setTimeout(() => $('#log').attr('aria-busy', 'false'), 300);
    $('#empty').prop('hidden', $('#lines .entry, #outbox .entry').length > 0);
  },
});

$('#empty span').text('What you write is seen by everyone who is here' +
  (Number(limits.history) ? ', and the last ' + plural(Number(limits.history), 'message') + ' by those who come later.' : '.'));
if (!window.WebSocket) {
  $('#word').text('no connection');
  notice('Your browser does not support WebSockets, and without them there is no chat.');
}

// ---- The menu of rooms, and what all menus share.

const link = new URL('.', document.baseURI).href;
$('#link').val(link).on('focus', event => event.target.select());
$('#share').text(navigator.share ? 'Share' : 'Copy link').on('click', async function () {
  try {
    if (navigator.share) {
      await navigator.share({title: document.title, url: link});
      return;
    }
    await navigator.clipboard.writeText(link);
  } catch (error) {
    if (error.name === 'AbortError') {
      return; // the share sheet was closed
    }
    $('#link').trigger('focus');
    if (!document.execCommand('copy')) { // a page without TLS has no other way
      return; // the link is selected, so the person can copy it
    }
  }
  $('#shared').text('Copied');
});

$('#go').on('submit', function (event) { // the browser has checked the name's pattern
  event.preventDefault();
  const name = $('#other').val().trim().toLowerCase();
  location.href = (root || './') + (name && name + '/');
});
if (limits.rooms === '0') {
  $('#go').remove();
  $('#menu summary').text('Share');
}

$(document).on('click', event => $('.menu').not($(event.target).closest('.menu')).prop('open', false));
$('.menu').on('keydown', function (event) {
  if (event.key === 'Escape' && this.open) {
    event.stopPropagation();
    $(this).prop('open', false).find('summary').trigger('focus');
  }
});
