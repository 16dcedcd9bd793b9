// Notifications, their sound, and the bell. Lines that come soon after each other are one burst.

import assert from 'node:assert/strict';
import {all, eventually, test} from './harness.js';

// stubs replaces what the browser would show and play. It keeps each notification in shown, and the numbers of those
// that were closed in ended, and counts the sounds. permission is what the browser has decided before the person is
// asked. While see.holds is true, the page's timers that end a burst wait.
function stubs(permission) {
  const later = setTimeout;
  window.setTimeout = (f, ms, ...args) => later(function due() {
    see.holds && ms >= 1500 && ms < 3000 ? later(due, 20) : f(...args);
  }, ms);
  window.shown = [];
  window.ended = [];
  window.sounds = 0;
  window.Notification = class {
    static permission = permission;
    static requestPermission = async () => Notification.permission = 'granted';
    constructor(title, {body}) { this.n = shown.push(title + '|' + body) - 1; }
    close() { ended.push(this.n); }
    addEventListener() {}
  };
  if (window.AudioContext) {
    const {createOscillator} = AudioContext.prototype;
    AudioContext.prototype.createOscillator = function () {
      sounds++;
      return createOscillator.call(this);
    };
  }
}

const announced = page => page.until(() => shown.length > 0);
const hold = (page, holds) => page.eval(holds => { see.holds = holds; }, holds);

// opened opens a page with stubs, for a person who has the name Ann and has chosen what to be notified of.
async function opened(stage, choice, permission = 'granted') {
  const {ann, page, network} = await stage.open();
  network.preload(stubs, permission);
  network.preload(choice => {
    localStorage['chat:name'] = '"Ann"';
    localStorage['chat:notify'] = JSON.stringify(choice);
  }, choice);
  await page.enterAgain();
  return {bob: ann, page, network};
}

test('A person is notified of nothing, of mentions, or of everything, as chosen, while looking elsewhere', {}, async stage => {
  const {ann, page, network} = await stage.open();
  network.preload(stubs, 'default');
  await page.enterAgain();
  await page.rename('Ann');
  let count = 0;
  const hear = async line => {
    ann.say(line);
    await page.until(count => see.entries().length === count, ++count);
  };
  await page.look(false);
  await hear('Bob: hello, Ann');
  await page.until(() => $('#bell input:checked').val() === 'nothing');

  await page.click('#bell summary');
  await page.click('#bell [value=mentions]');
  await page.until(() => $('#means').text() === 'A notification and a sound.');
  await page.picture('bell.png');
  await page.look(true);
  await hear('Bob: Ann, are you there?');
  await page.look(false);
  await hear('Bob: Annette, and Joann, and ann_x');
  await hear('Bob: who is that?');
  await hear('Bob: see https://example.com/пут/ann or www.shop.example/ann'); // which nothing marks
  await hear('Bob: I mean @ann!');
  await announced(page);
  assert.deepEqual(await page.eval(() => [shown, sounds]), [['Bob – Chat|I mean @ann!'], 1]); // nothing else was reported
  await hear('Ann, without a name');
  await page.until(() => shown.at(-1) === 'Chat|Ann, without a name');
  await page.until(() => $('#lines mark').get().map(e => e.textContent).join() === 'Ann,Ann,@ann,Ann' && $('#bell').is('.on'));
  await page.focus('#msg');
  await page.say('Ann is me');
  count++;
  await page.until(() => $('#lines .own').length === 1 && $('.own mark').length === 0);

  await page.look(false);
  await page.eval(() => { $('#bell').prop('open', true).find('[value=everything]').trigger('click'); });
  await hear('Bob: whatever');
  await page.until(() => shown.length === 3 && shown[2] === 'Bob – Chat|whatever'); // and none of the own line
  await page.enterAgain();
  await page.until(() => $('#bell input:checked').val() === 'everything');
  await page.expectNoComplaints();
});

// A slow machine may make several bursts of one.
const ofBursts = (page, last) => page.until(last => shown.at(-1)?.endsWith(last) && shown.length < 10, last);

test('A burst is one notification and one sound, and the notification closes when the person looks', {engines: all}, async stage => {
  const {bob, page} = await opened(stage, 'everything');
  await page.look(false);
  bob.say(...Array.from({length: 200}, (_, n) => `Bob: line ${n}`));
  await ofBursts(page, 'new messages – Chat|Bob: line 199');
  await page.look(true);
  await page.until(() => ended.join() === String(shown.length - 1)); // it has replaced those before
  await page.look(false);
  bob.say('Bob: and now');
  await page.until(() => shown.at(-1) === 'Bob – Chat|and now' && document.title === '(1) Chat');
});

test('Lines that were missed during a cut are one burst', {}, async stage => {
  const {bob, page, network} = await opened(stage, 'mentions');
  bob.say('Bob: before');
  await page.until(() => see.entries().length === 1);
  network.cut();
  bob.say(...Array.from({length: 200}, (_, n) => `Bob: ${n}, Ann`));
  await page.look(false);
  network.heal();
  await ofBursts(page, 'new messages – Chat|Bob: 199, Ann');
});

test('What the person sees coming, or reads before the announcement, is not announced', {}, async stage => {
  const {bob, page} = await opened(stage, 'everything');
  bob.say('Bob: in view');
  await page.until(() => see.entries().length === 1);
  await hold(page, true);
  await page.look(false);
  bob.say('Bob: read soon');
  await page.until(() => document.title === '(1) Chat');
  await page.look(true);
  await page.look(false);
  await hold(page, false);
  bob.say('Bob: not read');
  await announced(page);
  assert.deepEqual(await page.eval(() => shown), ['Bob – Chat|not read']);
});

test('Two tabs of a person announce a line once', {}, async stage => {
  const {bob, page} = await opened(stage, 'everything');
  const other = await page.another();
  await page.look(false);
  await other.look(false);
  await hold(other, true);
  bob.say('Bob: one');
  await announced(page);
  await hold(page, true);
  await other.until(() => document.title === '(1) Chat');
  await hold(other, false);
  bob.say('Bob: two');
  await announced(other);
  await hold(page, false);
  bob.say('Bob: three');
  const said = async () => [...await page.eval(() => shown), ...await other.eval(() => shown)];
  await eventually(async () => (await said()).includes('Bob – Chat|three'));
  assert.deepEqual((await said()).sort(), ['one', 'three', 'two'].map(text => 'Bob – Chat|' + text));
});

test('A tab does not announce what is in view in another one', {}, async stage => {
  const {bob, page} = await opened(stage, 'everything');
  const other = await page.another();
  await page.look(false);
  await hold(page, true);
  bob.say('Bob: in view');
  await other.until(() => see.entries().length === 1);
  await page.until(() => see.entries().length === 1 && document.title === 'Chat'); // and no longer "(1) Chat"
  await hold(page, false);
  await other.look(false);
  bob.say('Bob: not in view');
  const said = async () => [...await page.eval(() => shown), ...await other.eval(() => shown)];
  await eventually(async () => (await said()).length > 0);
  assert.deepEqual([...new Set(await said())], ['Bob – Chat|not in view']);
});

for (const [what, permission, take, means] of [
  ['has no notifications', 'granted', () => { delete window.Notification; }, /^A sound: this browser shows no notifications of a page\.$/],
  ['refuses them', 'denied', () => {}, /^A sound: the browser has not allowed notifications\.$/],
  ['throws at each', 'granted', () => {
    window.Notification = class {
      static permission = 'granted';
      constructor() { throw new TypeError('use a service worker'); }
    };
  }, /^A sound: this browser shows no notifications of a page\.$/],
  ['has no sound either', 'denied', () => { delete window.AudioContext; delete window.webkitAudioContext; },
    /^Only the number in the title: the browser has not allowed notifications, and this browser plays no sound now\.$/],
]) {
  test(`The bell says what the person will notice if the browser ${what}`, {}, async stage => {
    const {ann, page, network} = await stage.open();
    network.preload(stubs, permission);
    network.preload(take);
    await page.enterAgain();
    await page.click('#bell summary');
    await page.click('#bell [value=everything]');
    await page.look(false);
    ann.say('Bob: hello');
    await page.until(means => new RegExp(means).test($('#means').text()), means.source);
    await page.until(() => document.title === '(1) Chat');
    await page.expectNoComplaints();
  });
}

test('A sound that the system has suspended comes back at the next touch', {}, async stage => {
  const {page, network} = await stage.open();
  network.preload(stubs, 'granted');
  network.preload(() => {
    const Real = AudioContext;
    window.AudioContext = class extends Real {
      constructor() {
        super();
        window.audio = this;
      }
    };
  });
  await page.enterAgain();
  await page.click('#bell summary');
  await page.click('#bell [value=everything]');
  await page.until(() => audio.state === 'running' && $('#means').text() === 'A notification and a sound.');
  await page.eval(() => audio.suspend());
  await page.until(() => /^A notification, but no sound: this browser plays no sound now/.test($('#means').text()));
  await page.press('Shift');
  await page.until(() => audio.state === 'running' && $('#means').text() === 'A notification and a sound.');
});

test('The title and the icon count what came while the person looked elsewhere', {short: true}, async stage => {
  const {ann, page} = await stage.open();
  await page.look(false);
  ann.say('one', 'two');
  await page.until(() => document.title === '(2) Chat' && $('#icon').attr('href') === 'assets/icon-unread.svg');
  await page.look(true);
  await page.until(() => document.title === 'Chat' && $('#icon').attr('href') === 'assets/icon.svg');
});

test('The server has the manifest, and the icons of the page and the manifest', {}, async stage => {
  const {page} = await stage.open();
  const missing = await page.eval(async () => {
    const links = $('link[rel=icon], link[rel=manifest]').get().map(link => link.href);
    const {icons} = await (await fetch(links[1])).json();
    const all = [...links, ...icons.map(icon => new URL(icon.src, links[1]).href), links[0].replace('icon.svg', 'icon-unread.svg')];
    return (await Promise.all(all.map(async url => (await fetch(url)).ok ? [] : [url]))).flat();
  });
  assert.deepEqual(missing, []);
});
