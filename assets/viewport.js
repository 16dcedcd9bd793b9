// viewport.js keeps the page within the part of the window that an on-screen keyboard leaves free. Browsers
// that shrink the page for their keyboard need nothing of it, and Chrome on Android does so because home.html
// asks for it. Safari on iOS lays its keyboard over the page, and only the visual viewport shrinks. Then this
// module sets --height, --top and the class keyboard, which chat.css uses. It exports visiblePart.

const keyboard = 80; // CSS pixels; every keyboard is higher, and the bars of browsers are lower

// visiblePart returns the part of the page that a keyboard leaves free, {height, top} in CSS pixels, or
// undefined if no keyboard covers the page. pageHeight is the height of the page's layout, and viewport a
// VisualViewport. A person who zooms in sees a part of the page, too, but nothing covers the rest.
export function visiblePart(pageHeight, {height, pageTop, scale}) {
  const free = height * scale;
  return pageHeight - free < keyboard ? undefined : {height: Math.round(free), top: scale > 1 ? 0 : Math.max(0, Math.round(pageTop))};
}

function fit() {
  const {style, classList, clientHeight} = document.documentElement;
  const part = visiblePart(clientHeight, visualViewport);
  classList.toggle('keyboard', part !== undefined);
  for (const [property, value] of [['--height', part?.height], ['--top', part?.top]]) {
    value === undefined ? style.removeProperty(property) : style.setProperty(property, value + 'px');
  }
}

globalThis.visualViewport?.addEventListener('resize', fit);
globalThis.visualViewport?.addEventListener('scroll', fit);
