// harness.js has each test run in the engines that the environment variable ENGINES names, or in all. It exports test,
// all and eventually. README.md says how to write a test.

import {after, test as register} from 'node:test';
import {Chat} from './chat.js';
import {all, cannot, start} from './engines.js';
import {asPerson} from './person.js';
import {Network} from './proxy.js';
import {eventually} from './tab.js';

export {all, eventually};

const chosen = process.env.ENGINES?.split(',') ?? all;
const browsers = new Map(); // by engine, a promise of each that was started

// test registers a test for each engine. promise is what the page promises, as a sentence. Options are
//
//   engines   those in which the test runs; Chromium alone if it is missing
//   needs     keys of the table cannot, without which the test can't run
//   short     true if the test is part of the short selection, which SHORT=1 asks for
//   skip      a reason for which the test can't run, or ''
//
// f gets a Stage, and node:test's context.
export function test(promise, options, f) {
  const {engines = ['chromium'], needs = [], short = false, skip = ''} = options;
  if (process.env.SHORT && !short) {
    return;
  }
  for (const engine of engines.filter(engine => chosen.includes(engine))) {
    const missing = needs.find(need => cannot[need].includes(engine));
    const reason = missing ? `${engine} can't do this: ${missing}` : skip;
    register(`${promise} (${engine})`, {timeout: 180000, skip: reason || false}, async t => {
      const stage = new Stage(engine);
      try {
        await f(stage, t);
      } catch (error) {
        stage.chats.forEach(chat => t.diagnostic('the chat wrote ' + chat.log));
        for (const tab of stage.tabs) {
          t.diagnostic('in the console were ' + (await tab.complaints().catch(String)).join('\n'));
        }
        throw error;
      } finally {
        await stage.clear();
      }
    });
  }
}

// Stage is what a test starts, which ends with the test.
class Stage {
  chats = [];
  networks = [];
  tabs = [];

  constructor(engine) {
    this.engine = engine;
  }

  // start starts a chat with flags.
  async start(...flags) {
    const chat = await Chat.start(flags);
    this.chats.push(chat);
    return chat;
  }

  // network returns a further Network, without a chat. certificate is as for Network.start.
  async network(certificate) {
    const network = await Network.start(0, certificate);
    this.networks.push(network);
    return network;
  }

  // person returns a tab of a new person, which has loaded nothing.
  async person() {
    if (!browsers.has(this.engine)) {
      browsers.set(this.engine, start(this.engine));
    }
    return this.keep(await (await browsers.get(this.engine)).newTab());
  }

  // keep has a tab closed at the end of the test.
  keep(tab) {
    this.tabs.push(tab);
    return asPerson(tab, this);
  }

  // open starts a chat with flags, which Ann joins as a raw client, and opens its page for a new person. The flags may
  // begin with a path below the chat's URL.
  async open(...flags) {
    const path = /^[^-]/.test(flags[0] ?? '-') ? flags.shift() : '';
    const [chat, page] = await Promise.all([this.start(...flags), this.person()]);
    const ann = await chat.join();
    await page.enter(chat.url + path);
    return {chat, ann, page, network: chat.network};
  }

  async clear() {
    for (const tab of this.tabs) {
      await tab.close().catch(() => {}); // the test may have closed it
    }
    await Promise.all([...this.chats, ...this.networks].map(each => each.close()));
  }
}

after(async () => {
  for (const browser of browsers.values()) {
    await browser.then(browser => browser.close(), () => {});
  }
});
