// What comes first: alerts, and the state of the connection and the stores, in words.

// Only pages of our own documentation, and only by their path.
const RUNBOOK = /^docs\/runbook\.md(?:#([a-z0-9-]+))?$/;

function notice(key, tone, title, text, ...more) {
  return h('div', { class: `notice ${tone}`, key, role: tone === 'bad' ? 'alert' : null },
    h('span', { class: 'notice-mark', 'aria-hidden': 'true' }, tone === 'bad' ? '!' : tone === 'held' ? '!' : 'i'),
    h('div', {}, h('p', {}, h('b', {}, title)), text && h('p', {}, coded(text)), ...more));
}

const NOTHING_LOST = 'Nothing is lost: Lockstep tries again until it answers, and goes on where it was.';
const TITLES = {
  postgresql_down: 'PostgreSQL does not answer', dynamodb_down: 'DynamoDB does not answer', history_lost: 'A store has lost history',
  capture_broken: 'Changes are not captured', pending_age: 'Changes wait too long', dead_letters: 'Rows that DynamoDB cannot hold',
  not_consistent: 'The stores differ', verdict_incomplete: 'Not everything was compared', verdict_old: 'Not compared for too long', reverse_feed: 'The way back is in danger',
  part_failing: 'A part fails again and again', data_consistency: 'The stores differ in more rows than they may', field_accuracy: 'Fields differ',
  orphans: 'Items without a row', pending_bloat: 'PostgreSQL keeps what was delivered', latency_budget: 'A store answers too slowly',
  write_success: 'Too many writes of applications fail', coordinated_operations: 'Operations are not completed',
  shadow_mismatches: 'An answer of DynamoDB differs', reads_stepped_back: 'Reads went back to PostgreSQL by themselves',
  spend_cap: 'The spend cap is reached', spend_forecast: 'The spend cap will be reached',
};
const alertTitle = (alert) => TITLES[alert.name] ?? words(alert.name);

function alertNotice(alert, state) {
  const page = RUNBOOK.exec(alert.runbook ?? '');
  const id = page?.[1] ?? `alert-${String(alert.name).replace(/[^a-z0-9]+/g, '-')}`;
  const calm = /^(postgresql|dynamodb)_down$/.test(alert.name) ? [h('p', {}, NOTHING_LOST)] : [];
  const tone = alert.severity === 'critical' ? 'bad' : 'held';
  return notice(`alert/${alert.name}`, tone, alertTitle(alert), alert.message, ...calm,
    h('p', { class: 'small' }, h('span', { class: 'soft' }, `${alert.severity} · since ${ago(alert.since, state.now)}`), ' ',
      page && h('a', { href: `runbook.md#${id}`, onclick: (event) => showRunbook(event, id) }, 'What to do →')));
}

function notices(state, act) {
  const { status, link } = state;
  const out = [];
  if (link.kind === 'lost') {
    const wait = Math.max(0, Math.ceil((link.retryAt - Date.now()) / 1000));
    out.push(notice('lost', 'bad', 'The connection to Lockstep is lost',
      `What you see is from ${ago(new Date(link.lastAt ?? Date.now()).toISOString(), Date.now())}. ${wait > 0 ? `Trying again in ${wait} s` : 'Trying again'}; this page comes back by itself.`));
  }
  if (!status) return out;
  const { daemon } = status;
  const raised = new Set((daemon.alerts ?? []).map((alert) => alert.name));
  if (daemon.role === 'standby') {
    out.push(notice('standby', 'calm', 'This process stands by',
      'Another one leads and does the work. This one takes over within seconds if that one ends. Steps are taken on the one that leads.'));
  }
  for (const [key, name] of [['postgresql', PG], ['dynamodb', DY]]) {
    const store = daemon.stores?.[key];
    if (store?.up === false && !raised.has(`${key}_down`)) {
      out.push(notice(`store/${key}`, 'bad', `${name} does not answer`,
        `For ${span(since(store.since, state.now) ?? 0)}${store.why ? `: ${store.why}` : ''}. ${NOTHING_LOST}`));
    }
  }
  for (const [i, sign] of (raised.has('history_lost') ? [] : status.lost ?? []).entries()) {
    out.push(notice(`history/${i}`, 'bad', 'A store has lost history', sign,
      h('p', { class: 'small' }, h('a', { href: 'runbook.md#a-store-lost-history', onclick: (event) => showRunbook(event, 'a-store-lost-history') }, 'What to do →'))));
  }
  out.push(...(daemon.alerts ?? []).map((alert) => alertNotice(alert, state)));
  const running = (daemon.operations ?? []).find((one) => one.state === 'running');
  if (running) {
    out.push(notice(`running/${running.id}`, 'calm', `${OPERATIONS[running.kind] ?? words(running.kind)} runs`,
      (running.notes ?? []).at(-1) ?? `Since ${ago(running.began_at, state.now)}.`,
      h('p', { class: 'small' }, h('button', { type: 'button', class: 'link', onclick: () => act('show', running.id) }, 'Follow it'))));
  } else if ((status.open_intents ?? []).length > 0 && daemon.role !== 'standby') {
    const one = status.open_intents[0];
    out.push(notice('open', 'held', `“${words(one.step)}” was begun and has not ended`,
      `Begun ${ago(one.at, state.now)}${one.actor ? ` by ${one.actor}` : ''}. The next step settles it; so does \`lockstep doctor\` with what it names.`));
  }
  if ((daemon.paused ?? []).length > 0) {
    const one = daemon.paused[0];
    out.push(notice('paused', 'held', `Paused: ${daemon.paused.map((entry) => PARTS[entry.part]?.[0] ?? entry.part).join(', ')}`,
      `By ${one.actor ?? 'an operator'}: “${one.reason ?? 'no reason given'}”${one.until ? `, until ${clock(one.until)}` : ', until it is resumed'}.`));
  }
  if (status.late_until && Date.parse(status.late_until) > state.now) {
    out.push(notice('late', 'calm', `Late requests may land until ${clock(status.late_until)}`,
      'Requests of DynamoOnly that their caller gave up. Relay and reverse feed go on until then; applications work as usual.'));
  }
  const age = since(daemon.polled_at, state.now);
  const storesUp = Object.values(daemon.stores ?? {}).every((store) => store.up !== false);
  if (age !== null && age > 15 && link.kind === 'live' && storesUp) {
    out.push(notice('stale', 'held', 'These numbers are old', `The stores were last read ${ago(daemon.polled_at, state.now)}.`));
  }
  return out;
}

// One sentence that says how things are, and one that says what was proven.
function headline(state) {
  const { status } = state;
  const { health, stores, polled_at: polled } = status.daemon;
  const phase = phaseOf(status.phase);
  const told = new Set((status.daemon.alerts ?? []).map((alert) => alert.message)); // alerts stand above already
  const reasons = (health?.reasons ?? []).filter((reason) => !told.has(reason));
  const firing = (status.daemon.alerts ?? []).length;
  const down = Object.entries(stores ?? {}).filter(([, store]) => store.up === false).map(([key]) => (key === 'postgresql' ? PG : DY));
  // Only what was compared is said to be well.
  let [title, tone] = status.verdict_consistent === true ? ['All is well', 'good'] : ['All parts run', 'good'];
  if (polled && status.verdict === 'inconsistent') [title, tone] = ['The stores differ', 'bad'];
  if (!polled) [title, tone] = ['Reading both stores …', 'soft'];
  if (polled && health?.state === 'degraded') [title, tone] = ['It works, with something to look at', 'held'];
  if (polled && health?.state === 'healthy' && firing > 0) [title, tone] = ['It works, with something to look at', 'held'];
  if (health?.state === 'broken') [title, tone] = ['Something is broken', 'bad'];
  if (down.length) [title, tone] = [`${down.join(' and ')} ${down.length > 1 ? 'do' : 'does'} not answer`, 'bad'];
  if (polled && !status.installed && !down.length) [title, tone] = ['Nothing is installed yet', 'soft'];
  const proven = status.verdict_consistent === true ? `Both stores were compared ${span(status.verdict_age_s)} ago and are the same.`
    : status.verdict === 'incomplete' ? `The newest comparison, ${span(status.verdict_age_s)} ago, found nothing, and did not compare everything.`
    : status.verdict_consistent === false ? `The newest comparison, ${span(status.verdict_age_s)} ago, found differences.` : 'Both stores have not been compared yet.';
  return h('section', { class: `headline ${tone}`, 'aria-label': 'How it is', key: 'headline' },
    h('h1', {}, h('span', { class: 'lamp', 'aria-hidden': 'true' }), title),
    h('p', { class: 'lead' }, phase ? phase.means : coded('Install capture and copy the rows with `lockstep migrate --through PostgresOnly`.'), ' ', phase && proven),
    reasons.length > 0 && h('ul', { class: 'reasons' }, reasons.map((reason, i) => h('li', { key: i }, coded(reason)))));
}
