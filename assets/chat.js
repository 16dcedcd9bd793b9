$(function () {
  'use strict';

  const {room, root, ...limits} = document.body.dataset; // its name, or ''; the relative URL of all rooms, or ''
  const maxMessage = Number(limits.maxMessage); // bytes
  const held = Number(limits.history); // lines that the server holds
  const maxEntries = 2000; // in the log
  const title = room ? room + ' – ' + document.title : document.title;
  const [$log, $lines, $outbox, $below, $name, $msg, $left] =
    ['#log', '#lines', '#outbox', '#below', '#name', '#msg', '#left'].map(id => $(id));

  document.title = title;
  $('h1').text(room || 'Chat').attr('title', room);

  // ---- What is kept: the name on this device, the rest of each room as long as this tab lives.

  function load(store, key, otherwise) {
    try {
      return JSON.parse(store().getItem(key)) ?? otherwise;
    } catch {
      return otherwise; // storage is forbidden, or holds something else
    }
  }

  function save(store, key, value) {
    try {
      store().setItem(key, JSON.stringify(value));
    } catch {} // full, or forbidden: then it is not kept
  }

  const device = () => window.localStorage;
  const tab = () => window.sessionStorage;

  // ---- The log. Entries are added once an animation frame.

  let waiting = []; // elements
  let following = true; // the end of the log is in view
  let below = 0; // entries that came while it was not
  let unread = 0; // while the tab was hidden
  let drawing = false;

  function add(element) {
    waiting.push(element);
    if (waiting.length > maxEntries) {
      waiting.shift();
    }
    if (!drawing) {
      drawing = true;
      document.hidden ? setTimeout(draw, 200) : requestAnimationFrame(draw);
    }
  }

  function draw() {
    drawing = false;
    const lines = $lines[0];
    lines.append(...waiting);
    for (let extra = lines.childElementCount - maxEntries; extra > 0; extra--) {
      lines.firstElementChild.remove();
    }
    below += waiting.length;
    waiting = [];
    follow();
  }

  function follow() {
    if (following) {
      below = 0;
      $log[0].scrollTop = $log[0].scrollHeight;
    }
    $below.prop('hidden', below === 0).text('↓ ' + count(below, 'new message'));
  }

  function count(n, what) {
    return n + ' ' + what + (n === 1 ? '' : 's');
  }

  $log.on('scroll', function () {
    const log = $log[0];
    following = log.scrollTop > log.scrollHeight - log.clientHeight - 8;
    if (following && below > 0) {
      follow();
    }
  });
  $below.on('click', function () {
    following = true;
    follow();
    $msg.trigger('focus');
  });
  $(window).on('resize', follow);

  // element makes an element. Text is text wherever it comes from.
  function element(name, className, ...children) {
    const e = document.createElement(name);
    e.className = className;
    e.append(...children);
    return e;
  }

  function notice(text) {
    add(element('div', 'notice', element('span', 'body', text)));
  }

  // entry makes the entry of a line: NAME: TEXT, or just TEXT.
  function entry(line, classes, mark) {
    const body = element('span', 'body');
    const named = /^([^\s:][^:]{0,63}): (.*)$/s.exec(line);
    if (named) {
      const name = element('bdi', 'name', named[1]);
      name.style.setProperty('--hue', hue(named[1]));
      body.append(name, ' ');
    }
    body.append(element('span', 'text', ...linked(named ? named[2] : line)));
    return element('div', 'entry ' + classes, mark, body);
  }

  // hue gives each name its colour, the same on all screens: FNV-1a, in degrees.
  function hue(name) {
    let hash = 0x811c9dc5;
    for (let i = 0; i < name.length; i++) {
      hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
    }
    return (hash >>> 0) % 360;
  }

  // linked returns text as strings and links.
  function linked(text) {
    return text.split(/(\bhttps?:\/\/[^\s<>"]*[^\s<>"'.,:;!?)\]}])/i).map(function (part, i) {
      if (i % 2 === 0 || !URL.canParse(part)) {
        return part;
      }
      const a = element('a', '', part);
      a.href = part;
      a.target = '_blank';
      a.rel = 'noopener noreferrer';
      return a;
    });
  }

  function clock(said) {
    const time = element('time', '', said.toTimeString().slice(0, 5));
    time.dateTime = said.toISOString();
    return time;
  }

  function countUnread() {
    if (document.hidden) {
      document.title = '(' + ++unread + ') ' + title;
    }
  }

  // ---- The outbox: what was typed and has not come back from the server yet.
  //
  // A message is sent for sure when its line is heard. One that was sent on a
  // connection that then broke is in doubt: only what was said until the next one was
  // made shows whether it arrived, so it is not sent again before that is heard.

  let outbox = load(tab, room + ':outbox', []).map(({text, sent}) => ({text, sent: sent ? -1 : 0}));
  let own = load(tab, room + ':own', {epoch: '', seqs: []}); // positions of own lines

  function keepOutbox() {
    save(tab, room + ':outbox', outbox.map(({text, sent}) => ({text, sent})));
  }

  function queue(text) {
    const message = {text, sent: 0}; // on which connection, or 0
    outbox.push(message);
    show(message);
    if (live) {
      transmit(message);
    }
    keepOutbox();
  }

  function show(message) {
    message.element = entry(message.text, 'own unsent', element('span', 'mark', 'unsent'));
    $outbox.append(message.element);
    following = true;
    follow();
  }

  function transmit(message) {
    message.sent = connection;
    socket.send(message.text);
    watchOutbox();
  }

  // flush sends what waits, in order, when nothing is in doubt any more.
  function flush() {
    if (live && position.seq >= end) {
      outbox.filter(message => message.sent !== connection).forEach(transmit);
      keepOutbox();
    }
  }

  // echoed reports whether a line is the echo of a message, which it takes out of the
  // outbox then.
  function echoed(line) {
    const i = outbox.findIndex(message => message.sent && message.text === line);
    if (i < 0) {
      return false;
    }
    outbox.splice(i, 1)[0].element.remove();
    if (own.epoch !== position.epoch) {
      own = {epoch: position.epoch, seqs: []};
    }
    own.seqs = own.seqs.concat(position.seq).slice(-held - 1);
    save(tab, room + ':own', own);
    keepOutbox();
    return true;
  }

  // refuse takes the message that the server would not have out of the outbox. The text
  // stays to be seen.
  function refuse() {
    const i = outbox.findIndex(message => message.sent === connection);
    if (i >= 0) {
      const [message] = outbox.splice(i, 1);
      message.element.remove();
      add(entry(message.text, 'own refused', element('span', 'mark', 'not sent')));
      keepOutbox();
    }
  }

  // If a message waits and nothing at all is heard for 10 s the connection is dead, even
  // where the browser has not noticed.
  let watch;

  function watchOutbox() {
    clearTimeout(watch);
    if (outbox.length > 0) {
      watch = setTimeout(() => live && lost('no answer'), 10000);
    }
  }

  // ---- The connection.

  const reasons = {
    1001: 'The server is shutting down.',
    1003: 'The server takes text only.',
    1007: 'The server could not read a message as text.',
    1009: 'A message was too long for the server.',
    1013: 'This connection was too slow to follow.',
  };
  let socket;
  let timeout; // for its first message
  let connection = 0; // its number
  let live = false; // the server has told the position
  let position; // {epoch, seq} of the next line
  let known = 0; // lines to come that are in the log already
  let end = 0; // seq of the first line that was said on this connection
  let fails = 0;
  let skew; // milliseconds that the server's clock is ahead of this device's, if that is known
  let said = []; // of lines to come: [how many, when]
  let retry; // timer
  let due; // time at which it ends

  function setState(word) {
    $('body').toggleClass('live', word === 'live');
    $('#word').text(word);
    $('#now').prop('hidden', word === 'live' || word === 'connecting');
    $('#people').prop('hidden', word !== 'live');
    showWait();
  }

  function showWait() {
    $('#wait').text(retry ? ', next try in ' + Math.max(1, Math.ceil((due - Date.now()) / 1000)) + ' s' : '');
  }

  // address is that of the WebSocket beside this page, wherever a proxy has put both.
  function address() {
    const url = new URL('ws', document.baseURI);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    url.searchParams.set('events', '');
    url.searchParams.set('since', position ? position.epoch + '.' + position.seq : '');
    return url;
  }

  function connect() {
    hangUp();
    clearTimeout(retry);
    retry = undefined;
    setState('connecting');
    socket = new WebSocket(address());
    socket.binaryType = 'arraybuffer';
    timeout = setTimeout(() => lost('no answer'), 10000);
    socket.onmessage = function (event) {
      clearTimeout(timeout);
      arrive(event.data);
      socket.onmessage = function (event) {
        if (typeof event.data === 'string') {
          event.data.split('\n').forEach(hear);
        } else {
          learn(JSON.parse(new TextDecoder().decode(event.data)));
        }
        watchOutbox();
      };
    };
    socket.onclose = function (event) {
      lost(reasons[event.code]);
      if ([1003, 1007, 1009].includes(event.code)) {
        refuse();
      }
    };
  }

  // hangUp gives up the socket, if there is one.
  function hangUp() {
    clearTimeout(timeout);
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  // arrive begins a connection at the position that the server tells: EPOCH SEQ END.
  function arrive(line) {
    const [epoch, seq, last] = line.split(' ');
    const here = {epoch, seq: Number(seq)};
    known = 0;
    said = [];
    skew = undefined;
    if (position && position.epoch !== epoch) {
      notice('The room was restarted.');
    } else if (position && here.seq > position.seq) {
      notice(count(here.seq - position.seq, 'message') + (here.seq - position.seq === 1 ? ' was' : ' were') + ' missed.');
    } else if (position) {
      known = position.seq - here.seq;
    }
    position = here;
    end = Number(last);
    connection++;
    live = true;
    fails = 0;
    setState('live');
    flush();
    watchOutbox();
  }

  // learn takes an event.
  function learn({people, now, said: times}) {
    if (now) {
      skew = Math.max(skew ?? -Infinity, now - Date.now()); // the event that came fastest is the best clock
    }
    if (times) {
      said.push(...times);
    }
    if (people) {
      $('#people').text(people === 1 ? '1 person' : people + ' people');
    }
  }

  // saidAt returns when the next line was said.
  function saidAt() {
    if (said.length === 0) {
      return new Date(Date.now() + (skew ?? 0));
    }
    const [[, at]] = said;
    if (--said[0][0] === 0) {
      said.shift();
    }
    return new Date(at);
  }

  // hear takes the next line of the stream.
  function hear(line) {
    const at = saidAt();
    if (known > 0) {
      known--;
    } else {
      const mine = echoed(line) || own.epoch === position.epoch && own.seqs.includes(position.seq);
      add(entry(line, mine ? 'own' : '', clock(at)));
      countUnread();
    }
    position.seq++;
    if (position.seq === end) {
      flush();
    }
  }

  // lost gives up the connection, and tries again after a while.
  function lost(why) {
    hangUp();
    if (live && why) {
      notice(why);
    }
    if (!live) {
      askWhy();
    }
    live = false;
    clearTimeout(watch);
    retryIn(Math.min(500 * 2 ** fails++, 30000));
    setState('offline');
  }

  // retryIn tries to connect after half to all of pause, in milliseconds: not all pages at
  // the same time.
  function retryIn(pause) {
    clearTimeout(retry);
    pause *= 0.5 + Math.random() / 2;
    due = Date.now() + pause;
    retry = setTimeout(connect, pause);
  }

  // askWhy asks the server why there is no connection. Browsers hide how a WebSocket
  // was refused.
  async function askWhy() {
    const asked = socket;
    const answer = await fetch('ws', {cache: 'no-store'}).catch(() => undefined);
    const after = Number(answer?.headers.get('Retry-After')); // a proxy's own 503 has none
    if (answer?.status === 503 && after > 0) {
      const [why] = (await answer.text()).match(/too many rooms|chat is full|shutting down/) ?? [];
      if (why && socket === asked && retry) {
        retryIn(1000 * after);
        setState(why);
      }
    }
  }

  setInterval(() => retry && showWait(), 250);
  $('#now').on('click', connect);
  $(window).on('online', () => live ? lost() || connect() : retry && connect());
  $(window).on('offline', () => live && lost('The network is gone.'));
  $(document).on('visibilitychange', function () {
    if (!document.hidden) {
      unread = 0;
      document.title = title;
      if (retry) {
        connect();
      }
    }
  });

  // ---- The form.

  const bytes = text => new TextEncoder().encode(text).length;

  // line is what would be sent now.
  function line() {
    const name = $name.val().replaceAll(':', '').trim();
    const text = $msg.val().toWellFormed();
    return name && text ? name + ': ' + text : text;
  }

  function showRoom() {
    const left = maxMessage - bytes(line());
    $left.prop('hidden', left > Math.max(64, maxMessage / 10))
      .toggleClass('over', left < 0)
      .text(left < 0 ? count(-left, 'byte') + ' too long' : count(left, 'byte') + ' left');
    $('#send').prop('disabled', left < 0);
  }

  $name.val(load(device, 'name', '')).on('input', () => save(device, 'name', $name.val()));
  $name.add($msg).on('input', showRoom);

  $('#form').on('submit', function (event) {
    event.preventDefault();
    const text = line();
    if ($msg.val() !== '' && bytes(text) <= maxMessage) {
      $msg.val('');
      queue(text);
      showRoom();
    }
    $msg.trigger('focus');
  });

  // ---- Rooms.

  const link = new URL('.', document.baseURI).href;
  $('#link').val(link).on('focus', event => event.target.select());
  $('#share').text(navigator.share ? 'Share' : 'Copy link').on('click', async function () {
    try {
      if (navigator.share) {
        await navigator.share({title, url: link});
        return;
      }
      await navigator.clipboard.writeText(link);
    } catch (error) {
      if (error.name === 'AbortError') {
        return; // the share sheet was closed
      }
      $('#link').trigger('focus');
      if (!document.execCommand('copy')) { // which pages without TLS need
        return; // the link is selected
      }
    }
    $('#shared').text('Copied');
  });

  $('#go').on('submit', function (event) { // of a name that has the pattern
    event.preventDefault();
    const name = $('#other').val().trim().toLowerCase();
    location.href = (root || './') + (name && name + '/');
  });
  if (limits.rooms === '0') {
    $('#go').remove();
    $('#menu summary').text('Share');
  }
  $(document).on('click', event => $(event.target).closest('#menu').length || $('#menu').prop('open', false));
  $('#menu').on('keydown', function (event) {
    if (event.key === 'Escape') {
      $('#menu').prop('open', false).find('summary').trigger('focus');
    }
  });

  // ---- Now begin.

  if (window.WebSocket) {
    outbox.forEach(show);
    connect();
  } else {
    $('#word').text('no connection');
    notice('Your browser does not support WebSockets, and without them there is no chat.');
  }
});
