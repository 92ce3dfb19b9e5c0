// The four phases, what each means, and what the next step still waits for.

const PG = 'PostgreSQL';
const DY = 'DynamoDB';
const PHASES = [
  { name: 'PostgresOnly', writes: [PG], reads: [PG], truth: PG,
    means: 'Applications use PostgreSQL alone. Lockstep copies its rows to DynamoDB and keeps them up to date.' },
  { name: 'DualWrite', writes: [PG, DY], reads: [PG], truth: PG,
    means: 'Applications write both stores. PostgreSQL decides and answers every read; a share is compared with DynamoDB.' },
  { name: 'HybridRead', writes: [PG, DY], reads: [DY], truth: PG,
    means: 'DynamoDB answers reads, PostgreSQL where DynamoDB does not know. PostgreSQL still holds the truth.' },
  { name: 'DynamoOnly', writes: [DY], reads: [DY], truth: DY,
    means: 'Applications use DynamoDB alone. PostgreSQL follows, so that there is a way back.' },
];
const phaseOf = (name) => PHASES.find((phase) => phase.name === name);

// A store's mark: always with its name for those who do not see colours.
const storeClass = (store) => (store === PG ? 'pg' : 'dy');
function dots(title, stores) {
  return h('span', { class: 'uses' }, h('span', { class: 'uses-what' }, title),
    stores.map((store) => h('span', { class: `dot ${storeClass(store)}` }, store)));
}

function rail(status) {
  const here = PHASES.findIndex((phase) => phase.name === status.phase);
  return h('ol', { class: 'rail', 'aria-label': 'Phases of the migration' }, PHASES.map((phase, i) => {
    const tone = i < here ? 'past' : i === here ? 'here' : 'ahead';
    const mark = i < here ? '✓' : String(i + 1);
    return h('li', { class: tone, key: phase.name, 'aria-current': i === here ? 'step' : null },
      h('span', { class: 'rail-mark', 'aria-hidden': 'true' }, mark),
      h('span', { class: 'rail-name' }, phase.name),
      i === here && h('span', { class: 'rail-here' }, 'now'),
      dots('writes', phase.writes), dots('reads', phase.reads));
  }));
}

// Gates that say the same of several tables, up to their names and numbers, are one line; the first of them speaks.
function alike(gates) {
  const pattern = (gate) => [gate.name, ...[gate.detail, gate.next ?? ''].map((text) =>
    (gate.table ? text.split(gate.table).join('\0') : text).replace(/[0-9]+/g, '0'))].join('\n');
  const groups = new Map();
  gates.forEach((gate, i) => {
    const key = gate.table ? pattern(gate) : `${i}`;
    groups.set(key, [...(groups.get(key) ?? []), gate]);
  });
  const names = (same) => same.slice(0, 3).map((gate) => gate.table).join(', ') + (same.length > 3 ? ` and ${same.length - 3} more` : '');
  return [...groups.values()].flatMap((same) => (same.length < 3 ? same : [{ ...same[0], table: names(same) }]));
}

function gateLine(gate, i) {
  const name = words(gate.name);
  return h('li', { class: gate.passed ? 'gate ok' : 'gate waits', key: `${gate.name}/${gate.table ?? ''}/${i}` },
    h('span', { class: 'gate-mark', 'aria-hidden': 'true' }, gate.passed ? '✓' : '…'),
    h('span', { class: 'unseen' }, gate.passed ? 'Passed: ' : 'Waits: '),
    h('span', { class: 'gate-what' },
      h('b', {}, name), gate.table && h('span', { class: 'tag' }, gate.table),
      ' ', h('span', { class: 'soft' }, coded(gate.detail)),
      !gate.passed && gate.next && h('span', { class: 'gate-next' }, '→ ', coded(gate.next))));
}

// The gates: first what still waits, the rest folded away.
function gateList(gates, open = false) {
  const waiting = gates.filter((gate) => !gate.passed);
  const passed = gates.filter((gate) => gate.passed);
  return [
    waiting.length > 0 && h('ul', { class: 'gates', key: 'waiting' }, alike(waiting).map(gateLine)),
    passed.length > 0 && h('details', { class: 'passed', key: 'passed', open: open && waiting.length === 0 && passed.length <= 12 ? true : undefined },
      h('summary', {}, `${many(passed.length, 'check')} ${passed.length === 1 ? 'passes' : 'pass'}`),
      h('ul', { class: 'gates' }, alike(passed).map(gateLine))),
  ];
}

function nextStep(state, act) {
  const { status, gates } = state;
  const forward = status.daemon.next?.forward;
  const back = status.daemon.next?.back;
  const paused = (status.daemon.paused ?? []).length > 0;
  const button = (kind, label, tone, blocked = state.blocked) =>
    h('button', { type: 'button', class: tone, key: kind, disabled: blocked ? true : null, title: blocked, onclick: () => act(kind) }, label);
  const waiting = (gates?.gates ?? []).filter((gate) => !gate.passed).length;
  const head = forward === null || forward === undefined
    ? ['The last phase is reached', 'PostgreSQL follows DynamoDB, so the way back stays open until `lockstep complete`.']
    : [`Next: ${forward}`, phaseOf(forward)?.means ?? ''];
  return h('section', { class: 'card next', 'aria-labelledby': 'next-head' },
    h('div', { class: 'next-what' },
      h('h2', { id: 'next-head' }, head[0]),
      h('p', { class: 'soft' }, coded(head[1])),
      forward && h('div', { class: 'next-gates' },
        h('p', { class: 'next-sum' },
          !gates ? 'Asking what it waits for …'
            : gates.error ? gates.error
              : waiting === 0 ? h('b', { class: 'good' }, 'Nothing stands in the way.') : h('b', {}, `Waits for ${many(waiting, 'thing')}.`),
          ' ', gates && h('button', { type: 'button', class: 'link', onclick: () => act('gates') }, 'Check again')),
        gates?.gates && gateList(gates.gates))),
    h('div', { class: 'next-acts', role: 'group', 'aria-label': 'Actions' },
      forward && button('advance', `Advance to ${forward}`, 'primary'),
      button('validate', 'Validate'),
      paused ? button('resume', 'Resume') : button('pause', 'Pause'),
      back && button('rollback', `Roll back to ${back}`, undefined, state.blockedBack),
      state.blocked && h('p', { class: 'soft small' }, state.blocked)));
}
