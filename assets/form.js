// form.js owns the input and the button that sends. It exports nothing.

import {limits, person, onPersonChanged} from './store.js';
import {sendMessage} from './connection.js';
import {scroll} from './view.js';
import {asLine, content, measure} from './limit.js';
import {loadDraft, noteDraft} from './draft.js';
import {withName} from './ask.js';

const heavy = 5000; // UTF-16 units from which browsers may take noticeable time for a text
const [$msg, $left, $send] = ['#msg', '#left', '#send'].map(id => $(id));
const input = $msg[0];

// touch matches on a touch screen, whose keyboard has no Shift+Enter. There Enter breaks a line.
const touch = matchMedia('(hover: none) and (pointer: coarse)');

let longest = ''; // the longest text since the input was empty
let last = ''; // the text that was sent or cleared last

// showLeft shows how much longer the message may be, and whether it can be sent.
function showLeft() {
  const text = content(input.value), {over, words} = measure(text, person.name, Number(limits.maxMessage));
  $left.prop('hidden', words === '').toggleClass('over', over).text(words);
  $send.attr('aria-disabled', String(text === '' || over)); // a disabled button would lose the focus
}

const isSendable = () => $send.attr('aria-disabled') === 'false';

// ease turns off what is slow for a long text. Chrome takes 7 s to find the direction of 50,000 rows. The style
// has a font with few rules for neighbouring letters, and a scrollbar, without which the text is laid out twice.
function ease(length) {
  const isHeavy = length >= heavy;
  $msg.toggleClass('heavy', isHeavy).attr({dir: isHeavy ? 'ltr' : 'auto', spellcheck: String(!isHeavy)});
}

// grow makes the input as high as its text. The style limits the height, so a heavy text is not measured.
function grow() {
  const {form, style} = input;
  if ($msg.is('.heavy')) {
    style.height = '100vh';
    return;
  }
  form.style.minHeight = form.offsetHeight + 'px'; // or the log would grow, and scroll
  style.height = 'auto';
  style.height = input.scrollHeight + input.offsetHeight - input.clientHeight + 'px';
  form.style.minHeight = '';
}

function inputChanged() {
  const {value} = input;
  if (value.length >= longest.length) {
    longest = value;
  } else if (value === '') {
    [last, longest] = [longest, ''];
  }
  ease(value.length);
  noteDraft(value);
  showLeft();
  grow();
}

// setText replaces the input's text, and puts the caret after its first caret units.
function setText(text, caret = text.length) {
  ease(text.length);
  input.value = text;
  input.setSelectionRange(caret, caret);
  inputChanged();
}

function send() {
  if (isSendable()) {
    const typed = input.value;
    setText('');
    last = typed;
    sendMessage(asLine(content(typed), person.name));
  }
}

// submit sends the message as soon as the person has a name or has chosen to have none.
function submit() {
  const hasStarted = $('#old').length === 0; // otherwise nobody sees what is sent
  if (hasStarted && (isSendable() || !$('#ask').prop('hidden'))) {
    withName(send);
  }
}

$msg.attr('enterkeyhint', touch.matches ? 'enter' : 'send').on('input', inputChanged);
$msg.on('keydown', function (event) {
  const {key, originalEvent: {isComposing, keyCode}} = event, command = event.ctrlKey || event.metaKey;
  // In Safari, the Enter that ends a composition has the code 229 and isComposing is false.
  if (isComposing || keyCode === 229 || event.shiftKey || event.altKey) {
    return;
  }
  if (key === 'Enter' && (command || !touch.matches)) {
    event.preventDefault();
    submit();
  } else if (/^Page(Up|Down)$/.test(key) && !command) {
    event.preventDefault();
    scroll(key === 'PageUp' ? -1 : 1);
  } else if (command && /^a$/i.test(key) && $msg.is('.heavy')) {
    event.preventDefault();
    input.select(); // Chrome's own way takes minutes for 50,000 rows
  } else if (input.value === '' && last && (command ? /^z$/i.test(key) : key === 'ArrowUp')) {
    event.preventDefault();
    setText(last);
  }
});
$('#form').on('submit', function (event) {
  event.preventDefault();
  $msg.trigger('focus');
  submit();
});

// What is typed or pasted into the page or the log would have no effect, so it goes into the input.
$(document).on('keydown', function ({target, key, ctrlKey, altKey, metaKey, originalEvent}) {
  const lost = target === document.body || $(target).closest('#log').length > 0;
  const types = (key.length === 1 && key !== ' ' || key === 'Dead') && !ctrlKey && !metaKey || /^v$/i.test(key);
  if (lost && types && !originalEvent.isComposing && !(altKey && /^\w$/.test(key))) { // on a Mac, Option makes other characters
    $msg.trigger('focus');
  }
}).on('paste', function (event) {
  const text = event.originalEvent.clipboardData?.getData('text/plain');
  const lost = !$(event.target).is('input, textarea');
  if (text && (lost || event.target === input && text.length >= heavy)) {
    event.preventDefault();
    const {value, selectionStart, selectionEnd} = input;
    const before = value.slice(0, selectionStart) + text.replace(/\r\n?/g, '\n');
    $msg.trigger('focus');
    setText(before + value.slice(selectionEnd), before.length);
  }
});

$(window).on('resize', grow);
onPersonChanged(showLeft);
setText(loadDraft());
