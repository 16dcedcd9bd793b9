// store.js owns what the page was served with, what it keeps in the browser, and the person's settings. It
// exports root, limits, room and path; device, tab, load and save; person and onPersonChanged.

// root is the relative URL of the directory of all rooms; in the nameless room it is ''. limits has the
// server's limits, as strings: rooms, maxMessage in bytes, and history in lines.
export const {root, ...limits} = document.body.dataset;

// room is the room's name; '' for the nameless room.
export const room = root ? decodeURIComponent(location.pathname.split('/').at(-2)) : '';

// path begins the keys of all values that are kept for this room alone. Other rooms have other paths, and
// so have other programs on the same host.
export const path = location.pathname;

// device and tab return the two stores for load and save. All tabs of the browser share the device's store,
// which lasts. A tab's store ends with the tab; a duplicated tab begins with a copy of it. Both are
// functions because the mere access throws an error where storage is forbidden.
export const device = () => window.localStorage;
export const tab = () => window.sessionStorage;

// load returns the value that save stored under key. It returns fallback if there is none, or if the value
// has another type than fallback. It never throws.
export function load(store, key, fallback) {
  try {
    const value = JSON.parse(store().getItem(key));
    return value?.constructor === fallback.constructor ? value : fallback;
  } catch {
    return fallback; // storage is forbidden, or another program stored something else
  }
}

// save stores value, which must be JSON, under key. It does nothing if storage is full or forbidden.
export function save(store, key, value) {
  try {
    store().setItem(key, JSON.stringify(value));
  } catch {}
}

// person holds the settings that all tabs share. isNamed is true once the person has chosen a name, or to
// have none; then name is ''. notify is 'nothing', 'mentions' or 'everything'. set changes and stores one
// setting; it doesn't call the functions of onPersonChanged.
export const person = {
  isNamed: load(device, 'chat:isNamed', false),
  name: load(device, 'chat:name', ''),
  notify: load(device, 'chat:notify', 'nothing'),
  set(key, value) {
    this[key] = value;
    save(device, 'chat:' + key, value);
  },
};

const watchers = []; // the functions given to onPersonChanged

// onPersonChanged registers f, which is called without arguments after another tab has changed person.
export const onPersonChanged = f => watchers.push(f);

window.addEventListener('storage', function ({key, storageArea}) {
  const [, name] = /^chat:(isNamed|name|notify)$/.exec(key) ?? [];
  if (name && storageArea === window.localStorage) {
    person[name] = load(device, key, person[name]);
    watchers.forEach(f => f());
  }
});
