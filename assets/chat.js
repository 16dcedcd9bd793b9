// chat.js: puts the page together: what the connection tells goes to the log and the header.

import {path, room, root, limits, person} from './store.js';
import {connect, isOwn, listen, nextTry} from './connection.js';
import {addLine, claimOwn, clock, count, draw, element, isAway, notice, moveNotice, parse, queue, settle, showNew} from './log.js';
import {notify} from './notify.js';
import './form.js';

if (room) {
  $('h1').text(room).attr('title', room);
}

// ---- The network.

const quiet = 1000; // milliseconds without a connection that are not worth a word
const short = 2000; // that are not worth a line in the log
const flicker = 5 * 60 * 1000; // between outages that share a line

let since; // when the connection was lost, or undefined
let bar; // timer
let reason = 'Not connected yet.'; // why there is no connection
let outage; // the last one that the log tells of: {from, to, notice}
let wasLive = false; // what comes before the first connection is no outage

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
  since ??= new Date();
  bar ??= setTimeout(() => showBar(true), quiet);
  if (why) {
    reason = 'Offline: ' + why[0].toLowerCase() + why.slice(1);
  } else if (word !== 'connecting' && word !== 'offline') {
    reason = 'The server says: ' + word + '.';
  }
  $('#why').text(reason);
  showWait();
}

function online() {
  clearTimeout(bar);
  bar = undefined;
  reason = 'Offline.';
  showBar(false);
  if (since) {
    tellOutage(since, new Date());
    since = undefined;
  }
}

function showBar(shown) {
  $('body').toggleClass('offline', shown);
  $('#offline').prop('hidden', !shown);
}

function showWait() {
  const left = nextTry();
  $('#wait').text(left === undefined ? 'Connecting…' : 'Next try in ' + Math.max(1, Math.ceil(left / 1000)) + ' s.');
}

// tellOutage has the log tell of an outage; one line for all that come shortly after each other.
function tellOutage(from, to) {
  const told = wasLive && to - from >= short;
  if (told && outage && from - outage.to < flicker) {
    outage.to = to;
    moveNotice(outage.notice, during(outage));
  } else if (told) {
    outage = {from, to};
    outage.notice = notice(during(outage));
  }
  wasLive = true;
}

function during({from, to}) {
  const [began, ended] = [from, to].map(clock);
  return began === ended ? 'Offline at ' + began + '.' : 'Offline ' + began + ' to ' + ended + '.';
}

setInterval(() => since && showWait(), 250);
$('#now').on('click', connect);

// ---- Who is there.

const lately = 60 * 60 * 1000; // milliseconds
const spoke = new Map(); // name to time; the last speaker last

function noteSpeaker(name, at) {
  spoke.delete(name);
  spoke.set(name, at);
  keepLast(spoke);
}

// keepLast removes what was added first to a Map or a Set, if that has become long.
function keepLast(collection) {
  if (collection.size > 100) {
    collection.delete(collection.keys().next().value);
  }
}

$('#presence').on('toggle', function () {
  const recent = [...spoke].filter(([, at]) => Date.now() - at < lately).reverse();
  $('#speakers').empty().append(recent.map(([name, at]) => element('li', '', element('bdi', '', name), ' ', element('small', '', clock(at)))));
  if (recent.length === 0) {
    $('#speakers').append(element('li', '', 'Nobody with a name'));
  }
});

// A line under the person's name is pointed out, unless it was said in another tab: that tells the others
// what it says, and may hear it later than they do.
const namesakes = new Set();
const otherTabs = new BroadcastChannel(path);
const saidThere = new Set();

otherTabs.onmessage = function ({data}) {
  saidThere.add(data);
  keepLast(saidThere);
};

function watchNamesake({text, position}) {
  const name = person.name;
  setTimeout(function () {
    if (!isOwn(position) && !saidThere.has(text) && !namesakes.has(name)) {
      namesakes.add(name);
      notice('Somebody else, or you on another device, writes as ' + name + ', too.');
    }
  }, 1000);
}

// ---- What the connection tells.

listen({
  state: showState,
  people: n => $('#people').text(n === 1 ? '1 person' : n + ' people'),
  missed: n => notice(count(n, 'message') + (n === 1 ? ' was' : ' were') + ' missed.'),
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
  own: claimOwn,
  line(line) {
    const {name} = parse(line.text);
    if (name !== undefined) {
      noteSpeaker(name, line.at);
    }
    if (!line.own && !line.old && name === person.name && name) {
      watchNamesake(line);
    }
    if (addLine(line) && isAway() && (name === undefined || name !== person.name)) {
      notify(line);
    }
  },
  caughtUp() {
    draw();
    showNew();
    setTimeout(() => $('#log').attr('aria-busy', 'false'), 300); // when screen readers have seen what was there
    $('#empty').prop('hidden', $('#lines .entry, #outbox .entry').length > 0);
  },
});

$('#empty span').text('What you write is seen by everyone who is here' +
  (Number(limits.history) ? ', and the last ' + count(Number(limits.history), 'message') + ' by those who come later.' : '.'));
if (!window.WebSocket) {
  $('#word').text('no connection');
  notice('Your browser does not support WebSockets, and without them there is no chat.');
}

// ---- Rooms, and menus.

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
    if (!document.execCommand('copy')) { // which pages without TLS need
      return; // the link is selected
    }
  }
  $('#shared').text('Copied');
});

$('#go').on('submit', function (event) { // of a name that has the pattern
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
