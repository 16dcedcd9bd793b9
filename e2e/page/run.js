// run.js runs the test files that are its arguments, or all, in one process, so that a browser of each engine starts
// once.

import {readdirSync} from 'node:fs';

const all = readdirSync(new URL('.', import.meta.url)).filter(name => name.endsWith('.test.js'));
for (const name of process.argv.length > 2 ? process.argv.slice(2) : all) {
  await import('./' + name);
}
