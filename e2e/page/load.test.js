// Floods of lines, and slow networks. What is fast is logged, not asserted.

import assert from 'node:assert/strict';
import {test} from './harness.js';

const line = n => `Ann: line ${n} of many, with https://example.org/${n}`;

test('At a thousand lines a second the page draws, answers keys, and stays small', {}, async (stage, t) => {
  const rate = 1000, seconds = 3;
  const answer = 'still answering, and at once, whatever is said';
  const {ann, page} = await stage.open();
  await page.eval(() => {
    window.frames_ = [];
    let last = performance.now();
    requestAnimationFrame(function next(now) {
      frames_.push(now - last);
      last = now;
      requestAnimationFrame(next);
    });
    window.answers = [];
    new PerformanceObserver(list => answers.push(...list.getEntries().filter(e => e.name === 'keydown').map(e => e.duration)))
      .observe({type: 'event', durationThreshold: 16});
  });
  let n = 0, typed;
  await new Promise(done => {
    const began = performance.now();
    const ticks = setInterval(() => {
      for (; n < rate * seconds && n < (performance.now() - began) / 1000 * rate; n++) {
        ann.say(line(n));
      }
      if (n >= rate * seconds / 2) {
        typed ??= page.say(answer);
      }
      if (n === rate * seconds) {
        clearInterval(ticks);
        done();
      }
    }, 10);
  });
  await typed;
  await page.until(answer => $('.own .text').text() === answer, answer);
  await page.until(last => $('#lines').text().includes(last), line(rate * seconds - 1).slice('Ann: '.length));
  const [frames, keys] = await page.eval(() => [frames_, answers].map(all => all.sort((a, b) => a - b)));
  assert.ok(frames.length >= 5, `got ${frames.length} frames in ${seconds} s, want at least 5`);
  const at = (all, part) => Math.round(all[Math.floor(all.length * part)] ?? 0);
  t.diagnostic(`${frames.length} frames, p50 ${at(frames, 0.5)} ms, p99 ${at(frames, 0.99)} ms, the longest ${at(frames, 0.999999)} ms; ` +
    `${keys.length} of ${answer.length} keys took at least 16 ms: ${keys}`);
  await page.until(() => $('#lines').children().length === 2000 && $('*').length < 15000);
  await page.expectNoComplaints();
});

test('After a hundred thousand lines the heap of the page is small', {}, async (stage, t) => {
  const lines = 100000, batch = 2500;
  const {ann, page} = await stage.open();
  for (let n = 0; n < lines; n += batch) {
    for (let i = n; i < n + batch; i++) {
      ann.say(line(i));
    }
    await page.until(n => $('#lines .entry').last().text().includes(`line ${n} of`), n + batch - 1); // the page may be slow beside other tests
  }
  await page.devtools('HeapProfiler.collectGarbage');
  const {usedSize} = await page.devtools('Runtime.getHeapUsage');
  t.diagnostic(`after ${lines} lines the heap has ${(usedSize / 1e6).toFixed(1)} MB`);
  assert.ok(usedSize <= 10e6, `got a heap of ${usedSize} bytes after ${lines} lines, want at most 10 MB`);
});

test('On a line of 400 ms and 50 KB/s the page paints before its scripts are loaded', {}, async (stage, t) => {
  const [chat, page] = await Promise.all([stage.start(), stage.person()]);
  chat.network.preload(() => {
    new MutationObserver(() => {
      if (document.querySelector('#word')?.textContent === 'live') {
        window.connected ??= performance.now();
      }
    }).observe(document, {childList: true, subtree: true, characterData: true});
    window.loadedScripts = () => performance.getEntriesByType('resource').filter(e => e.name.endsWith('.js'));
  });
  await page.devtools('Network.enable');
  await page.devtools('Network.emulateNetworkConditions', {offline: false, latency: 400, downloadThroughput: 50000, uploadThroughput: 50000});
  await page.enter(chat.url);
  await page.until(() => performance.getEntriesByType('paint').length === 2);
  await page.until(() => loadedScripts().length > 0 && window.connected);
  await page.until(() => loadedScripts().every(e => e.encodedBodySize < 0.6 * e.decodedBodySize)); // they are compressed
  const [paint, scripts, connected] = await page.eval(() => [
    performance.getEntriesByName('first-contentful-paint')[0].startTime, Math.max(...loadedScripts().map(e => e.responseEnd)), window.connected]);
  t.diagnostic(`painted after ${paint} ms, scripts loaded after ${scripts} ms, connected after ${connected} ms`);
  assert.ok(paint < scripts, `painted after ${paint} ms, want that before the scripts are loaded, ${scripts} ms`);
});
