// tab.js has what the tabs of all engines share. It exports Tab and eventually.

import {setTimeout as pause} from 'node:timers/promises';

const patience = 1000 * (process.env.PATIENCE ?? 30); // milliseconds

// eventually waits until f returns something true, or resolves to that, and returns it. f may throw errors before. what
// resolves to a description of what f means, for the error.
export async function eventually(f, what = async () => String(f)) {
  const end = Date.now() + patience;
  for (let wait = 10; ; wait = Math.min(2 * wait, 100)) {
    let found, error;
    try {
      found = await f();
    } catch (e) {
      error = e;
    }
    if (found) {
      return found;
    }
    if (Date.now() > end) {
      throw new Error(`gave up after ${patience / 1000} s of waiting until ${await what()}\n${error ?? ''}`);
    }
    await pause(wait);
  }
}

// Tab is a window of a browser. The subclasses have the rest of its methods:
//
//   goto(url), reload()     load a page, and return when it is loaded
//   eval(f, ...args)        runs a function in the page, and returns what it returns or resolves to, as JSON
//   click(selector)         clicks an element with the mouse
//   type(text)              types into the element that has the focus
//   press(key, ...holding)  presses a key of KeyboardEvent.key, while holding others, such as Shift
//   mouse(act, x, y)        moves the mouse there, and then, by act, presses a button: 'down', 'up', or 'move' for none
//   resize(width, height)   changes the size of the page's part of the window
//   newTab()                opens another tab of the same person
//   close()                 closes the tab
//   screenshot()            returns a picture in PNG
//   complaints()            returns what the browser or the page complained about since the last call
export class Tab {
  // until waits until a function returns something true in the page, which may be loaded anew meanwhile, and returns that.
  until(f, ...args) {
    return eventually(() => this.eval(f, ...args), async () => {
      const page = await this.eval(() => document.body.innerText.replace(/\s*\n\s*/g, ' | ').replace(/(?<=^.{400}).*(?=.{600}$)/s, '…')).catch(String);
      return `${f} with ${JSON.stringify(args)}\ngot the page\n${page}`;
    });
  }

  // insert inserts a text at once, as a paste does.
  insert(text) {
    return this.eval(text => { document.execCommand('insertText', false, text); }, text);
  }
}
