// sound.js owns the sound, a soft tone of a fifth of a second. A browser plays it only after the person has
// touched the page. It exports play and soundTrouble.

import {person} from './store.js';

let audio; // an AudioContext; undefined until unlock needs it, and if the browser can't make one

// soundTrouble says why there is no sound now, or returns ''.
export const soundTrouble = () => audio?.state === 'running' ? '' : 'this browser plays no sound now';

// unlock starts the sound at a touch. The system may have suspended or interrupted it since the last.
function unlock() {
  try {
    if (person.notify !== 'nothing') {
      audio ??= new AudioContext();
      audio.resume().catch(() => {}); // the system still needs the device, as for a call
    }
  } catch {}
}

// play plays the sound, if there is no trouble.
export function play() {
  try {
    const tone = audio.createOscillator(), volume = audio.createGain();
    tone.frequency.value = 660;
    volume.gain.setValueAtTime(0.06, audio.currentTime);
    volume.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + 0.2);
    tone.connect(volume).connect(audio.destination);
    tone.start();
    tone.stop(audio.currentTime + 0.2);
  } catch {}
}

// A touch of a finger counts for browsers when it ends. The bell's choice is a click, too.
for (const type of ['pointerdown', 'pointerup', 'keydown', 'click']) {
  window.addEventListener(type, unlock);
}
