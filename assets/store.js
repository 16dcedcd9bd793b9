// store.js: what the page was served with, and what it keeps in the browser.

export const {root, ...limits} = document.body.dataset; // the relative URL of all rooms, or ''
export const room = root ? location.pathname.split('/').at(-2) : ''; // its name, or ''

// Keys of what is kept for this room alone begin with it: other rooms have other paths, and so have other
// programs on this host.
export const path = location.pathname;

// On this device, and as long as this tab lives.
export const device = () => window.localStorage;
export const tab = () => window.sessionStorage;

export function load(store, key, otherwise) {
  try {
    return JSON.parse(store().getItem(key)) ?? otherwise;
  } catch {
    return otherwise; // storage is forbidden, or holds something else
  }
}

export function save(store, key, value) {
  try {
    store().setItem(key, JSON.stringify(value));
  } catch {} // full, or forbidden: then it is not kept
}

// The person at this device. name is '' for who wants none, and null before that was asked; notify is
// nothing, mentions or everything.
export const person = {
  name: load(device, 'name', null)?.toString().replaceAll(':', '').trim() ?? null,
  notify: load(device, 'notify', 'nothing'),
  set(key, value) {
    this[key] = value;
    save(device, key, value);
  },
};
