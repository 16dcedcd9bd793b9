// store.js: what the page was served with, and what it keeps in the browser.

export const {root, ...limits} = document.body.dataset; // the relative URL of all rooms, or ''
export const room = root ? decodeURIComponent(location.pathname.split('/').at(-2)) : ''; // its name, or ''

// Keys of what is kept for this room alone begin with it: other rooms have other paths, and so have other
// programs on this host.
export const path = location.pathname;

// On this device, and as long as this tab lives.
export const device = () => window.localStorage;
export const tab = () => window.sessionStorage;

// load returns what is kept under a key, if it is of the type of otherwise.
export function load(store, key, otherwise) {
  try {
    const value = JSON.parse(store().getItem(key));
    return value?.constructor === otherwise.constructor ? value : otherwise;
  } catch {
    return otherwise; // storage is forbidden, or holds something else
  }
}

export function save(store, key, value) {
  try {
    store().setItem(key, JSON.stringify(value));
  } catch {} // full, or forbidden: then it is not kept
}

// The person at this device. isNamed says that they have chosen a name, or '' for none; notify is nothing,
// mentions or everything.
export const person = {
  isNamed: load(device, 'chat:isNamed', false),
  name: load(device, 'chat:name', ''),
  notify: load(device, 'chat:notify', 'nothing'),
  set(key, value) {
    this[key] = value;
    save(device, 'chat:' + key, value);
  },
};

const watchers = [];

// onPersonChanged has a function called when another tab has changed what it is about.
export const onPersonChanged = f => watchers.push(f);

window.addEventListener('storage', function ({key, storageArea}) {
  const [, name] = /^chat:(isNamed|name|notify)$/.exec(key) ?? [];
  if (name && storageArea === window.localStorage) {
    person[name] = load(device, key, person[name]);
    watchers.forEach(f => f());
  }
});
