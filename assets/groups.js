// groups.js decides which lines share one visible name and time. It exports group, and knows no elements.

const groupTime = 5 * 60 * 1000; // milliseconds after which a speaker's next line shows name and time again
const groupRows = 8; // rows after which it does so, too, so that a name is always in view
const rowLength = 40; // characters, as on a phone

const rowsOf = text => Math.max(text.split('\n', groupRows + 1).length, Math.ceil(text.length / rowLength));

// group sets continued of each line. It is true if the line shows no name and time, because a line before it does.
// last is the line before lines. A notice is a line without a name. now is the time of lines without a time, in
// milliseconds. For later calls a line keeps began, the time that is shown for it, and rows, the number since then.
export function group(lines, last, now) {
  for (const line of lines) {
    const began = Number(line.at ?? now), rows = rowsOf(line.text);
    line.continued = line.name !== undefined && line.name === last?.name && line.own === last.own &&
      (!line.isNew || last.isNew) && began - last.began < groupTime && last.rows + rows <= groupRows;
    Object.assign(line, line.continued ? {began: last.began, rows: last.rows + rows} : {began, rows});
    last = line;
  }
}
