/**
 * Requests for recorded data, at most two at once: the gateway serves history in a process of its own and limits how much a
 * client may ask of it at a time (429). One that is refused all the same waits and tries again.
 */
const AT_ONCE = 2;
const TRIES = 5;
const WAIT_MS = 400;
let running = 0;
const waiting = [];

export async function recall(ask, { signal = null } = {}) {
  if (running >= AT_ONCE) await new Promise((go) => waiting.push(go));
  running++;
  try {
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      try {
        return await ask();
      } catch (error) {
        if (error.status !== 429 || attempt === TRIES) throw error;
        await new Promise((done) => setTimeout(done, WAIT_MS * attempt));
      }
    }
  } finally {
    running--;
    waiting.shift()?.();
  }
}
