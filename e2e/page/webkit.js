// webkit.js drives WebKitGTK by WebDriver. Its browser needs a display, which is Xvfb. It exports
// webkit, which starts the browser.

import {existsSync, readdirSync} from 'node:fs';
import {createServer} from 'node:net';
import {join} from 'node:path';
import {setTimeout as pause} from 'node:timers/promises';
import {Builder, By, Key} from 'selenium-webdriver';
import {end, env, run} from './programs.js';
import {Tab} from './tab.js';

const keys = {Shift: Key.SHIFT, Control: Key.CONTROL, Enter: Key.ENTER, Escape: Key.ESCAPE, Backspace: Key.BACK_SPACE, Tab: Key.TAB,
  PageUp: Key.PAGE_UP, PageDown: Key.PAGE_DOWN, Home: Key.HOME, End: Key.END, ArrowUp: Key.ARROW_UP, ArrowDown: Key.ARROW_DOWN};

// WebKitTab takes turns with the other tabs of the browser, because WebDriver drives one window at a time.
class WebKitTab extends Tab {
  #complaints = [];

  constructor(driver, handle, turns) {
    super();
    Object.assign(this, {driver, handle, turns});
  }

  // turn has f drive the window, after all that was asked for before.
  turn(f) {
    const last = this.turns.last.catch(() => {});
    return this.turns.last = last.then(async () => {
      await this.driver.switchTo().window(this.handle);
      return f(this.driver);
    });
  }

  eval = (f, ...args) => this.turn(driver => driver.executeScript(`return (${f}).apply(null, arguments)`, ...args));
  click = selector => this.turn(driver => driver.findElement(By.css(selector)).click());
  type = text => this.turn(driver => driver.actions().sendKeys(text.replaceAll('\n', Key.ENTER)).perform());
  screenshot = () => this.turn(async driver => Buffer.from(await driver.takeScreenshot(), 'base64'));

  async goto(url) {
    this.#complaints = await this.complaints();
    await this.turn(driver => driver.get(url));
  }

  async reload() {
    this.#complaints = await this.complaints();
    await this.turn(driver => driver.navigate().refresh());
  }

  press(key, ...holding) {
    return this.turn(function (driver) {
      const actions = driver.actions();
      holding.forEach(held => actions.keyDown(keys[held]));
      actions.sendKeys(keys[key] ?? key);
      holding.reverse().forEach(held => actions.keyUp(keys[held]));
      return actions.perform();
    });
  }

  mouse(act, x, y) {
    const moved = driver => driver.actions().move({x: Math.round(x), y: Math.round(y), duration: 0});
    return this.turn(driver => ({move: moved(driver), down: moved(driver).press(), up: moved(driver).release()})[act].perform());
  }

  // The window has the page and the browser's own buttons.
  async resize(width, height) {
    const [w, h] = await this.eval(() => [innerWidth, innerHeight]);
    await this.turn(async function (driver) {
      const rect = await driver.manage().window().getRect();
      await driver.manage().window().setRect({width: rect.width + width - w, height: rect.height + height - h});
    });
    await this.until((width, height) => innerWidth === width && innerHeight === height, width, height);
  }

  newTab() {
    return this.turn(async driver => {
      await driver.switchTo().newWindow('window');
      return new WebKitTab(driver, await driver.getWindowHandle(), this.turns);
    }).then(async tab => (await tab.resize(720, 480), tab));
  }

  // All tabs share one storage, in which another test's chat may have the same address.
  async close() {
    await this.eval(() => { try { localStorage.clear(); } catch {} });
    await this.turn(driver => driver.close());
  }

  // WebDriver has no console, so see.js collects the complaints.
  async complaints() {
    const all = this.#complaints.splice(0);
    return all.concat(await this.eval(() => window.see?.complaints.splice(0) ?? []));
  }
}

export async function webkit() {
  const screen = ['-displayfd', '3', '-screen', '0', '1600x1200x24', '-nolisten', 'tcp'];
  const [display, [name]] = await run('Xvfb', screen, [3], /^\d+(?=\n)/);
  const sandbox = process.getuid?.() === 0 ? {WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1'} : {};
  const port = await freePort();
  const [service] = await run('WebKitWebDriver', ['--port=' + port], [], undefined,
    {env: {...env, ...sandbox, DISPLAY: ':' + name}});
  const url = 'http://127.0.0.1:' + port;
  while (service.exitCode === null && !(await fetch(url + '/status').catch(() => undefined))?.ok) {
    await pause(50);
  }
  const driver = await new Builder().usingServer(url).withCapabilities({
    'browserName': 'MiniBrowser',
    'acceptInsecureCerts': true,
    'webkitgtk:browserOptions': {binary: miniBrowser(), args: ['--automation']},
  }).build();
  await driver.manage().setTimeouts({pageLoad: 60000, script: 60000});
  const home = new WebKitTab(driver, await driver.getWindowHandle(), {last: Promise.resolve()}); // the session ends with its last window
  return {
    newTab: () => home.newTab(),
    async close() {
      await driver.quit().catch(() => {});
      await end(service);
      await end(display);
    },
  };
}

// miniBrowser returns the path of WebKitGTK's browser, which depends on the architecture.
function miniBrowser() {
  for (const architecture of readdirSync('/usr/lib')) {
    for (const version of ['webkit2gtk-4.1', 'webkit2gtk-4.0', 'webkitgtk-6.0']) {
      const path = join('/usr/lib', architecture, version, 'MiniBrowser');
      if (existsSync(path)) {
        return path;
      }
    }
  }
  throw new Error('there is no MiniBrowser; on Debian: apt-get install webkit2gtk-driver');
}

// freePort returns a port below those that systems choose for clients, so that no client takes it meanwhile.
async function freePort() {
  for (;;) {
    const port = 20000 + Math.floor(12000 * Math.random());
    const server = createServer();
    const isFree = await new Promise(function (known) {
      server.once('listening', () => known(true)).once('error', () => known(false)).listen(port, '127.0.0.1');
    });
    if (isFree) {
      await new Promise(closed => server.close(closed));
      return port;
    }
  }
}
