// announce.js decides in words what a notification and the bell say. It exports words and meaning.

import {parse} from './names.js';

// words returns {title, body} of the notification of count lines. last is the text of the last one, and page the
// page's title.
export function words(count, last, page) {
  const {name, text} = parse(last);
  const [body] = /^.{0,300}/su.exec(text.replace(/\u2028/g, '\n'));
  if (count === 1) {
    return {title: name ? name + ' – ' + page : page, body};
  }
  return {title: count + ' new messages – ' + page, body: name ? name + ': ' + body : body};
}

// meaning says what the person will notice with a choice. The arguments silent and mute say why there will be
// no notification and no sound, or are ''.
export function meaning({notify, name}, silent, mute) {
  const notified = mute ? 'A notification, but no sound' : 'A notification and a sound';
  const what = silent ? mute ? 'Only the number in the title' : 'A sound' : notified;
  const why = [silent, mute].filter(Boolean).join(', and ');
  const nameless = notify === 'mentions' && !name ? ' You have no name yet.' : '';
  return notify === 'nothing' ? '' : what + (why && ': ' + why) + '.' + nameless;
}
