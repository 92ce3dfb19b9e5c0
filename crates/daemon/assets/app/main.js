// The page as a whole: one state, one way to draw it, and what changes it.

const state = {
  token: tokenAtHand(), wrong: null, status: null, gates: null, verdict: null, journal: null, dialog: null, skew: 0, now: Date.now(),
  link: { kind: 'connecting', lastAt: null, retryAt: 0 }, blocked: null, blockedBack: null,
};
let watching = null;
let asked = { phase: undefined, operation: undefined, verdict: undefined, gatesAt: 0 };

// ── Light and dark: the system's choice until a person makes one.
const THEME = 'lockstep.theme';
const systemDark = window.matchMedia('(prefers-color-scheme: dark)');
const isDark = () => (document.documentElement.dataset.theme ?? (systemDark.matches ? 'dark' : 'light')) === 'dark';
function setTheme(theme) {
  if (theme === 'dark' || theme === 'light') document.documentElement.dataset.theme = theme;
}
function otherTheme() {
  const theme = isDark() ? 'light' : 'dark';
  localStorage.setItem(THEME, theme);
  setTheme(theme);
  draw();
}

function bar() {
  const { status, link } = state;
  const words = { connecting: ['soft', 'Connecting …'], live: ['good', 'Live'], lost: ['bad', 'Not connected'] }[link.kind];
  return [
    h('p', { class: 'brand', key: 'brand' }, h('svg', { viewBox: '0 0 24 24', 'aria-hidden': 'true' },
      h('rect', { class: 'pg', x: 3, y: 3, width: 8, height: 18, rx: 3 }), h('rect', { class: 'dy', x: 13, y: 3, width: 8, height: 18, rx: 3 })), 'Lockstep'),
    h('p', { class: 'badges', key: 'badges' },
      status?.daemon.demo && h('span', { class: 'tag', title: 'Stores of its own, with rows that it made up' }, 'demo'),
      status?.daemon.role && h('span', { class: 'tag', title: 'Whether this process does the work' }, status.daemon.role),
      isNumber(status?.epoch) && h('span', { class: 'tag', title: 'Rises with every step; applications of an older epoch are turned away' }, `epoch ${status.epoch}`)),
    h('p', { class: 'link-state', key: 'link' },
      state.token && h('span', { class: words[0], id: 'link' }, h('span', { class: 'lamp', 'aria-hidden': 'true' }), words[1])),
    h('p', { class: 'bar-acts', key: 'acts' },
      h('button', { type: 'button', class: 'quiet', onclick: otherTheme, 'aria-label': isDark() ? 'Light colours' : 'Dark colours', title: isDark() ? 'Light colours' : 'Dark colours' }, isDark() ? '☀' : '☾'),
      state.token && h('button', { type: 'button', class: 'quiet', onclick: () => signOut(null) }, 'Sign out')),
  ];
}

function signIn() {
  const submit = (event) => {
    event.preventDefault();
    const token = String(new FormData(event.target).get('token')).trim();
    if (!sendable(token)) {
      state.wrong = 'A token is one word of plain letters, digits and signs. Copy it whole.';
      return draw();
    }
    keepToken(token);
    Object.assign(state, { token, wrong: null });
    return begin();
  };
  return [h('section', { class: 'card sign-in', key: 'sign-in', 'aria-labelledby': 'sign-in-head' },
    h('h1', { id: 'sign-in-head' }, 'Sign in'),
    h('p', { class: 'soft' }, 'Lockstep printed a token when it started, after “Token:”. The operate token may take steps; the read token may look.'),
    h('form', { onsubmit: submit },
      h('label', { class: 'field' }, h('span', {}, 'Token'),
        h('input', { name: 'token', type: 'password', required: true, autocomplete: 'off', spellcheck: 'false', 'aria-describedby': state.wrong ? 'wrong' : null })),
      state.wrong && h('p', { class: 'bad', id: 'wrong', role: 'alert' }, state.wrong),
      h('div', { class: 'buttons' }, h('button', { type: 'submit', class: 'primary' }, 'Sign in'))),
    h('p', { class: 'soft small' }, 'It is kept in this tab only, and forgotten when the tab closes.'))];
}

// What keeps an act from being asked for now. A step back does not wait for a comparison: the daemon ends that for it.
const GIVES_WAY = ['validate', 'repair'];
function blockedBy(kind) {
  const { status, link } = state;
  if (link.kind !== 'live') return 'Not connected: nothing can be asked of Lockstep now.';
  if (status.daemon.role === 'standby') return 'This process stands by; steps are taken on the one that leads.';
  const running = (status.daemon.operations ?? []).filter((one) => one.state === 'running');
  if (running.some((one) => kind !== 'rollback' || !GIVES_WAY.includes(one.kind))) return 'One operation at a time: another is at work.';
  return null;
}

function main() {
  if (!state.token) return signIn();
  const first = h('div', { class: 'notices', key: 'notices', 'aria-label': 'Alerts', role: 'region' }, notices(state, act));
  if (!state.status) return [first, h('p', { class: 'waiting', key: 'waiting' }, 'Loading …')];
  Object.assign(state, { blocked: blockedBy(), blockedBack: blockedBy('rollback') });
  return [
    first,
    headline(state),
    h('div', { key: 'rail' }, rail(state.status)),
    h('div', { key: 'next' }, nextStep(state, act)),
    h('div', { key: 'stores' }, flow(state)),
    h('div', { key: 'tables' }, tablesCard(state, draw)),
    h('div', { class: 'columns', key: 'columns' }, journalCard(state),
      h('div', { class: 'column' }, instancesCard(state), settingsCard(state, () => act('settings')), partsCard(state), operationsCard(state, (id) => act('show', id)))),
    h('footer', { key: 'footer', class: 'soft small' }, `Lockstep ${state.status.daemon.version ?? ''} · started ${ago(state.status.daemon.started_at, state.now)}`),
  ];
}

function draw() {
  state.now = Date.now() + state.skew;
  patch(document.getElementById('bar'), bar());
  patch(document.getElementById('main'), main());
  patch(document.getElementById('dialog'), dialogView(state, draw));
  document.getElementById('main').classList.toggle('lost', state.link.kind === 'lost');
  const alerts = (state.status?.daemon.alerts ?? []).length;
  document.title = `${alerts ? `(${alerts}) ` : ''}Lockstep${state.status?.phase ? ` · ${state.status.phase}` : ''}`;
}

// ── What a person asks for.
function act(kind, id) {
  if (kind === 'gates') return askGates();
  if (kind === 'show') {
    const one = (state.status.daemon.operations ?? []).find((entry) => entry.id === id);
    openDialog(state, { kind: 'show', title: OPERATIONS[one?.kind] ?? 'Operation', operation: id, known: one }, draw);
    return undefined;
  }
  if (kind === 'settings') return startTurning(state, draw);
  return startAction(state, kind, draw);
}

async function showRunbook(event, id) {
  event.preventDefault();
  let text;
  try {
    const response = await fetch('runbook.md', { credentials: 'omit' });
    text = response.ok ? await response.text() : null;
  } catch {
    text = null;
  }
  const { title, body } = text ? section(text, id)
    : { title: 'Runbook', body: [h('p', {}, 'It cannot be read from here now. It is in the documentation: '), h('code', {}, `docs/runbook.md#${id ?? ''}`)] };
  openDialog(state, { kind: `runbook/${id}`, title, runbook: body }, draw);
  document.getElementById('dialog').scrollTop = 0;
}
state.moreJournal = async () => {
  if (state.journal) state.journal = null;
  else state.journal = (await ask(state.token, 'GET', 'v1/journal?limit=200').catch(() => null))?.entries ?? null;
  draw();
};

async function askGates() {
  asked.gatesAt = Date.now();
  const to = state.status?.daemon.next?.forward;
  if (!to) {
    state.gates = null;
    return;
  }
  state.gates = await ask(state.token, 'GET', `v1/gates?to=${encodeURIComponent(to)}`).catch((error) => ({ error: error.message }));
  draw();
}
async function askVerdict() {
  const answer = await ask(state.token, 'GET', 'v1/verdicts').catch(() => null);
  if (answer) state.verdict = answer.verdict;
  draw();
}

// ── What the server says.
function took(status) {
  const before = state.status;
  state.status = status;
  state.skew = Date.parse(status.daemon.now) - Date.now() || 0;
  if (Math.abs(state.skew) < 2000) state.skew = 0;
  remember(status);
  if (before && before.phase !== status.phase) say(`The phase is now ${status.phase}`);
  for (const alert of status.daemon.alerts ?? []) {
    if (before && !(before.daemon.alerts ?? []).some((one) => one.name === alert.name)) say(`Alert: ${alertTitle(alert)}. ${alert.message}`);
  }
  const ended = (status.daemon.operations ?? []).find((one) => one.state !== 'running');
  const operation = ended ? `${ended.id}/${ended.state}` : null;
  if (operation !== asked.operation && before && ended) say(`${OPERATIONS[ended.kind] ?? ended.kind}: ${ended.state}`);
  const verdictAt = isNumber(status.verdict_age_s) ? Math.round((state.now / 1000 - status.verdict_age_s) / 10) : null;
  const moved = status.phase !== asked.phase || operation !== asked.operation;
  if (moved || Math.abs((verdictAt ?? -9) - (asked.verdict ?? -9)) > 1) {
    asked.verdict = verdictAt;
    askVerdict();
  }
  if (moved || (Date.now() - asked.gatesAt > 60000 && !document.hidden)) askGates();
  asked = { ...asked, phase: status.phase, operation };
  draw();
}

function remember(status) {
  const values = {};
  for (const table of status.tables ?? []) {
    values[`pending/${table.name}`] = table.pending;
    if (table.reverse_feed) values[`feed/${table.name}`] = table.reverse_feed.lag_s;
  }
  for (const entry of status.daemon.rates ?? []) values[`relayed/${entry.table}`] = entry.relayed_per_s;
  for (const [key, store] of Object.entries(status.daemon.stores ?? {})) values[`latency/${key}`] = store.latency_ms;
  sample(Date.now(), values);
}

function signOut(why) {
  watching?.abort();
  forgetToken();
  closeDialog();
  Object.assign(state, { token: null, wrong: why, status: null, gates: null, verdict: null, journal: null });
  draw();
}

function begin() {
  watching?.abort();
  watching = new AbortController();
  asked = { phase: undefined, operation: undefined, verdict: undefined, gatesAt: 0 };
  state.link = { kind: 'connecting', lastAt: null, retryAt: 0 };
  draw();
  follow(state.token, watching.signal, {
    status: took,
    live: () => {
      if (state.link.kind === 'lost') say('Connected again');
      state.link = { kind: 'live', lastAt: Date.now(), retryAt: 0 };
    },
    lost: (retryAt) => {
      if (state.link.kind !== 'lost') say('The connection is lost. Trying again.');
      state.link = { kind: 'lost', lastAt: state.link.lastAt, retryAt };
      draw();
    },
    refused: () => signOut('This token is not the right one, or not any more.'),
  });
}

loadSamples();
setTheme(localStorage.getItem(THEME));
systemDark.addEventListener('change', draw);
window.addEventListener('pagehide', keepSamples);
window.addEventListener('hashchange', () => {
  const token = tokenAtHand();
  if (token && token !== state.token) {
    Object.assign(state, { token, wrong: null });
    begin();
  }
});
// The browser tells of a close in a task of its own: the next dialog may be open by then, and is not to be emptied.
document.getElementById('dialog').addEventListener('close', ({ target }) => {
  if (target.open) return;
  state.dialog = null;
  draw();
});
setInterval(() => { if (!document.hidden) draw(); }, 1000);
document.addEventListener('visibilitychange', () => { if (!document.hidden) draw(); });
patch(document.getElementById('bar'), []);
patch(document.getElementById('main'), []);
if (state.token) begin();
else draw();
