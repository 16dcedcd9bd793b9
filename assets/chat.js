// chat.js passes the events of the connection to the log, and starts them when the page is complete. Modules
// that the page can do without, such as notify.js, register for events themselves. If one of them fails, the
// others go on. It exports nothing.

import {limits, person} from './store.js';
import {emit, on, start} from './events.js';
import {plural} from './entry.js';
import {draw, notice, queue, settle} from './log.js';
import {addLine, isAway, markOwn} from './unread.js';
import {parse, sameName} from './names.js';
import {onOwnChanged} from './own.js';
import './form.js';
import './copy.js';
import './notify.js';
import './state.js';
import './people.js';
import './rooms.js';
import './viewport.js';

on('missed', n => notice(plural(n, 'message') + (n === 1 ? ' was' : ' were') + ' missed.'));
on('restarted', () => notice('The room was restarted.'));
on('newer', () => $('#newer').prop('hidden', false));
on('queued', queue);
on('gone', message => settle(message, '', 'sent'));
on('refused', function (message, why) {
  settle(message, 'refused', 'not sent');
  notice(why);
});
on('line', function (line) {
  const {name} = parse(line.text);
  if (addLine(line) && isAway() && !(name !== undefined && sameName(name, person.name))) {
    emit('news', line);
  }
});
on('caughtUp', function () {
  draw();
  // A screen reader has noticed the replay after 300 ms, and then doesn't read it aloud.
  setTimeout(() => $('#log').attr('aria-busy', 'false'), 300);
  $('#empty').prop('hidden', $('#lines .entry, #outbox .entry').length > 0);
});
onOwnChanged(markOwn);

$('#empty span').text('What you write is seen by everyone who is here' +
  (Number(limits.history) ? ', and the last ' + plural(Number(limits.history), 'message') + ' by those who come later.' : '.'));
$('#old').remove();
start();
