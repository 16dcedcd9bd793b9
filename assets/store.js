// store.js owns what the page was served with, what it stores in the browser, and the person's settings.

const {root: rootURL, ...others} = document.body.dataset;

// root is the relative URL of the directory of all rooms; in the nameless room it is ''. limits has the server's
// limits, as strings: rooms, maxMessage in bytes, and history in lines. Its page is the digest of the page's files.
export const root = rootURL;
export const limits = others;

// room is the room's name; '' for the nameless room.
export const room = root ? decodeURIComponent(location.pathname.split('/').at(-2)) : '';

// path begins the keys of all values that are stored for this room alone. Other rooms have other paths, and so have
// other programs on the same host.
export const path = location.pathname;

// device and tab return the two stores for the functions below. All tabs of the browser share the device's store,
// which lasts. A tab's store ends with the tab; a duplicated tab begins with a copy of it. Both are functions because
// the mere access throws an error where storage is forbidden. The functions below never throw.
export const device = () => window.localStorage;
export const tab = () => window.sessionStorage;

function attempt(f, otherwise) {
  try {
    return f();
  } catch {
    return otherwise; // storage is full or forbidden, or another program stored something else
  }
}

// load returns the value that save stored under key. It returns fallback if there is none, or if the value has
// another type than fallback.
export function load(store, key, fallback) {
  const value = attempt(() => JSON.parse(store().getItem(key)));
  return value?.constructor === fallback.constructor ? value : fallback;
}

// save stores value, which must be JSON, under key, and returns whether it could.
export const save = (store, key, value) => attempt(() => (store().setItem(key, JSON.stringify(value)), true), false);

export const remove = (store, key) => attempt(() => store().removeItem(key));

// storedKeys returns the keys of a store that begin with prefix.
export const storedKeys = (store, prefix) => attempt(() => Object.keys(store()).filter(key => key.startsWith(prefix)), []);

// onStored registers f, which is called with the key after another tab has changed or removed what the device stores
// under a key that begins with prefix.
export function onStored(prefix, f) {
  window.addEventListener('storage', ({key}) => key?.startsWith(prefix) && f(key));
}

// person holds the settings that all tabs share. isNamed is true once the person has chosen a name, or to have none;
// then name is ''. notify is 'nothing', 'mentions' or 'everything'. set changes and stores one setting.
export const person = {
  isNamed: load(device, 'chat:isNamed', false),
  name: load(device, 'chat:name', ''),
  notify: load(device, 'chat:notify', 'nothing'),
  set(key, value) {
    this[key] = value;
    save(device, 'chat:' + key, value);
    whenChanged.forEach(f => f());
  },
};

const whenChanged = [];

// onPersonChanged registers f, which is called after this tab or another has changed person.
export const onPersonChanged = f => whenChanged.push(f);

onStored('chat:', function (key) {
  const name = key.slice('chat:'.length);
  if (['isNamed', 'name', 'notify'].includes(name)) {
    person[name] = load(device, key, person[name]);
    whenChanged.forEach(f => f());
  }
});
