// copy.js owns the clipboard's text. A copy of several entries, or of one with its time, has the time and the name
// of each. A copy from within one entry is left to the browser. It exports nothing.

import {clock} from './entry.js';

const asPlainText = ({line: {at, name, text}}) =>
  (at ? clock(at) + ' ' : '') + (name === undefined ? text : name + ': ' + text);

$(document).on('copy', function ({originalEvent}) {
  const selection = getSelection();
  if (selection.isCollapsed || $(originalEvent.target).is('input, textarea')) {
    return;
  }
  const range = selection.getRangeAt(0), copies = $('<div>').append(range.cloneContents()).find('.entry');
  const entries = $('#log .entry').get().filter(e => range.intersectsNode(e));
  const chosen = entries.filter((e, i) => copies[i]?.textContent); // a selection may touch others without any text
  if (chosen.length > 1 || chosen[0]?.contains(range.startContainer) === false && range.intersectsNode(chosen[0].firstChild)) {
    originalEvent.clipboardData.setData('text/plain', chosen.map(asPlainText).join('\n'));
    originalEvent.preventDefault();
  }
});
