// notify.js: how the person learns of new lines while looking elsewhere: the title, the icon, and if
// wanted, a notification and a sound.

import {room, root, person, onPersonChanged} from './store.js';
import {onUnread, parse, mentions} from './log.js';

const soundPause = 3000; // milliseconds
const title = room ? room + ' – ' + document.title : document.title;
const $means = $('#means');

document.title = title;
onUnread(function (unread) {
  document.title = (unread ? '(' + unread + ') ' : '') + title;
  const icon = root + 'assets/' + (unread ? 'icon-unread.svg' : 'icon.svg');
  if ($('#icon').attr('href') !== icon) {
    $('#icon').attr('href', icon);
  }
});

// notify tells the person of a new line.
export function notify({text}) {
  const line = parse(text);
  if (person.notify === 'everything' || person.notify === 'mentions' && mentions(line.text)) {
    show(line);
    play();
  }
}

const canShow = () => window.isSecureContext && 'Notification' in window;

function show({name, text}) {
  if (!canShow() || Notification.permission !== 'granted') {
    return;
  }
  try {
    const shown = new Notification(name ? name + ' – ' + title : title, {body: text.replaceAll('\u2028', '\n'), tag: title, renotify: true, icon: root + 'assets/icon.svg'});
    shown.onclick = function () {
      window.focus();
      shown.close();
    };
  } catch {} // Chrome on Android has notifications for service workers alone
}

// ---- The sound: a soft tone of a fifth of a second. Browsers want a click or a key before the first.

let audio;
let played = -soundPause;

function unlock() {
  if (person.notify !== 'nothing' && window.AudioContext) {
    audio ??= new AudioContext();
    audio.resume();
  }
}

function play() {
  const now = performance.now();
  if (!audio || audio.state !== 'running' || now - played < soundPause) {
    return;
  }
  played = now;
  const tone = audio.createOscillator(), volume = audio.createGain();
  tone.frequency.value = 660;
  volume.gain.setValueAtTime(0.06, audio.currentTime);
  volume.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + 0.2);
  tone.connect(volume).connect(audio.destination);
  tone.start();
  tone.stop(audio.currentTime + 0.2);
}

$(document).one('pointerdown keydown', unlock);

// ---- The bell.

function showChoice() {
  $('#bell').toggleClass('on', person.notify !== 'nothing');
  $('#bell input').each((i, choice) => { choice.checked = choice.value === person.notify; });
  $means.text(person.notify === 'nothing' ? '' : means() + (person.notify === 'mentions' && !person.name ? ' You have no name yet.' : ''));
}

function means() {
  if (!canShow()) {
    return 'A sound: notifications need https.';
  }
  return Notification.permission === 'granted' ? 'A notification and a sound.' : 'A sound: the browser does not allow notifications.';
}

$('#bell input').on('change', async function () {
  person.set('notify', this.value);
  unlock();
  if (person.notify !== 'nothing' && canShow() && Notification.permission === 'default') {
    await Notification.requestPermission();
  }
  showChoice();
});
onPersonChanged(showChoice);
showChoice();
