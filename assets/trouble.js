// trouble.js finds out why the page can't connect, because a browser doesn't say why a WebSocket failed.

const patience = 8000; // milliseconds to wait for an answer

// ask requests an address in the page's directory. It returns what judge needs of the answer, or {} if no answer comes
// in time. It ends a request that hangs, because a browser allows only some at once.
export async function ask(address, options) {
  const end = window.AbortController && new AbortController();
  const timeout = new Promise(resolve => setTimeout(resolve, patience, {})).finally(() => end?.abort());
  const answer = async function () {
    const response = await fetch(address, {...options, cache: 'no-store', redirect: 'manual', signal: end?.signal});
    const {status, type, headers} = response;
    return {status, type, retryAfter: Number(headers.get('Retry-After')), body: await response.text()};
  };
  return Promise.race([timeout, answer().catch(() => ({}))]);
}

// findTrouble posts to the WebSocket's address, because browsers name the origin of the page in a POST. It returns what
// judge returns.
export async function findTrouble() {
  return judge(await ask('ws', {method: 'POST'}), navigator.onLine, location.origin);
}

// judge returns what an answer means: {why, help, seconds, reason}.
//
//   why      a sentence for the person
//   help     'login' or 'reload' if loading the page again may help
//   seconds  the time after which the page should try again, if the server says so
//   reason   the server's reason if it is full or stops, as in docs/protocol.md
//
// status is 0 without an answer, and for a redirect, whose type is 'opaqueredirect'.
export function judge({status = 0, type = '', retryAfter = 0, body = ''}, onLine = true, origin = '') {
  const [reason] = status === 503 && retryAfter > 0 && body.match(/too many rooms|chat is full|shutting down/) || [];
  if (reason) {
    return {why: 'The server says: ' + reason + '.', seconds: retryAfter, reason};
  }
  if (type === 'opaqueredirect' || status >= 200 && status < 400 || [401, 407, 511].includes(status)) {
    return {why: 'Something before the chat wants you to log in, perhaps again.', help: 'login'};
  }
  if (status === 403 && /may not connect to the host/.test(body)) {
    return {why: 'The server refuses pages from ' + origin + '. Tell its operator: a proxy may change the header Host, and the flag -origins allows more.'};
  }
  return {
    0: {why: onLine ? 'The server can’t be reached.' : 'This device has no network.'},
    403: {why: 'Something before the chat refuses access.', help: 'login'},
    404: {why: 'The chat is not at this address now.', help: 'reload'},
    426: {why: 'The server answers, but no WebSocket reaches it. A proxy, or an extension of this browser, may stop it: tell the operator.', help: 'reload'},
    429: {why: 'There were too many requests from here.', seconds: retryAfter || undefined},
    502: {why: 'The proxy before the chat can’t reach it (502).'},
    503: {why: 'The proxy before the chat can’t reach it (503).'},
    504: {why: 'The proxy before the chat can’t reach it (504).'},
  }[status] ?? {why: 'The server answers with an error (' + status + ').', help: 'reload'};
}
