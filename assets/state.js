// state.js owns the word about the connection, and the bar with the reason of an outage and the time of the next
// attempt. After an outage, a notice in the log says how long it was.

import {on} from './events.js';
import {connect, serverTime, untilRetry} from './connection.js';
import {clock, inWords} from './entry.js';
import {notice} from './log.js';

const barDelay = 1000; // milliseconds of an outage before the bar appears
const shortOutage = 2000; // milliseconds; a shorter outage gets no notice
const outageGap = 5 * 60 * 1000; // milliseconds; outages with a shorter gap between them share a notice

let from; // server time at which the outage began; undefined while connected
let barTimer; // shows the bar; undefined while connected
let lastOutage; // the last one with a notice: {from, to, notice}
let wasOnline = false; // the time before the first connection is no outage

on('state', function (word, why, help) {
  const live = word === 'live';
  $('body').toggleClass('live', live);
  $('#word').text(word);
  $('#presence').prop('hidden', !live);
  if (why || live) {
    $('#why').text(why ?? 'Offline.');
    $('#help').prop('hidden', !help).text(help === 'login' ? 'Log in again' : 'Reload');
  }
  live ? online() : offline();
});

function offline() {
  from ??= serverTime();
  barTimer ??= setTimeout(() => showBar(true), barDelay);
  showWait();
}

function online() {
  clearTimeout(barTimer);
  showBar(false);
  if (wasOnline && serverTime() - from >= shortOutage) {
    noteOutage(from, serverTime());
  }
  from = barTimer = undefined;
  wasOnline = true;
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
  const goesOn = lastOutage && from - lastOutage.to < outageGap, start = goesOn ? lastOutage.from : from;
  const [first, last] = [new Date(start), new Date(to)], isOneDay = first.toDateString() === last.toDateString();
  const [began, ended] = [first, last].map(date => isOneDay ? clock(date) : inWords(date, {dateStyle: 'medium', timeStyle: 'short'}));
  const text = began === ended ? 'Offline at ' + began + '.' : 'Offline ' + began + ' to ' + ended + '.';
  lastOutage = {from: start, to, notice: goesOn ? lastOutage.notice : notice(text)};
  notice(text, lastOutage.notice);
}

setInterval(() => from && showWait(), 250);
$('#now').on('click', connect);
$('#help, #reload').on('click', () => location.reload());
