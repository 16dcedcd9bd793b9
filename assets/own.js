// own.js owns which lines the person said. The tab's list has those that were said in this tab, and the device's list
// those that were said in any tab by a person with a name. A list is {epoch, seqs}, for the last epoch.

import {path, limits, load, save, tab, device, onStored, person} from './store.js';

const most = Math.max(Number(limits.history), 100); // so that a reloaded page recognises own lines of the history
const key = path + ':own';
const loadList = store => load(store, key, {epoch: '', seqs: []});

let [ownInTab, ownOnDevice] = [tab, device].map(loadList); // copies of the stored lists

// recordOwn notes that the person said the line at a position, {epoch, seq}, in this tab.
export function recordOwn(position) {
  ownInTab = record(tab, ownInTab, position);
  if (person.name) {
    ownOnDevice = record(device, loadList(device), position);
  }
}

function record(store, list, {epoch, seq}) {
  const longer = {epoch, seqs: (list.epoch === epoch ? list.seqs : []).concat(seq).slice(-most)};
  save(store, key, longer);
  return longer;
}

// isOwn reports whether the person said the line at a position, in this tab or another.
export const isOwn = ({epoch, seq}) => [ownInTab, ownOnDevice].some(list => list.epoch === epoch && list.seqs.includes(seq));

// onOwnChanged registers f, which is called when isOwn has become true of lines that were said in another tab.
export const onOwnChanged = f => onStored(key, function () {
  ownOnDevice = loadList(device);
  f();
});
