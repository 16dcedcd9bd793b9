// Browsers that lack something, in which something throws or never answers, or that are too old.

import assert from 'node:assert/strict';
import {test} from './harness.js';

// ---- What is taken away. Each case is [name, {edit, preloads}], for a Network: preloads are arrays of arguments of preload.

// take has pages find something missing or broken, by its path from window, such as "navigator.share".
function take(path, way) {
  const names = path.split('.'), name = names.pop(), object = names.reduce((o, name) => o?.[name], window);
  let before;
  try {
    before = object?.[name];
  } catch {} // a getter of a prototype
  const fail = () => { throw new DOMException('taken away', 'NotAllowedError'); };
  const broken = {throws: fail, rejects: async () => fail(), hangs: () => new Promise(() => {})}[way];
  const f = function () { return broken(); };
  if (typeof before === 'function') {
    Object.setPrototypeOf(f, before); // with its other properties
    f.prototype = before.prototype;
  }
  let owner = object;
  while (owner && !Object.hasOwn(owner, name)) {
    owner = Object.getPrototypeOf(owner);
  }
  if (way === 'is missing') {
    owner && delete owner[name];
  } else if (way === 'is null') {
    Object.defineProperty(owner, name, {configurable: true, value: null});
  } else if (way === 'throws at a glance') {
    Object.defineProperty(owner, name, {configurable: true, get: fail});
  } else if (object) {
    Object.defineProperty(owner ?? object, name, {configurable: true, writable: true, value: f});
  }
}

// These are younger than the oldest supported browsers. Those that the scripts don't name are taken away together only.
const young = `String.prototype.toWellFormed String.prototype.isWellFormed URL.canParse URL.parse URLSearchParams.prototype.size
  Array.prototype.toSorted Array.prototype.toReversed Array.prototype.toSpliced Array.prototype.with Array.fromAsync Object.groupBy Map.groupBy
  Promise.withResolvers Promise.try Set.prototype.union Set.prototype.intersection Set.prototype.difference Set.prototype.symmetricDifference
  Set.prototype.isSubsetOf Set.prototype.isSupersetOf Set.prototype.isDisjointFrom
  ${'map filter take drop flatMap reduce toArray forEach some every find'.replace(/\w+/g, 'Iterator.prototype.$&')} Iterator
  AbortSignal.any AbortSignal.timeout Intl.Segmenter Intl.DurationFormat Response.json Uint8Array.fromBase64 Uint8Array.fromHex
  Uint8Array.prototype.toBase64 Uint8Array.prototype.toHex RegExp.escape Math.sumPrecise Error.isError
  Element.prototype.checkVisibility Element.prototype.setHTMLUnsafe HTMLElement.prototype.togglePopover Element.prototype.scrollIntoViewIfNeeded
  document.adoptedStyleSheets document.startViewTransition Document.parseHTMLUnsafe navigation scheduler requestIdleCallback CloseWatcher EditContext
  Highlight CSS.highlights cookieStore documentPictureInPicture navigator.userActivation navigator.wakeLock navigator.setAppBadge OffscreenCanvas
  CompressionStream Selection.prototype.getComposedRanges Selection.prototype.modify onscrollend InputEvent.prototype.isComposing
  enterKeyHint`.split(/\s+/);

// These exist in all supported browsers, or only with https, and may fail in each of these ways.
const fallible = {
  'localStorage': ['is null', 'throws at a glance'],
  'sessionStorage': ['is null', 'throws at a glance'],
  'Storage.prototype.setItem': ['throws'],
  'Storage.prototype.getItem': ['throws'],
  'Storage.prototype.removeItem': ['throws'],
  'navigator.clipboard': ['is missing', 'throws at a glance'],
  'navigator.clipboard.writeText': ['throws', 'rejects', 'hangs'],
  'navigator.share': ['is missing', 'throws', 'rejects', 'hangs'],
  'Notification': ['is missing', 'throws', 'throws at a glance'],
  'Notification.requestPermission': ['is missing', 'throws', 'rejects', 'hangs'],
  'AudioContext': ['is missing', 'throws'],
  'AudioContext.prototype.resume': ['throws', 'rejects', 'hangs'],
  'AudioContext.prototype.createOscillator': ['throws'],
  'fetch': ['is missing', 'throws', 'rejects', 'hangs'],
  'navigator.permissions': ['is missing', 'throws at a glance'],
  'navigator.permissions.query': ['throws', 'rejects', 'hangs'],
  'navigator.locks': ['is missing', 'throws at a glance'],
  'navigator.locks.request': ['throws', 'rejects', 'hangs'],
  'navigator.connection': ['is missing', 'throws at a glance'],
  'BroadcastChannel': ['is missing', 'throws'],
  'visualViewport': ['is missing', 'is null'],
  'ResizeObserver': ['is missing', 'throws'],
  'IntersectionObserver': ['is missing'],
  'crypto.randomUUID': ['is missing', 'throws'],
  'crypto.subtle': ['is missing'],
  'document.execCommand': ['is missing', 'throws'],
  'reportError': ['is missing'],
  'AbortController': ['is missing'],
  'Element.prototype.scrollBy': ['is missing'],
  'Date.prototype.toLocaleString': ['throws'],
  'Number.prototype.toLocaleString': ['throws'],
};

// In these ways a style or the page's markup has what a browser doesn't know.
const unknown = {
  'the unit dvh': [/\bdvh\b/g, 'nounit'],
  'oklch()': [/oklch\(/g, 'nocolour('],
  'overflow clip': [/overflow: clip/g, 'overflow: noclip'],
  'mask-image': [/(-webkit-)?mask-image/g, 'no-mask-image'],
  'overflow-anchor': [/overflow-anchor/g, 'no-anchor'],
  'overscroll-behavior': [/overscroll-behavior/g, 'no-overscroll'],
  'accent-color': [/accent-color/g, 'no-accent-color'],
  'resize': [/\bresize: none/g, 'no-resize: none'],
  'forced-colors': [/forced-colors/g, 'no-forced-colors'],
  'interactive-widget': [', interactive-widget=resizes-content', ''],
  'autofocus': [' autofocus', ''],
  'autocapitalize': [' autocapitalize="none"', ''],
  'the manifest': [/<link rel="manifest".*>/g, ''],
};

const failing = pairs => ({preloads: pairs.map(([path, way]) => [take, path, way])});
const editing = edits => ({edit: (text, path) => path.endsWith('/') ? edits.reduce((text, edit) => text.replaceAll(...edit), text) : text});
const inWay = way => Object.entries(fallible).filter(([, ways]) => ways.includes(way)).map(([path]) => [path, way]);
const missing = Object.entries(fallible).map(([path, ways]) => [path, ways[0]]).filter(([, way]) => /^is/.test(way));

const cases = [
  ...Object.entries(fallible).flatMap(([path, ways]) => ways.map(way => [`${path} ${way}`, failing([[path, way]])])),
  ...Object.entries(unknown).map(([what, edit]) => [what + ' is unknown', {...editing([edit]), isShort: true}]),
  ['all of them are missing', {...failing([...young.map(path => [path, 'is missing']), ...missing]), ...editing(Object.values(unknown))}],
  ['all of them throw', failing(inWay('throws'))],
  ['all of them throw at a glance', failing(inWay('throws at a glance'))],
  ['all of them reject', failing(inWay('rejects'))],
  ['all of them hang', failing(inWay('hangs'))],
];

// soon has a page's timers run ahead.
function soon() {
  const later = window.setTimeout;
  window.setTimeout = (f, ms, ...args) => later(f, ms > 50 && ms < 4000 ? ms / 10 : ms, ...args);
}

// talk has a person enter a room through a network, and say and hear something; and use all of the page, lose the
// connection, and say something again, unless the case isShort.
async function talk(stage, chat, page, ann, room, [what, {edit, preloads = [], isShort}]) {
  const network = await stage.network();
  network.port = chat.port;
  network.edit = edit;
  network.preload(soon);
  preloads.forEach(args => network.preload(...args));
  const say = async text => {
    await page.eval(text => {
      $('#msg').val(text).trigger('input');
      $('#form')[0].requestSubmit();
      $('#nameless:visible').trigger('click');
    }, text);
    await ann.expect(text);
    await page.until(text => $('.own .text').last().text() === text && see.allSent(), text);
  };
  const hear = async text => {
    ann.say('Ann: ' + text);
    await ann.expect('Ann: ' + text);
    await page.until(text => $('#lines .text').last().text() === text, text);
  };
  await page.enter(`${network.origin}/${room}/`);
  await hear('one, when ' + what);
  await say('two, when ' + what);
  if (isShort) {
    assert.deepEqual(await page.eval(() => see.complaints), []);
    await network.close();
    return;
  }
  await page.eval(() => {
    see.here = false;
    window.dispatchEvent(new Event('blur'));
    $('#bell').prop('open', true);
    $('#bell [value=everything]').trigger('click');
    $('#menu').prop('open', true);
    $('#share').trigger('click');
  });
  await hear('three, when ' + what);
  await page.until(() => document.title.startsWith('(1) '));
  const {upgrades} = network;
  network.answer = path => path.endsWith('/ws') && network.upgrades < upgrades + 3 ? {status: 502} : undefined;
  network.heal();
  await page.until(() => $('#word').text() !== 'live');
  await page.untilLive();
  await page.eval(() => {
    see.here = true;
    window.dispatchEvent(new Event('focus'));
    $('#log').trigger('focus');
    $('.menu').prop('open', false);
  });
  await say('four, when ' + what);
  assert.deepEqual(await page.eval(() => see.complaints), []);
  await network.close();
}

// served returns the URLs of the page's scripts.
async function served({port}) {
  const home = await (await fetch(`http://127.0.0.1:${port}/`)).text();
  return [...home.matchAll(/<script src="([^"]+)"/g)].map(([, path]) => `http://127.0.0.1:${port}/${path}`);
}

const lanes = 3; // persons who try cases side by side
test('Whatever a browser lacks, and whatever throws or never answers, the page says and hears', {}, async (stage, t) => {
  const chat = await stage.start();
  const scripts = (await Promise.all((await served(chat)).map(async url => (await fetch(url)).text()))).join();
  const named = young.filter(path => new RegExp(`\\b${path.split('.').at(-1)}\\b`).test(scripts));
  t.diagnostic('the scripts name ' + named.join(' '));
  const left = [...named.map(path => [path + ' is missing', {...failing([[path, 'is missing']]), isShort: true}]), ...cases];
  const failures = [];
  await Promise.all(Array.from({length: lanes}, async (_, lane) => {
    const room = 'lane' + lane;
    let page = await stage.person();
    const ann = await chat.join(`/${room}/ws`);
    for (let next = left.shift(); next; next = left.shift()) {
      await talk(stage, chat, page, ann, room, next).catch(error => failures.push(`${next[0]}: ${error.message}`));
    }
  }));
  assert.equal(failures.length, 0, failures.join('\n\n'));
});

// ---- Browsers that are too old.

const word = () => (e => ({shown: getComputedStyle(e).visibility === 'visible', text: e.textContent}))(document.querySelector('#old'));
const hurry = () => document.getAnimations().forEach(animation => animation.finish());

for (const [what, change] of Object.entries({
  'a script is not found': network => { network.answer = path => path.endsWith('.js') &&
      !path.includes('jquery') ? {status: 404} : undefined; },
  'jQuery is not found': network => { network.answer = path => path.includes('jquery') ? {status: 404} : undefined; },
  'a script can’t be read': network => { network.edit = (text, path) => path.endsWith('.js') ? 'let a = 1n ??= @;' + text : text; },
  'modules are unknown': network => { network.edit = text => text.replaceAll('type="module"', 'type="text/unknown"'); },
})) {
  test(`A page that does not start says which browsers it needs, as when ${what}`, {}, async stage => {
    const [chat, page] = await Promise.all([stage.start(), stage.person()]);
    change(chat.network);
    await page.goto(chat.url);
    await page.until(() => document.querySelector('#old'));
    assert.equal((await page.eval(word)).shown, false);
    await page.eval(hurry);
    await page.until(() => getComputedStyle(document.querySelector('#old')).visibility === 'visible');
    assert.match((await page.eval(word)).text, /JavaScript.*Chrome or Edge 105, Firefox 115, Safari 15.4/);
    await page.picture(`old-${what.replaceAll(/\W+/g, '-')}.png`);
  });
}

test('The word for old browsers goes when a slow script has come after all', {}, async stage => {
  const [chat, page] = await Promise.all([stage.start(), stage.person()]);
  chat.network.delay = 700;
  const loaded = page.goto(chat.url);
  await page.until(() => document.querySelector('#old') && document.getAnimations().length > 0);
  await page.eval(hurry);
  await page.until(() => getComputedStyle(document.querySelector('#old')).visibility === 'visible');
  await loaded;
  await page.untilLive();
  await page.until(() => !document.querySelector('#old'));
});

test('Without JavaScript the page says so at once', {}, async stage => {
  const [chat, page] = await Promise.all([stage.start(), stage.person()]);
  await page.page.setJavaScriptEnabled(false);
  await page.goto(chat.url);
  const {nodes} = await page.devtools('Accessibility.getFullAXTree');
  assert.ok(nodes.some(({name}) => name?.value === 'This chat needs JavaScript.'), JSON.stringify(nodes.map(node => node.name?.value)));
});

// Syntax can't be taken away. These are the younger constructs that would keep a whole script, or a rule, from working.
test('Scripts and styles have no syntax that is younger than the oldest supported browsers', {}, async stage => {
  const chat = await stage.start();
  const get = async url => (await fetch(url, {headers: {accept: 'text/html, */*'}})).text();
  for (const url of (await served(chat)).filter(url => !url.includes('jquery'))) {
    const script = await get(url);
    for (const construct of [/\(\?<[=!]/, /\(\?[ims]+(-[ims]+)?:/, /\/[a-z]*v[a-z]*[,;).]/, /\bstatic \{/, /\bwith \{ *type:/, /\bawait using\b/,
      /\.findLast(Index)?\(/, /\bimport\.meta\.resolve/, /\bcss`/]) {
      assert.doesNotMatch(script, construct, url);
    }
  }
  const pages = await Promise.all(['', 'no such page'].map(path => get(`http://127.0.0.1:${chat.port}/${path}`)));
  for (const style of pages.map(page => page.match(/<style>(.*?)<\/style>/s)[1])) {
    for (const construct of [/light-dark\(/, /color-mix\(/, /:has\(/, /&/, /[\d.](lh|rlh|svh|lvh|cqw|cqh)\b/, /@(container|scope|property|starting-style)/,
      /text-wrap|scrollbar-(color|width|gutter)|field-sizing|interpolate-size|anchor-name|inset-area|subgrid/]) {
      assert.doesNotMatch(style, construct);
    }
  }
});
