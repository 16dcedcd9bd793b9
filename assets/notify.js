// notify.js owns the page's title and icon, which show the number of unread lines; the notifications; and the
// bell, with which the person chooses them. It exports nothing.

import {room, root, path, device, load, save, person, onPersonChanged, onStored} from './store.js';
import {on} from './events.js';
import {splitLinks} from './links.js';
import {findMentions, parse} from './names.js';
import {hasRead, isAway} from './unread.js';
import {meaning, words} from './announce.js';
import {play, soundTrouble} from './sound.js';

const pageTitle = room ? room + ' – ' + document.title : document.title;
document.title = pageTitle;

on('unread', function (unread) {
  document.title = (unread ? '(' + unread + ') ' : '') + pageTitle;
  const icon = root + 'assets/' + (unread ? 'icon-unread.svg' : 'icon.svg');
  $('#icon').not('[href="' + icon + '"]').attr('href', icon); // an unchanged icon would flicker
  if (!unread) {
    forget();
    notification?.close();
  }
});

// ---- Announcing. Lines that come soon after each other are a burst, with one notification and one sound. One
// tab of the room announces them. Each tab waits for a random time, and longer without a sound. Then it claims
// the burst, unless another tab has done so, or the person has read it there.

const burstTime = 2000; // milliseconds from the first line of a burst to its end
const longest = 1200; // characters of a line in which the name is looked for
const settleTime = 300; // milliseconds in which tabs on a busy device see each other's claims
const key = path + ':announced'; // the last claim: the position of its last line, and the tab
const me = Math.random(); // this tab

let count = 0, last; // the number of lines in the burst, and the last of them
let claimTimer, notification; // of the last burst

// mentions reports whether a line has the person's name in the part that the log shows folded, outside of links.
const mentions = ({text}) => splitLinks(parse(text).text.slice(0, longest)).some(part => !part.href && findMentions(part, person.name).length > 0);

on('news', function (line) {
  if (person.notify === 'everything' || person.notify === 'mentions' && (count > 20 || mentions(line))) { // a flood is not searched
    last = line;
    count++;
    if (count === 1) {
      claimTimer = setTimeout(claim, burstTime + 300 * Math.random() + (soundTrouble() ? 300 : 0));
    }
  }
});

// isDone reports whether the person has noticed the line at a position, or another tab announces it.
function isDone({epoch, seq}) {
  const claimed = load(device, key, {});
  const isTaken = claimed.by !== me && claimed.epoch === epoch && claimed.seq >= seq;
  return isTaken || !isAway() || hasRead({epoch, seq});
}

function forget() {
  clearTimeout(claimTimer);
  count = 0;
}

onStored(key, () => count > 0 && isDone(last.position) && forget());

function claim() {
  const {text, position} = last, {title, body} = words(count, text, pageTitle);
  count = 0;
  if (!isDone(position)) {
    save(device, key, {...position, by: me});
    setTimeout(() => isDone(position) || announce(title, body), settleTime);
  }
}

function announce(title, body) {
  try {
    if (!trouble()) {
      notification = new Notification(title, {body, tag: path, renotify: true, icon: root + 'assets/icon.svg'});
      notification.onclick = () => window.focus();
    }
  } catch {
    refuses = true;
  }
  soundTrouble() || play();
}

// ---- The bell.

// refuses reports whether only a service worker can make notifications. announce sets it after a failure.
let refuses = /Android.*Chrome/.test(navigator.userAgent);

// trouble says why there are no notifications, or returns ''.
function trouble() {
  if (!window.isSecureContext) {
    return 'notifications need https';
  }
  try {
    if (!refuses) {
      return Notification.permission === 'granted' ? '' : 'the browser has not allowed notifications';
    }
  } catch {}
  return 'this browser shows no notifications of a page';
}

function showChoice() {
  const text = meaning(person, trouble(), soundTrouble());
  $('#bell').toggleClass('on', person.notify !== 'nothing');
  $('#bell input').each((i, choice) => { choice.checked = choice.value === person.notify; });
  $('#means').not((i, e) => e.textContent === text).text(text); // a screen reader reads each change
}

// A click on the present choice asks for the permission again. Browsers may answer late, or never.
$('#bell input').on('click', function () {
  person.set('notify', this.value);
  try {
    if (this.value !== 'nothing' && Notification.permission === 'default') {
      Notification.requestPermission()?.catch(() => {});
    }
  } catch {}
});
onPersonChanged(showChoice);
showChoice();
setInterval(() => $('#bell').prop('open') && showChoice(), 500); // what the system changes is not always reported
