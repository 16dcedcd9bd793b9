// Names, messages of every length, keys, and what the page makes of what is typed.

import assert from 'node:assert/strict';
import {all, test} from './harness.js';

// ---- The question for the name.

test('The page asks for a name once, before the first message, and a button then shows and changes it', {short: true}, async stage => {
  const [chat, page] = await Promise.all([stage.start(), stage.person()]);
  const ann = await chat.join();
  await page.phone();
  await page.enter(chat.url + '#newcomer');
  await page.until(() => $('#ask').is(':hidden') && $('#who').text() === 'No name' &&
      document.activeElement.id === 'msg');
  await page.say('hello');
  await page.until(() => see.visible('#ask') && document.activeElement.id === 'name' &&
      $('#msg').val() === 'hello' && see.allSent());
  await page.picture('name.png');
  await page.press('Escape');
  await page.until(() => $('#ask').is(':hidden') && document.activeElement.id === 'msg' && $('#msg').val() === 'hello');
  await page.press('Enter');
  await page.say('Ann: the first');
  await page.until(() => see.visible('#ask') && $('#name').is('[aria-invalid=true]') &&
      $('#naming').text().includes('can’t have a colon') && see.allSent());
  await page.eval(() => { $('#name').val(''); });
  await page.say('Ann');
  await ann.expect('Ann: hello');
  await page.until(() => $('#ask').is(':hidden') && $('#who').text() === 'Ann' && document.activeElement.id === 'msg');
  await page.until(() => $('#msg').width() + $('#send').width() > 200 &&
      see.rect('#who').bottom <= see.rect('#msg').top); // the input has the whole width
  await page.rename(' Bob  the\u200b second ');
  await page.say('hello again');
  await ann.expect('Bob the second: hello again');
  await page.until(() => $('.own .name').last().text() === 'Bob the second' &&
      $('.own .text').last().text() === 'hello again');
  await page.enterAgain();
  await page.until(() => $('#who').text() === 'Bob the second');
  await page.expectNoComplaints();
});

test('A person who chooses to have no name is not asked again', {}, async stage => {
  const {page} = await stage.open('#newcomer');
  await page.say('nobody');
  await page.until(() => see.visible('#ask'));
  await page.click('#nameless');
  await page.untilShown('nobody');
  await page.until(() => $('#ask').is(':hidden') && document.activeElement.id === 'msg');
  await page.say('still nobody');
  await page.untilShown('nobody', 'still nobody');
  await page.enterAgain();
  await page.focus('#msg');
  await page.say('nobody again');
  await page.untilShown('nobody', 'still nobody', 'nobody again');
});

// Each way is what the person does after the page has asked for the name, in order.
const ways = {
  'the name, and Enter': [page => page.say('Bob')],
  'the name, and "Use this name"': [page => page.type('Bob'), page => page.click('#ask button')],
  'the name, and the big "Send"': [page => page.type('Bob'), page => page.click('#send')],
  'the name, and Ctrl+Enter': [page => page.type('Bob'), page => page.press('Enter', 'Control')],
  'the name, and Enter in the message': [page => page.type('Bob'), page => page.focus('#msg'), page => page.press('Enter')],
  'Enter twice, and then the name': [page => page.press('Enter'), page => page.press('Enter'), page => page.say('Bob')],
  '"Send" twice, and then the name': [page => page.click('#send'), page => page.click('#send'), page => page.say('Bob')],
  'the name, Escape, Enter, and Enter again': [page => page.type('Bob'), page => page.press('Escape'), page => page.press('Enter'), page => page.press('Enter')],
  'what can’t be seen, and then the name': [page => page.eval(() => { $('#name').val('\u200b').trigger('input'); }), page => page.press('Enter'),
    page => page.eval(() => { $('#name').val('Bob').trigger('input'); }), page => page.press('Enter')],
};

test('However the question for the name is answered, the name is kept, and the message is sent once with it', {}, async stage => {
  const [chat, page] = await Promise.all([stage.start(), stage.person()]);
  const ann = await chat.join();
  for (const [what, acts] of Object.entries(ways)) {
    const network = await stage.network(); // a person who has stored nothing
    network.port = chat.port;
    await page.enter(network.origin + '/#newcomer');
    await page.say('hello');
    await page.until(() => see.visible('#ask') && document.activeElement.id === 'name');
    for (const act of acts) {
      await act(page);
    }
    await page.until(() => $('#who').text() === 'Bob' && $('#ask').is(':hidden') && $('#msg').val() === '' &&
        see.allSent())
      .catch(error => { throw new Error(`${what}: ${error.message}`); });
    await ann.expect('Bob: hello');
  }
  ann.say('the end');
  await ann.expect('the end');
});

test('A question that is closed keeps what was typed, and the message, and sends nothing', {}, async stage => {
  const {page} = await stage.open('#newcomer');
  await page.say('hello');
  await page.until(() => see.visible('#ask'));
  await page.type('Bo');
  await page.press('Escape');
  await page.until(() => $('#ask').is(':hidden') && $('#msg').val() === 'hello' && $('#who').text() === 'No name');
  await page.click('#who');
  await page.until(() => $('#name').val() === 'Bo' && document.activeElement.id === 'name');
  await page.until(() => see.entries().length === 0 && see.allSent());
});

test('The page reports that somebody else uses the person’s name, and another tab of the same browser is nobody else', {}, async stage => {
  const {ann, page} = await stage.open();
  ann.say('Ann: from before');
  await page.until(() => see.entries().length === 1);
  await page.rename('Ann');
  const other = await page.another();
  await other.until(() => see.entries().length === 1);
  await page.look(false);
  await other.say('it is me');
  await other.until(() => $('#lines .own').length === 1);
  await page.until(() => $('#lines .own .text').text() === 'it is me' && $('#new').length === 0 &&
      document.title === 'Chat');
  await page.look(true);
  await page.eval(() => { window.heard = performance.now(); });
  await page.until(() => performance.now() > heard + 1200);
  await page.until(() => see.entries().length === 2 && see.notices().length === 0);
  ann.say('Anna: hello', 'Ann: it is me, too', 'ANN\u200b: really');
  await page.until(() => see.notices().join() === 'Somebody else, or you on another device, writes as Ann, too.');
  await page.rename('Bea');
  await other.until(() => $('#who').text() === 'Bea');
  await page.until(() => $('#lines .own').length === 1 && see.entries().length === 5);
});

// ---- Messages.

test('A message and the name count against the server’s limit, and what the server refuses is shown as not sent', {}, async stage => {
  const {page} = await stage.open('-max-message', '100');
  await page.type('short');
  await page.until(() => $('#left').is(':hidden'));
  await page.type('é'.repeat(45));
  await page.until(() => $('#left').text() === 'about 2 characters left' && $('#left').is(':visible'));
  await page.type('éé1');
  await page.until(() => $('#left').text() === 'about 0 characters left' &&
      $('#send').attr('aria-disabled') === 'false');
  await page.say('2');
  await page.until(() => $('#left').text() === '1 character too long' &&
      $('#send').attr('aria-disabled') === 'true' && $('#msg').val().endsWith('12') && see.allSent());
  await page.picture('limit.png');
  await page.press('Backspace');
  await page.press('Enter');
  const longest = 'short' + 'é'.repeat(47) + '1';
  await page.untilShown(longest);

  await page.eval(() => {
    const {send} = WebSocket.prototype;
    WebSocket.prototype.send = function (text) { send.call(this, text === 'long' ? 'x'.repeat(101) : text); };
  });
  await page.say('fine', 'long', 'fine, too');
  await page.until(() => see.notices().join() === 'A message was too long for the server.');
  await page.untilShown(longest, 'fine', 'long', 'fine, too');
  await page.until(() => $('.refused .text').text() === 'long' && $('.refused .mark').text() === 'not sent');

  await page.rename('Ann');
  await page.eval(() => { $('#msg').val('x'.repeat(94) + '🙂').trigger('input'); });
  await page.until(() => $('#left').text() === '1 character too long'); // it has four bytes
});

test('Shift and Enter break a line, the input grows, and a message is one line on the wire', {}, async stage => {
  const {ann, page} = await stage.open();
  await page.eval(() => {
    const px = name => parseFloat(getComputedStyle($('#msg')[0])[name]);
    window.rows = () => Math.round(($('#msg')[0].clientHeight - 2 * px('paddingTop')) / px('lineHeight'));
  });
  await page.type('one');
  await page.press('Enter', 'Shift');
  await page.type('two');
  await page.until(() => $('#msg').val() === 'one\ntwo' && rows() === 2);
  await page.picture('lines.png');
  await page.press('Enter');
  await ann.expect('one\u2028two');
  await page.until(() => $('#lines .text').text() === 'one\ntwo' && see.rect('#lines .text').height > 40);

  await page.until(() => $('#msg').val() === '' && rows() === 1);
  await page.insert('pasted\n\n  as it was\nfour');
  await page.until(() => rows() === 4 && $('#msg').val() === 'pasted\n\n  as it was\nfour' && see.atEnd());
  await page.press('Enter');
  await ann.expect('pasted\u2028\u2028  as it was\u2028four');
  await page.insert('line\n'.repeat(20) + 'end\n \n');
  await page.until(() => rows() === 6);
  await page.press('Enter');
  await ann.expect('line\u2028'.repeat(20) + 'end');
  await page.until(() => see.entries().length === 3 && see.allSent());
  await page.expectNoComplaints();
});

test('With nothing to send, Send looks inactive and sends nothing', {}, async stage => {
  const {ann, page} = await stage.open();
  await page.rename('Ann');
  for (const nothing of ['', '  ', '\n \n', '\u200b', '\u00a0\u2800 ']) {
    await page.eval(nothing => { $('#msg').val(nothing).trigger('input'); }, nothing);
    await page.until(() => $('#send').attr('aria-disabled') === 'true' &&
        getComputedStyle($('#send')[0]).backgroundColor === 'rgba(0, 0, 0, 0)');
    await page.focus('#msg');
    await page.press('Enter');
    await page.click('#send');
  }
  await page.eval(() => { $('#msg').val('').trigger('input'); });
  await page.type('the end');
  await page.until(() => $('#send').attr('aria-disabled') === 'false' &&
      getComputedStyle($('#send')[0]).backgroundColor !== 'rgba(0, 0, 0, 0)');
  await page.click('#send');
  await ann.expect('Ann: the end');
  await page.until(() => document.activeElement.id === 'msg');
});

// ---- Keys.

test('With a touch keyboard Enter breaks a line, the button sends, and so does Control or Command with Enter', {}, async stage => {
  const [chat, page] = await Promise.all([stage.start(), stage.person()]);
  await page.phone();
  await page.touch();
  await page.enter(chat.url);
  await page.until(() => $('#msg').attr('enterkeyhint') === 'enter');
  await page.type('one');
  await page.press('Enter');
  await page.type('two');
  await page.until(() => $('#msg').val() === 'one\ntwo' && $('#outbox *, #lines *').length === 0);
  await page.click('#send');
  await page.untilShown('one\ntwo');
  await page.until(() => $('#msg').val() === '');
  await page.focus('#msg');
  await page.type('three');
  await page.press('Enter', 'Control');
  await page.untilShown('one\ntwo', 'three');
  await page.type('four');
  await page.press('Enter', 'Meta');
  await page.untilShown('one\ntwo', 'three', 'four');
});

test('Control and Enter sends, and what is pasted or typed into the log goes into the input', {engines: all}, async stage => {
  const {page} = await stage.open();
  await page.type('one');
  await page.press('Enter', 'Control');
  await page.untilShown('one');
  await page.type('clip');
  await page.press('a', 'Control');
  await page.press('x', 'Control');
  await page.until(() => $('#msg').val() === '');
  await page.focus('#log');
  await page.press('v', 'Control');
  await page.until(() => $('#msg').val() === 'clip' && document.activeElement.id === 'msg');
  await page.focus('#log');
  await page.type('ped');
  await page.until(() => $('#msg').val() === 'clipped' && see.has('one'));
});

test('Arrow up, or Control and Z, brings the last text back into an empty input, and never replaces another one', {}, async stage => {
  const {page} = await stage.open();
  await page.press('ArrowUp');
  await page.until(() => $('#msg').val() === '');
  await page.type('two');
  await page.press('Enter', 'Shift');
  await page.say('rows');
  await page.untilShown('two\nrows');
  await page.press('ArrowUp');
  await page.until(() => $('#msg').val() === 'two\nrows' && $('#send').attr('aria-disabled') === 'false');
  await page.press('a', 'Control');
  await page.press('Backspace');
  await page.until(() => $('#msg').val() === '');
  await page.type('mine');
  await page.press('ArrowUp');
  await page.until(() => $('#msg').val() === 'mine');
  await page.press('Enter');
  await page.untilShown('two\nrows', 'mine');
  await page.press('z', 'Control');
  await page.until(() => $('#msg').val() === 'mine');
  await page.press('a', 'Control');
  await page.press('Backspace');
  await page.press('ArrowUp');
  await page.until(() => $('#msg').val() === 'mine' && see.has('two\nrows', 'mine'));
});

test('Fifty thousand lines that are pasted stay in the input, which says that they are too many', {}, async (stage, t) => {
  const {page} = await stage.open();
  const milliseconds = await page.eval(async () => {
    const data = new DataTransfer();
    data.setData('text/plain', Array.from({length: 50000}, (_, i) => 'line ' + i).join('\r\n'));
    const began = performance.now();
    $('#msg')[0].dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}));
    await new Promise(drawn => requestAnimationFrame(() => setTimeout(drawn)));
    return performance.now() - began;
  });
  t.diagnostic(`the paste took ${Math.round(milliseconds)} ms`);
  await page.until(() => $('#msg').val().startsWith('line 0\nline 1\n') && $('#msg').val().endsWith('\nline 49999'));
  await page.until(() => /^\d+ characters too long$/.test($('#left').text()) && $('#msg')[0].clientHeight < 200);
  await page.press('Enter');
  await page.until(() => see.allSent() && $('#msg').val().length > 500000);
  await page.press('a', 'Control');
  await page.insert('short');
  await page.press('Enter');
  await page.untilShown('short');
  await page.expectNoComplaints();
});
