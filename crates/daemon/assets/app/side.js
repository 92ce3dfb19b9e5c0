// The journal as a timeline, the applications, what this daemon runs, and what was asked of it.

const KINDS = { intent: 'began', done: 'done', undone: 'undone', refused: 'refused', note: 'noted' };

// What an entry says beside its name: from where to where, why, and a few numbers.
function detailOf(detail) {
  if (detail === null || typeof detail !== 'object') return [];
  const { from, to, phase, reason, force, ...others } = detail;
  const plain = (value) => ['string', 'number', 'boolean'].includes(typeof value);
  const flat = Object.entries(others).filter(([, value]) => plain(value) && value !== '').slice(0, 4);
  const named = (name, value) => {
    const label = words(name).toLowerCase();
    if (typeof value === 'boolean') return value ? label : `not ${label}`;
    return `${label} ${typeof value === 'number' ? count(value) : value}`;
  };
  return [
    !from && plain(to) ? `to ${to}` : null,
    ...flat.map(([name, value]) => named(name, value)),
    reason ? `“${reason}”` : null,
    force ? `forced: “${force}”` : null,
  ].filter(Boolean);
}

// A change of phase is told by its two ends.
function entryTitle(entry) {
  const { from, to } = entry.detail ?? {};
  return typeof from === 'string' && typeof to === 'string' ? `${from} → ${to}` : words(entry.step);
}

function journalCard(state) {
  const entries = state.journal ?? state.status.journal ?? [];
  return h('section', { class: 'card journal', 'aria-labelledby': 'journal-head' },
    h('h2', { id: 'journal-head' }, 'Journal'),
    entries.length === 0 ? h('p', { class: 'soft' }, 'Nothing has happened yet.')
      : h('ol', { class: 'timeline' }, entries.map((entry) => {
        const more = detailOf(entry.detail);
        return h('li', { class: `k-${KINDS[entry.kind] ? entry.kind : 'note'}`, key: entry.id },
          h('p', {}, h('b', {}, entryTitle(entry)), h('span', { class: 'kind' }, KINDS[entry.kind] ?? entry.kind),
            more.length > 0 && h('span', { class: 'soft' }, more.join(' · '))),
          h('p', { class: 'soft small' }, h('time', { datetime: entry.at, title: entry.at }, `${clock(entry.at)} · ${ago(entry.at, state.now)}`),
            entry.actor && ` · ${entry.actor}`));
      })),
    h('p', {}, h('button', { type: 'button', class: 'link', onclick: state.moreJournal },
      state.journal ? 'Only the newest' : 'Show more')));
}

function instancesCard(state) {
  const list = state.status.instances ?? [];
  return h('section', { class: 'card', 'aria-labelledby': 'instances-head' },
    h('h2', { id: 'instances-head' }, 'Applications'),
    list.length === 0 ? h('p', { class: 'soft' }, 'No application has registered yet.')
      : h('ul', { class: 'plain' }, list.map((one) => {
        const left = isNumber(one.lease_left_ms) ? one.lease_left_ms : 0;
        const live = one.state === 'live';
        const behind = isNumber(state.status.epoch) && one.epoch < state.status.epoch;
        return h('li', { key: one.id },
          h('p', { class: 'line' }, h('b', {}, one.name ?? one.id),
            h('span', { class: live ? 'good' : 'bad' }, live ? 'live' : one.state ?? 'unknown')),
          h('p', { class: 'soft small' }, [one.host, one.pid && `process ${one.pid}`].filter(Boolean).join(' · ')),
          h('p', { class: 'soft small' }, h('span', { class: behind ? 'held' : '' }, `epoch ${one.epoch ?? '–'}${behind ? ' (behind)' : ''}`),
            ` · lease ${left > 0 ? `${span(left / 1000)} left` : 'is over'}`),
          h('meter', { min: 0, max: one.lease_ms || 1, value: Math.max(0, left), 'aria-label': `Lease of ${one.name ?? one.id}` }));
      })));
}

const PARTS = {
  relay: ['Relay', 'delivers changes to DynamoDB'],
  'reverse-feed': ['Reverse feed', 'keeps PostgreSQL up to date in DynamoOnly'],
  sweeper: ['Sweeper', 'finishes writes that an application left half-done'],
  'history-marks': ['History marks', 'notice a store that was set back'],
  monitor: ['Monitor', 'raises alerts and says when one is over'],
  sampling: ['Sampling', 'compares both stores, a little all the time'],
  counting: ['Counting', 'adds up what applications report and what is spent'],
  ramp: ['Ramp', 'raises a share step by step'],
};
const PART_STATES = { not_needed: ['not needed now', 'soft'], standby: ['on standby', 'soft'], running: ['runs', 'good'], waiting: ['waits', 'held'],
  restarting: ['restarts', 'bad'], paused: ['paused', 'held'] };

function partsCard(state) {
  const parts = state.status.daemon.parts ?? [];
  const paused = state.status.daemon.paused ?? [];
  return h('section', { class: 'card', 'aria-labelledby': 'parts-head' },
    h('h2', { id: 'parts-head' }, 'At work'),
    h('ul', { class: 'plain' }, parts.map((part) => {
      const [label, does] = PARTS[part.name] ?? [words(part.name), ''];
      const [word, tone] = PART_STATES[part.state] ?? [part.state, 'soft'];
      const stop = paused.find((entry) => entry.part === part.name);
      return h('li', { key: part.name },
        h('p', { class: 'line' }, h('b', {}, label), h('span', { class: tone }, word)),
        h('p', { class: 'soft small' }, does, part.restarts > 0 && ` · restarted ${many(part.restarts, 'time')}`),
        stop && h('p', { class: 'small held' }, `by ${stop.actor ?? 'an operator'}: “${stop.reason ?? 'no reason given'}”`,
          stop.until && ` until ${clock(stop.until)}`),
        part.why && h('p', { class: 'small held' }, part.why));
    })));
}

// A percentage that was counted; null where nothing was.
const percentOf = (value) => (isNumber(value) ? `${Number(value.toFixed(3))} %` : '–');

// What operators have turned for every process, and what applications count.
function settingsCard(state, turn) {
  const { settings = [], counted, spend } = state.status.daemon;
  const turned = settings.filter((one) => !one.name.startsWith('pause.') && !one.name.startsWith('ramp.'));
  const ramps = settings.filter((one) => one.name.startsWith('ramp.'));
  const who = (one) => `${one.actor}${one.reason ? `: “${one.reason}”` : ''}${one.until ? ` · until ${clock(one.until)}` : ''}`;
  const usd = (value) => `$${value.toFixed(value < 10 ? 4 : 2)}`;
  return h('section', { class: 'card', 'aria-labelledby': 'settings-head' },
    h('h2', { id: 'settings-head' }, 'Settings'),
    turned.length === 0 && ramps.length === 0 ? h('p', { class: 'soft' }, 'Every process is as it was configured.')
      : h('ul', { class: 'plain' },
        turned.map((one) => h('li', { key: one.name },
          h('p', { class: 'line' }, h('b', {}, words(one.name)), h('span', { class: 'held' }, String(one.value))),
          h('p', { class: 'soft small' }, who(one)))),
        ramps.map((one) => h('li', { key: one.name },
          h('p', { class: 'line' }, h('b', {}, `Ramp of ${words(one.name.slice(5)).toLowerCase()}`),
            h('span', { class: 'held' }, (one.value.steps ?? []).map((step, i) => (i === one.value.at ? `[${step} %]` : `${step} %`)).join(' → '))),
          h('p', { class: 'soft small' }, who(one))))),
    counted && h('p', { class: 'soft small' }, `Within the hour: writes without a store’s error ${percentOf(counted.write_success_percent)} · operations completed ${
      percentOf(counted.operations_completed_percent)} · shadow reads ${count(counted.shadow_reads)}, of them different ${count(counted.shadow_differ)}`),
    spend && h('p', { class: 'soft small' }, `Spent so far ${usd(spend.usd)} (${count(spend.write_units)} write units, ${count(spend.read_units)} read units)`,
      isNumber(spend.forecast_usd) && ` · when the initial load is copied ${usd(spend.forecast_usd)}`,
      isNumber(spend.cap_usd) && ` · stops at ${usd(spend.cap_usd)}`),
    h('p', {}, h('button', { type: 'button', class: 'link', onclick: turn }, 'Turn a setting')));
}

const OPERATIONS = { advance: 'Step forward', rollback: 'Step back', validate: 'Validation', repair: 'Repair', 'test-operation': 'Test operation' };
const ENDS = { running: ['runs', 'held'], succeeded: ['done', 'good'], failed: ['failed', 'bad'], refused: ['refused', 'bad'], cancelled: ['cancelled', 'soft'] };

function operationsCard(state, open) {
  const list = (state.status.daemon.operations ?? []).slice(0, 6);
  if (list.length === 0) return null;
  return h('section', { class: 'card', 'aria-labelledby': 'operations-head' },
    h('h2', { id: 'operations-head' }, 'Asked of it'),
    h('ul', { class: 'plain' }, list.map((one) => {
      const [word, tone] = ENDS[one.state] ?? [one.state, 'soft'];
      return h('li', { key: one.id },
        h('p', { class: 'line' }, h('button', { type: 'button', class: 'link', onclick: () => open(one.id) }, OPERATIONS[one.kind] ?? words(one.kind)),
          h('span', { class: tone }, word)),
        h('p', { class: 'soft small' }, `${ago(one.began_at, state.now)}${one.actor ? ` · ${one.actor}` : ''}${one.reason ? ` · “${one.reason}”` : ''}`));
    })));
}
