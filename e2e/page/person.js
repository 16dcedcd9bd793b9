// person.js has what a person does on the page. It exports asPerson.

import {mkdirSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';

// asPerson gives a tab of engines.js these methods. stage keeps the further tabs of the person.
export const asPerson = (tab, stage) => Object.assign(tab, {stage}, methods(tab));

const methods = tab => ({
  // enter loads the page at url, or the last page again, and waits until it is live.
  async enter(url = tab.url) {
    tab.url = url;
    await tab.goto(url);
    await tab.untilLive();
  },

  // enterAgain reloads the page, and waits until it is live.
  async enterAgain() {
    await tab.reload();
    await tab.untilLive();
  },

  untilLive: () => tab.until(() => see.live()),

  // untilShown waits until the log has these lines and no others, and all messages were sent. A line begins with the
  // speaker's name and a space if it has a name.
  untilShown: (...lines) => tab.until((...lines) => see.has(...lines), ...lines),

  // say types messages, and sends each with Enter.
  async say(...texts) {
    for (const text of texts) {
      await tab.type(text);
      await tab.press('Enter');
    }
  },

  // rename chooses a name.
  async rename(name) {
    await tab.eval(() => { $('#who').trigger('click'); });
    await tab.until(() => document.activeElement.id === 'name');
    await tab.say(name);
    await tab.until(() => document.activeElement.id === 'msg');
  },

  focus: selector => tab.eval(selector => { $(selector).trigger('focus'); }, selector),

  // look lets the page believe that the person looks at its window, or at another one.
  look: here => tab.eval(here => {
    see.here = here;
    window.dispatchEvent(new Event(here ? 'focus' : 'blur'));
  }, here),

  // show lets the page believe that its tab is the one in view, or another one is.
  show: shown => tab.eval(shown => {
    see.hidden = !shown;
    document.dispatchEvent(new Event('visibilitychange'));
  }, shown),

  // another opens another tab of the same person, which loads the same page.
  async another() {
    const other = tab.stage.keep(await tab.newTab());
    await other.enter(tab.url);
    return other;
  },

  // copied opens the same page in another tab, with a copy of the tab's storage, as browsers duplicate tabs.
  async copied() {
    const [icon, storage] = await tab.eval(() => [document.querySelector('#icon').href, {...sessionStorage}]);
    const other = tab.stage.keep(await tab.newTab());
    await other.goto(icon); // has the same storage, and runs nothing
    await other.eval(storage => { Object.assign(sessionStorage, storage); }, storage);
    await other.enter(tab.url);
    return other;
  },

  // picture writes a picture of the window to a file in the directory SCREENSHOTS, if that is set.
  async picture(name) {
    if (process.env.SCREENSHOTS) {
      mkdirSync(process.env.SCREENSHOTS, {recursive: true});
      writeFileSync(join(process.env.SCREENSHOTS, name), await tab.screenshot());
    }
  },

  // expectNoComplaints fails the test if the browser or the page has complained.
  async expectNoComplaints() {
    const complaints = await tab.complaints();
    if (complaints.length > 0) {
      throw new Error(`got in the console\n${complaints.join('\n')}\nwant nothing`);
    }
  },
});
