// The tables: how far each is, how fast, why not faster, and how sure we are.

const DRIFT = ['missing', 'different', 'extra', 'undecodable'];

// Keys of the newest verdict that are not as they must be; null where it says nothing of the table.
function drift(verdict, name) {
  const table = (verdict?.report?.tables ?? verdict?.tables ?? []).find((entry) => entry.name === name);
  if (!table) return null;
  const kinds = DRIFT.filter((kind) => table[kind] > 0).map((kind) => `${count(table[kind])} ${kind}`);
  return { keys: DRIFT.reduce((sum, kind) => sum + (table[kind] ?? 0), 0), kinds, asOf: table.verified_as_of ?? table.as_of };
}

// About how long it takes still, and what it may be by the rate at its best and at its worst.
function left(speed) {
  const most = isNumber(speed.eta_most_s) ? span(speed.eta_most_s) : 'longer';
  const band = isNumber(speed.eta_least_s) ? ` (${span(speed.eta_least_s)} to ${most})` : '';
  return `about ${span(speed.eta_s)} left${band}`;
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
          : [`${percent} %`, moving && ` · ${rate(speed.rows_per_s)}`, isNumber(speed?.eta_s) && ` · ${left(speed)}`]),
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

// After the way back PostgreSQL follows no more: how long ago the feed last read says nothing then.
const follows = (status) => status.phase === 'DynamoOnly' || Boolean(status.late_until);

function fed(table, status) {
  const feed = table.reverse_feed;
  if (!feed) return [h('p', { class: 'figure soft' }, '–')];
  if (!follows(status)) return [h('p', { class: 'figure soft' }, '–'), h('p', { class: 'soft small' }, `${count(feed.applied ?? 0)} came back`)];
  return [
    h('p', { class: `figure ${table.reverse_alarm ? 'bad' : ''}` }, isNumber(feed.lag_s) ? span(feed.lag_s) : '–', h('span', { class: 'unit' }, ' behind')),
    sparkline(`feed/${table.name}`, `Lag of the way back of ${table.name}`, span, 'dy'),
    h('p', { class: table.reverse_alarm ? 'small bad' : 'soft small' }, table.reverse_alarm ?? (isNumber(feed.applied) ? `${count(feed.applied)} came back` : '')),
  ];
}

// Of many tables those that want to be looked at are shown; the others are unfolded by hand.
const ALL_MAX = 12;
const SHOWN_MAX = 8;
function wants(table, found) {
  return table.capture !== 'on' || !(table.target ?? '').endsWith('(ACTIVE)') || Boolean(table.reverse_alarm) || (found?.keys ?? 0) > 0
    || (table.dead_letters_unacknowledged ?? 0) > 0 || table.ranges_done < table.ranges || (table.oldest_s ?? 0) >= 10;
}
function toldApart(tables, state) {
  if (tables.length <= ALL_MAX || state.allTables) return [tables, []];
  const first = tables.filter((table) => wants(table, drift(state.verdict, table.name))).slice(0, SHOWN_MAX);
  const shown = first.length > 0 ? first : tables.slice(0, 3);
  return [shown, tables.filter((table) => !shown.includes(table))];
}

function tablesCard(state, redraw) {
  const { status } = state;
  const [shown, others] = toldApart(status.tables, state);
  const unfold = (all) => () => { state.allTables = all; redraw(); };
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
    const cells = [copied(table, speed), waits(table), delivered(table, speed), ...(feeds ? [fed(table, status)] : []),
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
        h('tbody', {}, shown.map(row))),
    others.length > 0 && h('p', { class: 'soft' }, `${others.length} more tables: ${count(others.reduce((sum, table) => sum + table.pending, 0))} keys wait. `,
      h('button', { type: 'button', class: 'link', onclick: unfold(true) }, 'Show all')),
    state.allTables && status.tables.length > ALL_MAX && h('p', {}, h('button', { type: 'button', class: 'link', onclick: unfold(false) }, 'Show fewer')));
}
