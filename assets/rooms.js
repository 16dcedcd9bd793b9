// rooms.js owns the room's name in the header, the menu of rooms with the link to this one, and how menus close.

import {room, root, limits} from './store.js';
import {allowed} from './roomname.js';

if (room) {
  $('#up').text($('h1').text()).attr('href', root).prop('hidden', false);
  $('h1').text(room).attr('title', room);
}

const $syntax = $('#syntax'), syntax = $syntax.text();

$('#go').on('submit', function (event) {
  event.preventDefault();
  const typed = $('#other').val().trim(), name = allowed(typed);
  if (typed && !name && !/^https?:/i.test(typed)) { // an address may be that of the room without a name
    $syntax.text('A room’s name has Latin letters, digits, - and _.').addClass('wrong');
  } else {
    location.href = (root || './') + (name && name + '/');
  }
}).on('input', function () {
  const typed = $('#other').val().trim(), name = allowed(typed);
  $syntax.removeClass('wrong').text(name && name !== typed ? 'The room will be “' + name + '”.' : syntax);
});
if (limits.rooms === '0') {
  $('#go').remove();
  $('#menu summary').text('Share');
}

// ---- The link. Sharing and copying may be missing, fail, or never end.

const link = new URL('.', document.baseURI).href;

// copySelected copies what is selected, and returns whether it could. A page without TLS has no other way.
function copySelected() {
  try {
    return document.execCommand('copy');
  } catch {
    return false;
  }
}

$('#link').val(link).on('focus', event => event.target.select());
$('#share').text(navigator.share ? 'Share' : 'Copy link').on('click', async function () {
  try {
    if (navigator.share) {
      await navigator.share({title: document.title, url: link});
      return;
    }
    const written = navigator.clipboard.writeText(link), timeout = new Promise((resolve, reject) => setTimeout(reject, 1000, new Error('timeout')));
    await Promise.race([written, timeout]);
  } catch (error) {
    if (error.name === 'AbortError') {
      return; // the share sheet was closed
    }
    $('#link').trigger('focus'); // which selects the link, so that the person can copy it in any case
    if (!copySelected()) {
      return;
    }
  }
  $('#shared').text('Copied').delay(3000).queue(next => { $('#shared').text(''); next(); });
});

$(document).on('click', event => $('.menu').not($(event.target).closest('.menu')).prop('open', false));
$(document).on('keydown', function (event) {
  const $open = $('.menu[open]');
  if (event.key === 'Escape' && $open.length) {
    event.stopPropagation(); // the key means nothing else, such as that new lines are read
    $open.prop('open', false).has(event.target).find('summary').trigger('focus');
  }
});
