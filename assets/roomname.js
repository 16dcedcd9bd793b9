// roomname.js knows which names a room may have. It exports allowed.

const letters = {ß: 'ss', æ: 'ae', œ: 'oe', ø: 'o', ł: 'l', ı: 'i', đ: 'd', ð: 'd', þ: 'th'}; // which have no accent to drop

// allowed returns the name of a room that somebody means, who has typed a name or pasted an address of a room. It
// returns '' if other letters than Latin ones are in it, because a name without them would be that of another room.
export function allowed(typed) {
  const [name] = /[^/]*$/.exec(typed.trim().replace(/\/$/, ''));
  const plain = name.toLowerCase().normalize('NFKD').replace(/\p{Mn}/gu, '').replace(/[^\0-\x7f]/g, c => letters[c] ?? c);
  return /[^\0-\x7f]/.test(plain.replace(/[^\p{L}\p{N}]/gu, '')) ? '' :
    plain.replace(/[^a-z0-9_-]+/g, '-').replace(/-+/g, '-').slice(0, 64).replace(/^-|-$/g, '');
}
