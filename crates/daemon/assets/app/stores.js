// Both stores, and what flows between them.

function storeCard(state, key, name) {
  const { status } = state;
  const store = status.daemon.stores?.[key] ?? {};
  const phase = phaseOf(status.phase);
  const does = phase
    ? [phase.truth === name && 'holds the truth', phase.writes.includes(name) && 'takes writes', phase.reads.includes(name) && 'answers reads',
      !phase.writes.includes(name) && 'follows'].filter(Boolean)
    : [];
  const down = store.up === false;
  return h('article', { class: `card store ${storeClass(name)} ${down ? 'down' : ''}`, key, 'aria-label': name },
    h('header', {}, h('span', { class: `dot big ${storeClass(name)}`, 'aria-hidden': 'true' }), h('h2', {}, name),
      h('span', { class: down ? 'state bad' : 'state good' }, store.up === undefined ? 'not asked yet' : down ? 'does not answer' : 'answers')),
    h('p', { class: 'does' }, does.map((what) => h('span', { class: 'tag', key: what }, what))),
    down
      ? h('p', { class: 'bad small' }, `No answer for ${span(since(store.since, state.now) ?? 0)}. Lockstep tries again until it answers.`)
      : h('div', { class: 'latency' },
        h('p', { class: 'figure' }, millis(store.latency_ms), h('span', { class: 'unit' }, ' to answer')),
        sparkline(`latency/${key}`, `Latency of ${name}`, millis, storeClass(name))));
}

function flow(state) {
  const { status } = state;
  const forth = status.phase !== 'DynamoOnly';
  const rates = status.daemon.rates ?? [];
  const sum = (list, read) => list.reduce((all, entry) => all + (read(entry) ?? 0), 0);
  const paused = new Set((status.daemon.paused ?? []).map((entry) => entry.part));
  const lags = status.tables.map((table) => table.reverse_feed?.lag_s).filter(isNumber);
  const way = forth
    ? ['relay', paused.has('relay') ? 'paused' : `${rate(sum(rates, (entry) => entry.relayed_per_s))}`,
      `${many(sum(status.tables, (table) => table.pending), 'key')} waiting`]
    : ['reverse-feed', paused.has('reverse-feed') ? 'paused' : lags.length ? `${span(Math.max(...lags))} behind` : 'no news yet', 'PostgreSQL follows'];
  return h('section', { class: 'stores', 'aria-label': 'Both stores' },
    storeCard(state, 'postgresql', PG),
    h('div', { class: `flow ${forth ? 'forth' : 'back'} ${paused.has(way[0]) ? 'paused' : ''}`, key: 'flow' },
      h('p', { class: 'small soft' }, forth ? 'changes' : 'the way back'),
      h('p', { class: 'flow-rate' }, way[1]),
      h('span', { class: 'arrow', 'aria-hidden': 'true' }),
      h('p', { class: 'small soft' }, way[2])),
    storeCard(state, 'dynamodb', DY));
}
