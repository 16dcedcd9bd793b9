// lifecycle.js starts the connection, and reacts to what happens to the page, its device and the network.

import {path, load, device, onStored} from './store.js';
import {connect, disconnect, liveness, outbox, takeOver, untilRetry} from './connection.js';
import {tickTime} from './liveness.js';

takeOver();
connect();
setInterval(() => liveness.tick(), tickTime);

// check connects at once if an attempt is planned, or else asks whether the connection still lives. It is called when a
// person comes to the page, and when the network may be another.
function check() {
  untilRetry() === undefined ? liveness.probe() : connect();
}

window.addEventListener('online', check);
window.addEventListener('focus', check);
window.addEventListener('offline', () => liveness.probe()); // some systems say so without reason
document.addEventListener('resume', check); // a frozen page
document.addEventListener('visibilitychange', () => document.hidden || check());

// A person who uses the page must learn within seconds that it is cut off, so a touch probes after 5 s of silence.
for (const event of ['pointerdown', 'keydown', 'wheel', 'touchmove']) {
  window.addEventListener(event, () => liveness.probe(5000), {passive: true, capture: true});
}

// ---- Messages of closed pages. Because of the random delay, mostly one page alone takes them over.

onStored(path + ':outbox:', key => load(device, key, {}).at === 0 && setTimeout(takeOver, 200 + 800 * Math.random()));
setInterval(takeOver, 10000); // which renews this page's messages, too

window.addEventListener('pagehide', () => outbox.release());
window.addEventListener('pageshow', function ({persisted}) {
  if (persisted) { // the browser has stored the page as it was, but not its connection
    outbox.renew();
    disconnect();
    connect();
  }
});
window.addEventListener('beforeunload', function (event) {
  if (outbox.messages.length > 0) {
    event.preventDefault(); // the browser asks whether the person wants to leave
    event.returnValue = true; // for Chrome before 119
  }
});

try {
  navigator.connection.addEventListener('change', check);
} catch {} // few browsers have it
