// see.js runs in each page before its own scripts. It lets tests see the page as a person does, by window.see, and
// lets the page believe that a person who has chosen to have no name looks at it. A page with the fragment #newcomer
// will ask for the name.

{
  const textsOf = selector => [...document.querySelectorAll(selector)].map(e => e.textContent);

  window.see = {
    here: true, // the window has the focus
    hidden: false, // the tab is in the background
    complaints: [],
    later: window.setTimeout.bind(window), // tests replace the page's
    entries: () => textsOf('#lines .entry .body'),
    notices: () => textsOf('#lines .notice').filter(notice => !notice.startsWith('Offline ')),
    unsent: () => textsOf('#outbox .body'),
    allSent: () => !document.querySelector('#outbox *'),
    live: () => document.querySelector('#word').textContent === 'live',
    atEnd: () => (log => log.scrollTop + log.clientHeight >= log.scrollHeight - 1)(document.querySelector('#log')),
    // has reports whether the log has these lines and no others, and all messages were sent.
    has: (...lines) => JSON.stringify(see.entries()) === JSON.stringify(lines) && see.allSent(),
    // texts returns the texts of the lines, and "new" for the rule before new lines.
    texts: () => [...document.querySelectorAll('#lines > *')].map(e => e.id || e.querySelector('.text')?.textContent || '').join(),
    visible: selector => $(selector).is(':visible'),
    rect: selector => document.querySelector(selector).getBoundingClientRect(),
  };

  document.hasFocus = () => see.here;
  Object.defineProperty(document, 'hidden', {configurable: true, get: () => see.hidden});
  Object.defineProperty(document, 'visibilityState', {configurable: true, get: () => see.hidden ? 'hidden' : 'visible'});
  try {
    if (location.hash !== '#newcomer' && localStorage['chat:isNamed'] === undefined) {
      localStorage['chat:isNamed'] = 'true';
    }
  } catch {}

  window.addEventListener('error', event => see.complaints.push(String(event.error?.stack ?? event.message)));
  window.addEventListener('unhandledrejection', event => see.complaints.push(String(event.reason?.stack ?? event.reason)));
  document.addEventListener('securitypolicyviolation', event => see.complaints.push('policy: ' + event.violatedDirective + ' ' + event.blockedURI));
  for (const level of ['error', 'warn']) {
    const report = console[level];
    console[level] = function (...args) {
      see.complaints.push(args.join(' '));
      report.apply(this, args);
    };
  }
}
