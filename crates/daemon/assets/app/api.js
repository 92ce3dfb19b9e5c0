// The server: one token, requests with it, and the stream of what changes. The token is sent in a header and kept for this tab only.

const TOKEN = 'lockstep.token';

class Refused extends Error {
  constructor(status, code, message, operation) {
    super(message);
    Object.assign(this, { status, code, operation });
  }
}

// From the address (`#token=…`, which then leaves it and the history) or from this tab.
function tokenAtHand() {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given) {
    sessionStorage.setItem(TOKEN, given);
    window.history.replaceState(null, '', location.pathname);
  }
  return sessionStorage.getItem(TOKEN);
}
const keepToken = (token) => sessionStorage.setItem(TOKEN, token);
const forgetToken = () => sessionStorage.removeItem(TOKEN);

// A header cannot hold every character; what cannot be sent cannot be right.
const sendable = (token) => /^[\x21-\x7e]{1,512}$/.test(token);

async function refusal(response) {
  const said = await response.json().catch(() => null);
  const error = said?.error ?? {};
  const message = error.message ?? `The server answered ${response.status}.`;
  return new Refused(response.status, error.code ?? String(response.status), message, error.operation);
}

async function ask(token, method, path, body, more = {}) {
  const headers = { Authorization: `Bearer ${token}`, ...more };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const answer = { method, headers, cache: 'no-store', credentials: 'omit', redirect: 'error' };
  if (body !== undefined) answer.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, answer);
  } catch {
    throw new Refused(0, 'unreachable', 'The server does not answer. This page tries again by itself.');
  }
  if (!response.ok) throw await refusal(response);
  return response.json();
}

// A key under which a request that is sent twice is done once.
function onceKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('');
}

const SILENCE_MS = 20000; // a status comes at least every 5 s; after this the connection is dead, whatever the network says
const PAUSES_MS = [1000, 1000, 2000, 3000, 5000];

// Follows the stream until `signal` ends it. `on.status(json)`, `on.live()`, `on.lost(retryAt)`; ends with `on.refused(error)` on 401.
async function follow(token, signal, on) {
  for (let failures = 0; !signal.aborted; ) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    signal.addEventListener('abort', stop);
    let silence = setTimeout(stop, SILENCE_MS);
    try {
      const headers = { Authorization: `Bearer ${token}`, Accept: 'text/event-stream' };
      const response = await fetch('v1/events', { headers, cache: 'no-store', credentials: 'omit', signal: attempt.signal });
      if (response.status === 401) return on.refused(await refusal(response));
      if (!response.ok) throw await refusal(response);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let tail = ''; ; ) {
        const { value, done } = await reader.read();
        if (done) break;
        clearTimeout(silence);
        silence = setTimeout(stop, SILENCE_MS);
        const events = (tail + value).split('\n\n');
        tail = events.pop();
        for (const event of events) {
          const data = event.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trim());
          if (!data.length) continue;
          failures = 0;
          on.live();
          on.status(JSON.parse(data.join('\n')));
        }
      }
    } catch (error) {
      if (error instanceof SyntaxError) console.warn('an event was not understood');
    } finally {
      clearTimeout(silence);
      signal.removeEventListener('abort', stop);
      attempt.abort();
    }
    if (signal.aborted) return undefined;
    const pause = PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)];
    failures += 1;
    on.lost(Date.now() + pause);
    await rest(pause, signal);
  }
  return undefined;
}

// Waits, or less: until the network is back or the tab is looked at again.
function rest(ms, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      window.removeEventListener('online', end);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    window.addEventListener('online', end);
    signal.addEventListener('abort', end);
  });
}
