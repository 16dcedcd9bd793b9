// puppeteer.js drives Chromium by the DevTools protocol, and Firefox by WebDriver BiDi. It exports chromium and
// firefox, which start these browsers.

import {mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {Browser, createProfile} from '@puppeteer/browsers';
import puppeteer from 'puppeteer-core';
import {end, env, run} from './programs.js';
import {Tab} from './tab.js';

const editing = {a: 'selectAll', c: 'copy', v: 'paste', x: 'cut', z: 'undo'}; // what Control and a key do in Chromium

class PuppeteerTab extends Tab {
  #complaints = [];

  constructor(page) {
    super();
    this.page = page;
    page.on('console', message => /^(error|warn)/.test(message.type()) && this.#complaints.push(message.text()));
    page.on('pageerror', error => this.#complaints.push(error.stack ?? String(error)));
    page.on('dialog', dialog => dialog.accept().catch(() => {})); // a page may ask before it is left
  }

  goto = url => this.page.goto(url);
  reload = () => this.page.reload();
  eval = (f, ...args) => this.page.evaluate(f, ...args);
  click = selector => this.page.click(selector);
  type = text => this.page.keyboard.type(text);
  screenshot = () => this.page.screenshot();
  close = () => this.page.close();
  complaints = async () => this.#complaints.splice(0);

  async press(key, ...holding) {
    const {keyboard} = this.page;
    for (const held of holding) {
      await keyboard.down(held);
    }
    await keyboard.press(key, holding.join() === 'Control' && editing[key] ? {commands: [editing[key]]} : {});
    for (const held of holding.reverse()) {
      await keyboard.up(held);
    }
  }

  async mouse(act, x, y) {
    await this.page.mouse.move(x, y);
    if (act !== 'move') {
      await this.page.mouse[act]();
    }
  }

  async resize(width, height) {
    await this.page.setViewport({width, height});
  }

  async newTab() {
    return prepared(await this.page.browserContext().newPage({type: 'window'}));
  }

  // ---- These are Chromium's alone.

  // devtools makes a call of the DevTools protocol.
  async devtools(method, params) {
    this.session ??= await this.page.createCDPSession();
    return this.session.send(method, params);
  }

  // media shows the page for a media type, such as 'print', and media features, such as {'prefers-color-scheme': 'dark'}.
  media(type, features = {}) {
    return this.devtools('Emulation.setEmulatedMedia', {media: type, features: Object.entries(features).map(([name, value]) => ({name, value}))});
  }

  // touch gives the window a touch screen instead of a mouse.
  touch() {
    return this.devtools('Emulation.setTouchEmulationEnabled', {enabled: true});
  }

  // tap touches an element with a finger.
  tap = selector => this.page.tap(selector);

  // phone makes the window a phone's, of whose pixels each stands for one or, in pictures, for scale ones.
  phone(width = 320, height = 568, scale = 1) {
    return this.devtools('Emulation.setDeviceMetricsOverride', {width, height, deviceScaleFactor: scale, mobile: true});
  }
}

async function prepared(page) {
  const tab = new PuppeteerTab(page);
  await tab.resize(720, 480);
  return tab;
}

// personsOf returns what start returns, for puppeteer's browser. Each person has a context, with storage of its own.
function personsOf(browser, end) {
  return {
    async newTab() {
      return prepared(await (await browser.createBrowserContext()).newPage({type: 'window'}));
    },
    async close() {
      await browser.close().catch(() => {});
      await end?.();
    },
  };
}

export async function chromium() {
  return personsOf(await puppeteer.launch({
    executablePath: '/usr/bin/chromium',
    pipe: true, // Chromium exits when the pipe ends, so it doesn't outlive this process
    acceptInsecureCerts: true,
    protocolTimeout: 60000,
    env,
    args: ['--no-sandbox', '--disable-gpu', '--in-process-gpu', '--disable-sync',
      '--disable-features=BackForwardCache,SpareRendererForSitePerProcess'],
  }));
}

// firefox does what puppeteer.launch does, but in this process group, so that Firefox ends with the group.
export async function firefox() {
  const profile = mkdtempSync(join(tmpdir(), 'firefox-'));
  await createProfile(Browser.FIREFOX, {path: profile, preferences: {'remote.active-protocols': 1}});
  const args = ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port=0'];
  const [child, [, endpoint]] = await run('firefox-esr', args, [2], /WebDriver BiDi listening on (ws:\S+)\n/);
  const browser = await puppeteer.connect({
    browserWSEndpoint: endpoint + '/session',
    protocol: 'webDriverBiDi',
    acceptInsecureCerts: true,
    protocolTimeout: 60000,
  });
  return personsOf(browser, async function () {
    await end(child);
    rmSync(profile, {recursive: true, force: true, maxRetries: 5});
  });
}
