// draft.js owns the draft, the text that is not sent yet. The tab stores it while the page is open. A page that
// is closed leaves its draft to the device, and the next page of the room without a draft takes it. It exports
// loadDraft and noteDraft.

import {path, device, tab, load, save, remove} from './store.js';

const key = path + ':draft';
let draft = ''; // what loadDraft returned, or noteDraft was given

// leftDrafts returns the drafts that closed pages have left, oldest first.
const leftDrafts = () => load(device, key, []).filter(text => typeof text === 'string');

// leave stores the draft on the device, if there is one, and returns whether that was possible.
const leave = () => draft === '' || save(device, key, [...leftDrafts(), draft]);

// take removes the draft from the device.
function take() {
  const others = leftDrafts().filter(text => text !== draft);
  others.length > 0 ? save(device, key, others) : remove(device, key);
}

// loadDraft returns the tab's draft, or else the newest that was left, or ''.
export function loadDraft() {
  draft = load(tab, key, '') || leftDrafts().pop() || '';
  take();
  return draft;
}

export function noteDraft(text) {
  draft = text.trim() && text;
  save(tab, key, draft);
}

window.addEventListener('pagehide', leave);
window.addEventListener('pageshow', take); // the browser may show a closed page again, as it was
window.addEventListener('beforeunload', function (event) {
  if (!leave()) {
    event.preventDefault(); // the browser asks whether the person wants to leave
    event.returnValue = true; // for Chrome before 119
  }
  take(); // the person may stay
});
