// form.js: what is typed, under which name, and how long it may be.

import {path, limits, load, save, tab, person, onPersonChanged} from './store.js';
import {say} from './connection.js';
import {parse, count, scroll} from './log.js';

const maxMessage = Number(limits.maxMessage); // bytes
const [$msg, $name, $left, $ask, $who] = ['#msg', '#name', '#left', '#ask', '#who'].map(id => $(id));
const touch = matchMedia('(hover: none) and (pointer: coarse)');

const bytes = text => new TextEncoder().encode(text).length;

// line is what would be sent now, or ''. On the wire a line break is U+2028: a message remains one line
// there.
function line() {
  const text = $msg.val().trimEnd().replace(/^\n+/, '').replaceAll('\n', '\u2028').toWellFormed();
  if (/^[\s\p{Default_Ignorable_Code_Point}\u2800]*$/u.test(text)) {
    return ''; // there is nothing to see
  }
  if (person.name) {
    return person.name + ': ' + text;
  }
  return parse(text).name === undefined ? text : ' ' + text;
}

// ---- Length. The limit is in bytes; people count characters.

function showRoom() {
  const text = line();
  const left = maxMessage - bytes(text);
  const near = left <= Math.max(64, maxMessage / 10);
  $left.prop('hidden', !near).toggleClass('over', left < 0).text(near ? roomIn(left, text) : '');
  $('#send').prop('disabled', left < 0);
}

function roomIn(left, text) {
  return left < 0 ? count(excess(text), 'character') + ' too long' : 'about ' + count(Math.floor(left / bytesEach(text)), 'character') + ' left';
}

// bytesEach returns how many bytes a character of text takes.
function bytesEach(text) {
  return text ? bytes(text) / [...text].length : 1;
}

// excess returns how many characters must be removed from the end of text.
function excess(text) {
  let size = 0, beyond = 0;
  for (const character of text) {
    const code = character.codePointAt(0);
    size += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4; // in UTF-8
    beyond += size > maxMessage;
  }
  return beyond;
}

// ---- The input.

function grow() {
  const input = $msg[0];
  input.style.height = 'auto';
  input.style.height = input.scrollHeight + input.offsetHeight - input.clientHeight + 'px';
}

function changed() {
  save(tab, path + ':draft', $msg.val());
  showRoom();
  grow();
}

$msg.val(load(tab, path + ':draft', ''))
  .attr('enterkeyhint', touch.matches ? 'enter' : 'send')
  .on('input', changed)
  .on('keydown', function (event) {
    const {isComposing, keyCode} = event.originalEvent;
    const plain = !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey;
    if (event.key === 'Enter' && plain && !touch.matches && !isComposing && keyCode !== 229) {
      event.preventDefault();
      submit();
    } else if (/^Page(Up|Down)$/.test(event.key) && plain) {
      event.preventDefault();
      scroll(event.key === 'PageUp' ? -1 : 1);
    }
  });
$(window).on('resize', grow);

// What is typed elsewhere goes into the input, if it would be lost.
$(document).on('keydown', function (event) {
  const {isComposing, ctrlKey, altKey, metaKey} = event.originalEvent;
  const lost = event.target === document.body || $(event.target).closest('#log').length > 0;
  if (lost && event.key.length === 1 && event.key !== ' ' && !isComposing && !ctrlKey && !altKey && !metaKey) {
    $msg.trigger('focus');
  }
});

// ---- Sending. The name is asked for once, before the first message.

let asked = false; // because a message is to be sent

function submit() {
  const text = line();
  if (text === '' || bytes(text) > maxMessage) {
    return;
  }
  if (!person.isNamed) {
    asked = true;
    askName();
    return;
  }
  $msg.val('');
  changed();
  say(text);
}

$('#form').on('submit', function (event) {
  event.preventDefault();
  submit();
  if (!asked) {
    $msg.trigger('focus');
  }
});

function askName() {
  $ask.prop('hidden', false);
  $name.val(person.name).trigger('focus').trigger('select');
}

function closeAsk() {
  $ask.prop('hidden', true);
  asked = false;
  $msg.trigger('focus');
}

function rename(name) {
  person.set('name', name);
  person.set('isNamed', true);
  showName();
  const sending = asked;
  closeAsk();
  showRoom();
  if (sending) {
    submit();
  }
}

function showName() {
  $who.text(person.name || 'No name').attr('aria-label', person.name ? 'Your name: ' + person.name + '. Change it' : 'No name. Choose one');
}

$who.on('click', () => $ask.prop('hidden') ? askName() : closeAsk());
$ask.on('submit', function (event) {
  event.preventDefault();
  rename($name.val().replace(/[\u2028\u2029]/g, ' ').trim());
}).on('keydown', function (event) {
  if (event.key === 'Escape' && !event.originalEvent.isComposing) {
    event.stopPropagation();
    closeAsk();
  }
});
$('#nameless').on('click', () => rename(''));

onPersonChanged(function () {
  showName();
  showRoom();
});
showName();
changed();
