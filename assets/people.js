// people.js owns the number of people, the list of those who spoke lately, and the warning of namesakes.

import {person} from './store.js';
import {on} from './events.js';
import {outbox, serverTime} from './connection.js';
import {clock, element, inWords} from './entry.js';
import {notice} from './log.js';
import {parse, sameName} from './names.js';
import {isOwn} from './own.js';

const recently = 60 * 60 * 1000; // milliseconds for which a speaker is listed
const speakers = new Map(); // name to Date of the last line, oldest first; at most 100
const namesakes = new Set(); // the person's names that had their notice

on('people', n => $('#people').text(n === 1 ? '1 person' : inWords(n) + ' people'));

on('line', function (line) {
  const {name} = parse(line.text);
  if (name === undefined) {
    return;
  }
  speakers.delete(name);
  speakers.set(name, line.at);
  if (speakers.size > 100) {
    speakers.delete(speakers.keys().next().value);
  }
  if (!line.own && !line.old && person.name && sameName(name, person.name) && !outbox.holds(line.text)) {
    setTimeout(warn, 1000, line.position, person.name);
  }
});

// warn warns of a line under the person's name, unless the person said it in another tab. That tab stores its message
// in the outbox until it records the line as own, which may be a second after the line has come here.
function warn(position, name) {
  if (!isOwn(position) && !namesakes.has(name)) {
    namesakes.add(name);
    notice('Somebody else, or you on another device, writes as ' + name + ', too.');
  }
}

function listSpeakers() {
  const recent = [...speakers].filter(([, at]) => serverTime() - at < recently).reverse();
  const rows = recent.map(([name, at]) => element('li', '', element('bdi', '', name), ' ', element('small', '', clock(at))));
  const list = $('<ul>').append(rows.length > 0 ? rows : element('li', '', 'Nobody with a name'));
  if (list.html() !== $('#speakers').html()) { // an unchanged list keeps its scrolling and selection
    $('#speakers').empty().append(list.contents());
  }
}

$('#presence').on('toggle', listSpeakers);
setInterval(() => $('#presence').prop('open') && listSpeakers(), 1000);
