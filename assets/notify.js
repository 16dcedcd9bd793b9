// notify.js owns the page's title and icon, which show the number of unread lines; the bell, with which the
// person chooses notifications; and the notifications and their sound. It exports notify.

import {room, root, person, onPersonChanged} from './store.js';
import {onUnread, parse, mentions} from './log.js';

const soundPause = 3000; // milliseconds from one sound to the next, at least
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

// notify shows a notification of a line and plays the sound, if the person has chosen that for this line.
// The caller must make sure that the line is new, and that the person is away.
export function notify({text}) {
  const line = parse(text);
  if (person.notify === 'everything' || person.notify === 'mentions' && mentions(line.text)) {
    show(line);
    play();
  }
}

// canNotify reports whether the browser has notifications. It has none for a page without TLS.
const canNotify = () => window.isSecureContext && 'Notification' in window;

function show({name, text}) {
  if (!canNotify() || Notification.permission !== 'granted') {
    return;
  }
  try {
    const notification = new Notification(name ? name + ' – ' + title : title, {body: text.replaceAll('\u2028', '\n'), tag: title, renotify: true, icon: root + 'assets/icon.svg'});
    notification.onclick = function () {
      window.focus();
      notification.close();
    };
  } catch {} // Chrome on Android allows only a service worker to show notifications
}

// ---- The sound, a soft tone of a fifth of a second. A browser plays it only if the person has clicked or
// typed before.

let audio; // an AudioContext, made by unlock; undefined until it is first needed
let lastPlayed = -soundPause; // by performance.now(); set by play

function unlock() {
  if (person.notify !== 'nothing' && window.AudioContext) {
    audio ??= new AudioContext();
    audio.resume();
  }
}

function play() {
  const now = performance.now();
  if (!audio || audio.state !== 'running' || now - lastPlayed < soundPause) {
    return;
  }
  lastPlayed = now;
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
  $means.text(person.notify === 'nothing' ? '' : choiceMeaning() + (person.notify === 'mentions' && !person.name ? ' You have no name yet.' : ''));
}

// choiceMeaning says what the person will notice. The browser may allow less than the person chose.
function choiceMeaning() {
  if (!canNotify()) {
    return 'A sound: notifications need https.';
  }
  return Notification.permission === 'granted' ? 'A notification and a sound.' : 'A sound: the browser does not allow notifications.';
}

$('#bell input').on('change', async function () {
  person.set('notify', this.value);
  unlock();
  if (person.notify !== 'nothing' && canNotify() && Notification.permission === 'default') {
    await Notification.requestPermission();
  }
  showChoice();
});
onPersonChanged(showChoice);
showChoice();
