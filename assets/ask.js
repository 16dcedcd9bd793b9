// ask.js owns the question for the name, and the button that shows the name. The page asks once, before the
// first message. It exports withName.

import {person, onPersonChanged} from './store.js';
import {cleanName} from './names.js';

const [$ask, $name, $who, $naming] = ['#ask', '#name', '#who', '#naming'].map(id => $(id));
const advice = $naming.text();
let waiting; // the function that withName still has to call, or undefined

const isOpen = () => !$ask.prop('hidden');

// withName calls f as soon as the person has a name, or has chosen to have none. It uses the name in the open
// question, and asks if the person has not chosen yet. Closing the question forgets f.
export function withName(f) {
  if (person.isNamed && !isOpen()) {
    f();
    return;
  }
  waiting = f;
  isOpen() ? answer() : ask('');
}

// ask opens the question. It says why the name in it can't be used, or what a name is if why is ''.
function ask(why) {
  $ask.prop('hidden', false);
  $naming.text(why || advice).toggleClass('wrong', why !== '');
  $name.attr('aria-invalid', String(why !== '')).trigger('focus');
  why || $name.trigger('select');
}

// close hides the question. The field keeps what was typed, for the next time.
function close() {
  $ask.prop('hidden', true);
  waiting = undefined;
  $('#msg').trigger('focus');
}

// answer uses the name in the field, or says why it can't be one.
function answer() {
  const name = cleanName($name.val());
  if (name === '' || name.includes(':')) {
    ask(name ? 'A name can’t have a colon.' : 'Type a name, or choose “Without a name”.');
  } else {
    rename(name);
  }
}

// rename sets the person's name, which may be ''.
function rename(name) {
  const f = waiting;
  person.set('name', name);
  person.set('isNamed', true);
  close();
  f?.();
}

function showName() {
  const {name} = person, shown = name || 'No name';
  if ($who.text() !== shown) {
    $who.text(shown).attr('aria-label', name ? 'Your name: ' + name + '. Change it' : 'No name. Choose one');
    $name.val(name);
  }
}

$who.on('click', () => isOpen() ? close() : ask(''));
$('#nameless').on('click', () => rename(''));
$ask.on('submit', function (event) {
  event.preventDefault();
  answer();
});
$('#ask, #msg').on('keydown', function (event) {
  const {isComposing, keyCode} = event.originalEvent;
  if (isComposing || keyCode === 229 || !isOpen()) {
    return;
  }
  if (event.key === 'Escape') {
    event.stopPropagation();
    close();
  } else if (event.key === 'Enter' && event.target === $name[0]) { // with Control, too
    event.preventDefault();
    answer();
  }
});
person.name = cleanName(person.name); // an older page stored it as it was typed
onPersonChanged(showName);
showName();
