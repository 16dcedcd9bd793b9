// reading.js decides which lines are new to the person. It exports isRead and isNew, and knows no elements.
// How far the person has read is the position of the first line that may be unread, {epoch, seq}, or {} if
// that is not known. Sequence numbers of different epochs can't be compared.

// isRead reports whether a line at a position is before what may be unread.
export const isRead = ({epoch, seq}, read) => epoch === read.epoch && seq < read.seq;

// isNew reports whether the line of an event is new. read is how far the person has read. returned is the
// time at which the person came back, 0 if that was before the page was opened, Infinity during an absence.
export const isNew = ({own, old, missed, at, position}, read, returned) =>
  !own && !isRead(position, read) && (old ? position.epoch === read.epoch : Boolean(missed) || at <= returned);
