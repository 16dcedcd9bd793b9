// programs.js runs programs that end with this process. It exports env, run and end.

import {spawn} from 'node:child_process';
import {once} from 'node:events';

// env is the environment of programs. The page formats times for its time zone and language.
export const env = {...process.env, TZ: 'UTC', LANGUAGE: 'en_US', LC_ALL: 'C.UTF-8'};

const children = new Set();
process.on('exit', () => children.forEach(child => child.kill('SIGKILL')));
process.once('SIGTERM', () => process.exit(1));

// If TestPage is killed, this process gets another parent.
const parent = process.ppid;
setInterval(() => process.ppid === parent || process.exit(1), 1000).unref();

// run starts a program, and waits until what it has written to file descriptors matches pattern; it waits for nothing if
// there are none. It returns the process, whose property log has all that was written there, and the match.
export async function run(program, args, descriptors, pattern, options = {}) {
  const stdio = Array.from({length: Math.max(3, ...descriptors.map(i => i + 1))}, (_, i) => descriptors.includes(i) ? 'pipe' : 'ignore');
  const child = spawn(program, args, {env, ...options, stdio});
  child.log = '';
  const match = await new Promise((matched, fail) => {
    for (const i of descriptors) {
      child.stdio[i].setEncoding('utf8').on('data', text => {
        child.log += text;
        if (pattern.test(child.log)) {
          matched(pattern.exec(child.log));
        }
      });
    }
    child.once('spawn', () => {
      children.add(child);
      descriptors.length === 0 && matched();
    }).once('error', fail).once('exit', code => {
      children.delete(child);
      fail(new Error(`${program} ended with ${code} before it was ready: ${child.log}`));
    });
  });
  return [child, match];
}

// end has a program end by a signal, and returns when it has.
export async function end(child, signal = 'SIGKILL') {
  if (child.exitCode === null && child.signalCode === null) {
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }
}
