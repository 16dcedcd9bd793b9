// chat.js starts the built program, whose path the environment variable CHAT has, and raw clients that talk to it. It
// exports Chat.

import {once} from 'node:events';
import {mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import WebSocket from 'ws';
import {end, run} from './programs.js';
import {Network} from './proxy.js';

// Chat is the program, behind a Network through which browsers see it, at url. port is its own, for clients.
export class Chat {
  #process;
  #directory = mkdtempSync(join(tmpdir(), 'chat-'));
  #clients = [];

  // start starts a Chat with flags.
  static async start(flags, certificate) {
    if (!process.env.CHAT) {
      throw new Error('the environment has no CHAT, the path of the built program');
    }
    const chat = new Chat();
    chat.flags = flags;
    chat.network = await Network.start(0, certificate);
    chat.url = chat.network.origin + '/';
    await chat.restart();
    return chat;
  }

  // restart starts the program after it has ended. Its port is another one, but its address for browsers is the same.
  async restart() {
    const args = ['-addr', '127.0.0.1:0', ...this.flags];
    const listening = /msg=listening url=http:\/\/[0-9.]+:(\d+)\/\s/;
    const [child, [, port]] = await run(process.env.CHAT, args, [1, 2], listening, {cwd: this.#directory});
    this.#process = child;
    this.port = this.network.port = Number(port);
  }

  // log is what the program has written since the last start.
  get log() {
    return this.#process.log;
  }

  // stop asks the program to end, and kill ends it at once. Both return when it has ended.
  stop = () => end(this.#process, 'SIGTERM');
  kill = () => end(this.#process, 'SIGKILL');

  // join returns a Client. The path says in which room, such as '/lobby/ws'.
  async join(path = '/ws') {
    const client = new Client(`ws://127.0.0.1:${this.port}${path}`);
    this.#clients.push(client);
    await client.opened;
    return client;
  }

  // close ends everything.
  async close() {
    this.#clients.forEach(client => client.leave());
    await this.network.close();
    await this.kill();
    rmSync(this.#directory, {recursive: true, force: true});
  }
}

// Client is a person without a page.
class Client {
  #lines = []; // that expect has not returned yet
  #arrived = () => {};

  constructor(url) {
    this.socket = new WebSocket(url, {perMessageDeflate: false});
    this.opened = once(this.socket, 'open');
    this.socket.on('error', () => {});
    this.socket.on('message', (data, isBinary) => {
      if (!isBinary) {
        this.#lines.push(...String(data).split('\n'));
        this.#arrived();
      }
    });
  }

  say(...lines) {
    lines.forEach(line => this.socket.send(line));
  }

  // next returns the next line. wanted describes it for the error if none comes.
  async next(wanted = 'a line') {
    if (this.#lines.length === 0) {
      await new Promise((arrived, fail) => {
        const timer = setTimeout(() => fail(new Error('gave up after 30 s of waiting for ' + wanted)), 30000);
        this.#arrived = () => (clearTimeout(timer), arrived());
      });
    }
    return this.#lines.shift();
  }

  // expect waits for the next lines, which must be these.
  async expect(...lines) {
    for (const line of lines) {
      const got = await this.next(JSON.stringify(line));
      if (got !== line) {
        throw new Error(`got the line ${JSON.stringify(got)}, want ${JSON.stringify(line)}`);
      }
    }
  }

  leave() {
    this.socket.terminate();
  }
}
