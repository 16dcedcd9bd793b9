// roomname.js knows which names a room may have. It exports allowed.

const letters = {ß: 'ss', æ: 'ae', œ: 'oe', ø: 'o', ł: 'l', ı: 'i', đ: 'd', ð: 'd', þ: 'th'}; // kept by NFKD

// allowed returns the name of the room that somebody means who has typed a name or pasted a room's address. It returns
// '' if there are other letters than Latin ones, because the name without them would be that of another room.
export function allowed(typed) {
  const [, path] = /^(?:https?:\/\/[^/?#]*)([^?#]*)/i.exec(typed.trim()) ?? ['', typed.trim()];
  const [name] = /[^/]*$/.exec(path.replace(/\/$/, ''));
  const plain = name.toLowerCase().normalize('NFKD').replace(/\p{Mn}/gu, '').replace(/[^\0-\x7f]/g, c => letters[c] ?? c);
  return /[^\0-\x7f]/.test(plain.replace(/[^\p{L}\p{N}]/gu, '')) ? '' :
    plain.replace(/[^a-z0-9_-]+/g, '-').replace(/-+/g, '-').slice(0, 64).replace(/^-|-$/g, '');
}
