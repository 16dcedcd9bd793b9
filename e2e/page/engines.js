// engines.js starts browsers of three engines. It exports all, their names; start; and cannot, the one table of what
// an engine can't do.

// all names the engines. WebKitGTK is Safari's engine.
export const all = ['chromium', 'firefox', 'webkit'];

// cannot lists the engines, or rather their drivers, that can't do something. A test that needs it is skipped there.
export const cannot = {
  'DevTools': ['firefox', 'webkit'], // the heap, the accessibility tree, input methods, slow networks
  'media': ['firefox', 'webkit'], // print, dark, forced colours, reduced motion
  'touch': ['firefox', 'webkit'],
  'narrow windows': ['webkit'], // MiniBrowser's own buttons are 447 pixels wide
};

// start starts a browser of an engine. Its method newTab opens the first tab of a new person, and close ends it.
export async function start(engine) {
  const driver = await import(engine === 'webkit' ? './webkit.js' : './puppeteer.js'); // the other one takes time
  return driver[engine]();
}
