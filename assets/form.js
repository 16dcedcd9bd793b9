// form.js owns the input with its draft and its limit, and the question for the name. It exports nothing.

import {path, limits, load, save, tab, person, onPersonChanged} from './store.js';
import {sendMessage} from './connection.js';
import {parse, plural, scroll, visible} from './log.js';

const maxMessage = Number(limits.maxMessage); // bytes
const [$msg, $name, $left, $ask, $who] = ['#msg', '#name', '#left', '#ask', '#who'].map(id => $(id));

// touch matches on a touch screen, whose keyboard has no Shift+Enter. There Enter breaks a line.
const touch = matchMedia('(hover: none) and (pointer: coarse)');

// byteLength returns the length of text in UTF-8.
const byteLength = text => new TextEncoder().encode(text).length;

// composed returns the line that the input and the name make, or '' if the input has nothing visible. The
// line has U+2028 for each line break, so that the message remains one line of the stream.
function composed() {
  const text = $msg.val().trimEnd().replace(/^\n+/, '').replaceAll('\n', '\u2028').toWellFormed();
  if (/^[\s\p{Default_Ignorable_Code_Point}\u2800]*$/u.test(text)) {
    return '';
  }
  if (person.name) {
    return person.name + ': ' + text;
  }
  return parse(text).name === undefined ? text : ' ' + text;
}

// ---- The limit. The server counts bytes, the page shows characters.

// showLeft shows how much longer the line may be, once it is near the limit.
function showLeft() {
  const line = composed();
  const left = maxMessage - byteLength(line);
  const near = left <= Math.max(64, maxMessage / 10);
  $left.prop('hidden', !near).toggleClass('over', left < 0).text(near ? leftText(left, line) : '');
  $('#send').prop('disabled', left < 0);
}

function leftText(left, line) {
  return left < 0 ? plural(excess(line), 'character') + ' too long' :
    'about ' + plural(Math.floor(left / bytesPerCharacter(line)), 'character') + ' left';
}

// bytesPerCharacter returns the average of a line, or 1 for ''.
function bytesPerCharacter(line) {
  return line ? byteLength(line) / [...line].length : 1;
}

// excess returns the number of characters at the end of a line that are beyond the limit.
function excess(line) {
  let size = 0, beyond = 0;
  for (const character of line) {
    const code = character.codePointAt(0);
    size += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4; // RFC 3629, section 3
    beyond += size > maxMessage;
  }
  return beyond;
}

// ---- The input.

// grow makes the input as high as its text. The style limits it to six rows.
function grow() {
  const input = $msg[0];
  input.style.height = 'auto';
  input.style.height = input.scrollHeight + input.offsetHeight - input.clientHeight + 'px';
}

function inputChanged() {
  save(tab, path + ':draft', $msg.val());
  showLeft();
  grow();
}

$msg.val(load(tab, path + ':draft', ''))
  .attr('enterkeyhint', touch.matches ? 'enter' : 'send')
  .on('input', inputChanged)
  .on('keydown', function (event) {
    const {isComposing, keyCode} = event.originalEvent;
    const plain = !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey;
    // In Safari, the Enter that ends a composition has the code 229 and isComposing is false.
    if (event.key === 'Enter' && plain && !touch.matches && !isComposing && keyCode !== 229) {
      event.preventDefault();
      submit();
    } else if (/^Page(Up|Down)$/.test(event.key) && plain) {
      event.preventDefault();
      scroll(event.key === 'PageUp' ? -1 : 1);
    }
  });
$(window).on('resize', grow);

// A character typed into the page or the log would have no effect, so it goes into the input.
$(document).on('keydown', function (event) {
  const {isComposing, ctrlKey, altKey, metaKey} = event.originalEvent;
  const lost = event.target === document.body || $(event.target).closest('#log').length > 0;
  if (lost && event.key.length === 1 && event.key !== ' ' && !isComposing && !ctrlKey && !altKey && !metaKey) {
    $msg.trigger('focus');
  }
});

// ---- Sending. The page asks for the name once, before the first message.

let sendOnceNamed = false; // submit has asked for the name; closeQuestion resets it

function submit() {
  const line = composed();
  if (line === '' || byteLength(line) > maxMessage) {
    return;
  }
  if (!person.isNamed) {
    sendOnceNamed = true;
    askName();
    return;
  }
  $msg.val('');
  inputChanged();
  sendMessage(line);
}

$('#form').on('submit', function (event) {
  event.preventDefault();
  submit();
  if (!sendOnceNamed) {
    $msg.trigger('focus');
  }
});

function askName() {
  $ask.prop('hidden', false);
  $name.val(person.name).trigger('focus').trigger('select');
}

function closeQuestion() {
  $ask.prop('hidden', true);
  sendOnceNamed = false;
  $msg.trigger('focus');
}

// rename sets the person's name, which may be '', and sends the message that waited for it.
function rename(name) {
  person.set('name', name);
  person.set('isNamed', true);
  showName();
  const sendNow = sendOnceNamed;
  closeQuestion();
  showLeft();
  if (sendNow) {
    submit();
  }
}

function showName() {
  $who.text(person.name || 'No name').attr('aria-label', person.name ? 'Your name: ' + person.name + '. Change it' : 'No name. Choose one');
}

$who.on('click', () => $ask.prop('hidden') ? askName() : closeQuestion());
$ask.on('submit', function (event) {
  event.preventDefault();
  rename(visible($name.val().replace(/[\u2028\u2029]/g, ' ').trim()));
}).on('keydown', function (event) {
  if (event.key === 'Escape' && !event.originalEvent.isComposing) {
    event.stopPropagation();
    closeQuestion();
  }
});
$('#nameless').on('click', () => rename(''));

onPersonChanged(function () {
  showName();
  showLeft();
});
showName();
inputChanged();
