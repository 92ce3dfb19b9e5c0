// The tables: how far each is, how fast, why not faster, and how sure we are.

const DRIFT = ['missing', 'different', 'extra', 'undecodable'];

// Keys of the newest verdict that are not as they must be; null where it says nothing of the table.
function drift(verdict, name) {
  const table = (verdict?.report?.tables ?? verdict?.tables ?? []).find((entry) => entry.name === name);
  if (!table) return null;
  const kinds = DRIFT.filter((kind) => table[kind] > 0).map((kind) => `${count(table[kind])} ${kind}`);
  return { keys: DRIFT.reduce((sum, kind) => sum + (table[kind] ?? 0), 0), kinds, asOf: table.verified_as_of ?? table.as_of };
}

function copied(table, speed) {
  const share = table.ranges > 0 ? table.ranges_done / table.ranges : 0;
  const done = table.ranges > 0 && table.ranges_done >= table.ranges;
  const percent = done ? 100 : Math.min(99, Math.floor(share * 100));
  const moving = !done && speed?.rows_per_s > 0;
  return [
    h('p', { class: 'figure' }, count(table.rows_backfilled), h('span', { class: 'unit' }, ' rows')),
    h('progress', { max: 100, value: percent, class: done ? 'full' : '', 'aria-label': `${table.name}: share of the rows copied` }, `${percent} %`),
    h('p', { class: 'soft small' },
      table.ranges === 0 ? 'not begun'
        : done ? 'all copied'
          : [`${percent} %`, moving && ` · ${rate(speed.rows_per_s)}`, isNumber(speed?.eta_s) && ` · about ${span(speed.eta_s)} left`]),
    !done && speed?.slowed_by && h('p', { class: 'small held' }, `held back by ${speed.slowed_by}`),
  ];
}

function waits(table) {
  return [
    h('p', { class: 'figure' }, count(table.pending), h('span', { class: 'unit' }, table.pending === 1 ? ' key' : ' keys')),
    sparkline(`pending/${table.name}`, `Waiting keys of ${table.name}`, count, 'pg'),
    h('p', { class: 'soft small' }, table.pending > 0 && isNumber(table.oldest_s) ? `oldest ${span(table.oldest_s)}` : 'nothing waits'),
  ];
}

function delivered(table, speed) {
  return [
    h('p', { class: 'figure' }, rate(speed?.relayed_per_s ?? null)),
    sparkline(`relayed/${table.name}`, `Changes of ${table.name} delivered`, rate, 'dy'),
    h('p', { class: 'soft small' }, `${count(table.relayed)} in all`),
    speed?.throttles > 0 && h('p', { class: 'small held' }, `throttled ${many(speed.throttles, 'time')}`),
  ];
}

function verified(found, state) {
  const { status, verdict } = state;
  if (!found) return [h('p', { class: 'figure soft' }, '–'), h('p', { class: 'soft small' }, 'not compared yet')];
  const age = isNumber(status.verdict_age_s) && !found.asOf ? `${span(status.verdict_age_s)} ago` : ago(found.asOf, state.now);
  const good = found.keys === 0 && verdict.consistent !== false;
  return [
    h('p', { class: `figure ${found.keys > 0 ? 'bad' : good ? 'good' : ''}` },
      found.keys > 0 ? `${count(found.keys)} ${found.keys === 1 ? 'key differs' : 'keys differ'}` : good ? '✓ same' : 'none differs'),
    h('p', { class: 'soft small' }, `as of ${age}`),
    found.kinds.length > 0 && h('p', { class: 'small bad' }, found.kinds.join(', ')),
  ];
}

function dead(table) {
  const open = table.dead_letters_unacknowledged ?? 0;
  return [
    h('p', { class: `figure ${open > 0 ? 'bad' : ''}` }, count(table.dead_letters)),
    table.dead_letters > 0 && h('p', { class: `small ${open > 0 ? 'bad' : 'soft'}` }, open > 0 ? `${count(open)} not acknowledged` : 'all acknowledged'),
  ];
}

function fed(table) {
  const feed = table.reverse_feed;
  if (!feed) return [h('p', { class: 'figure soft' }, '–')];
  return [
    h('p', { class: `figure ${table.reverse_alarm ? 'bad' : ''}` }, isNumber(feed.lag_s) ? span(feed.lag_s) : '–', h('span', { class: 'unit' }, ' behind')),
    sparkline(`feed/${table.name}`, `Lag of the way back of ${table.name}`, span, 'dy'),
    h('p', { class: table.reverse_alarm ? 'small bad' : 'soft small' }, table.reverse_alarm ?? (isNumber(feed.applied) ? `${count(feed.applied)} came back` : '')),
  ];
}

function tablesCard(state) {
  const { status } = state;
  const feeds = status.tables.some((table) => table.reverse_feed);
  const columns = [
    ['Copied', 'Rows that were there when the migration began'],
    ['Waiting', 'Changes that PostgreSQL has and DynamoDB has not yet'],
    ['Delivered', 'Changes brought to DynamoDB'],
    ...(feeds ? [['Way back', 'How far PostgreSQL is behind DynamoDB']] : []),
    ['Verified', 'What the newest comparison of both stores found'],
    ['Dead letters', 'Rows that DynamoDB cannot hold; a person decides'],
  ];
  const cell = (i, inside) => h('td', { 'data-label': columns[i][0] }, h('div', {}, inside));
  const row = (table) => {
    const speed = (status.daemon.rates ?? []).find((entry) => entry.table === table.name);
    const cells = [copied(table, speed), waits(table), delivered(table, speed), ...(feeds ? [fed(table)] : []),
      verified(drift(state.verdict, table.name), state), dead(table)];
    const capture = table.capture === 'on' ? 'changes are captured' : `capture: ${table.capture ?? 'unknown'}`;
    return h('tr', { key: table.name },
      h('th', { scope: 'row' }, h('span', { class: 'table-name' }, table.name),
        h('span', { class: 'soft small' }, `→ ${table.target ?? 'not made yet'}`),
        h('span', { class: table.capture === 'on' ? 'soft small' : 'small held' }, capture)),
      cells.map((inside, i) => cell(i, inside)));
  };
  return h('section', { class: 'card tables', 'aria-labelledby': 'tables-head' },
    h('h2', { id: 'tables-head' }, 'Tables'),
    status.tables.length === 0 ? h('p', { class: 'soft' }, state.status.daemon.polled_at ? 'No table moves yet.' : 'Not read yet.')
      : h('table', {},
        h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Table'), columns.map(([label, means]) => h('th', { scope: 'col', title: means }, label)))),
        h('tbody', {}, status.tables.map(row))));
}
