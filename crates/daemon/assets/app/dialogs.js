// Acting: what a step would do and what it waits for comes first, then a reason, then the step, then how it goes.

const WHO = 'lockstep.actor';
const STEP_MEANS = {
  'PostgresOnly>DualWrite': 'Applications begin to write both stores. Nothing changes for readers; the way back is open at once.',
  'DualWrite>HybridRead': 'DynamoDB begins to answer reads. PostgreSQL still holds the truth; the way back is open at once.',
  'HybridRead>DynamoOnly': 'Writes stop for a moment, at most a few seconds; then DynamoDB holds the truth and PostgreSQL follows. The way back stays open.',
  'DynamoOnly>HybridRead': 'Writes stop for a moment, at most a few seconds; then PostgreSQL holds the truth again, with everything that was written. It then takes some minutes more, in which applications work.',
  'HybridRead>DualWrite': 'PostgreSQL answers every read again, at once. Nothing is lost.',
  'DualWrite>PostgresOnly': 'Applications use PostgreSQL alone again, at once. Nothing is lost, and going forward needs no new copy.',
};
// A comparison that a step back ends.
const brokenOff = (s) => ((s.daemon.operations ?? []).some((one) => one.state === 'running') ? 'What is at work, a comparison or a step forward, is broken off for it.' : '');
// A pause by its part, and whose it is: what another person paused for a reason is lifted knowingly, or not at all.
const pausedBy = (one) => `${one.part}, paused by ${one.actor}${one.reason ? ` (${one.reason})` : ''}`;
const ACTIONS = {
  advance: { title: (s) => `Advance to ${s.daemon.next?.forward}`, means: (s) => STEP_MEANS[`${s.phase}>${s.daemon.next?.forward}`], verb: 'Advance', reason: true,
    body: (s) => ({ to: s.daemon.next?.forward }), gated: true },
  rollback: { title: (s) => `Roll back to ${s.daemon.next?.back}`, means: (s) => [STEP_MEANS[`${s.phase}>${s.daemon.next?.back}`] ?? '', brokenOff(s)].join(' ').trim(), verb: 'Roll back', reason: true,
    body: (s) => ({ to: s.daemon.next?.back }), gated: true, tone: 'warn' },
  validate: { title: () => 'Validate: compare both stores', means: () => 'Reads rows of both stores and compares them field by field. Nothing is changed; applications go on.', verb: 'Validate',
    choices: { name: 'mode', label: 'How much', options: [['full', 'Everything: what the gates ask for'], ['incremental', 'What changed since the last full comparison'], ['sample', 'A random sample']] },
    body: (s, form) => (form.mode === 'sample' ? { mode: 'sample', sample: 1000 } : { mode: form.mode ?? 'full' }) },
  pause: { title: () => 'Pause', means: () => 'Changes are still captured, so nothing is lost; they wait, and the two stores drift apart until it is resumed.', verb: 'Pause', reason: true,
    choices: { name: 'for_s', label: 'For', options: [['900', '15 minutes'], ['3600', 'One hour'], ['', 'Until it is resumed']] },
    body: (s, form) => ({ parts: ['relay', 'reverse-feed'], ...(form.for_s ? { for_s: Number(form.for_s) } : {}) }), tone: 'warn' },
  resume: { title: () => 'Resume', means: (s) => `What was paused goes on where it stopped: ${(s.daemon.paused ?? []).map(pausedBy).join('; ')}.`, verb: 'Resume', reason: true,
    body: (s) => ({ parts: (s.daemon.paused ?? []).map((one) => one.part) }) },
};

function openDialog(state, dialog, redraw) {
  state.dialog = dialog;
  redraw(); // before it is shown: what has the focus first must be there
  const element = document.getElementById('dialog');
  if (!element.open) element.showModal();
}

// Asks for the dry run and puts its answer into the dialog, if that is still the one that is open.
async function rehearse(state, dialog, redraw) {
  dialog.plan = null;
  redraw();
  try {
    dialog.plan = await ask(state.token, 'POST', `v1/${dialog.kind}`, { ...dialog.body({}), dry_run: true });
  } catch (error) {
    dialog.plan = { error: failing(error) };
  }
  if (state.dialog === dialog) redraw();
}

function failing(error) {
  if (error.code === 'forbidden') return 'This token may look but not act. Sign in with the operate token.';
  if (error.code === 'busy' || (error.status === 409 && error.operation)) return `Another operation is at work. ${error.message}`;
  return error.message;
}

function startAction(state, kind, redraw) {
  const action = ACTIONS[kind];
  const at = state.status;
  const dialog = { kind, action, title: action.title(at), means: action.means(at) ?? '', body: (form) => action.body(at, form), once: onceKey() };
  openDialog(state, dialog, redraw);
  rehearse(state, dialog, redraw);
}

async function send(state, dialog, form, redraw) {
  const { reason, actor, ...chosen } = form;
  localStorage.setItem(WHO, actor);
  Object.assign(dialog, { sending: true, error: null });
  redraw();
  const body = { ...dialog.body(chosen), ...(actor ? { actor } : {}), ...(reason ? { reason } : {}) };
  try {
    const answer = await ask(state.token, 'POST', `v1/${dialog.kind}`, body, { 'Idempotency-Key': dialog.once });
    if (answer.id) Object.assign(dialog, { operation: answer.id, known: answer });
    else Object.assign(dialog, { done: true });
  } catch (error) {
    dialog.error = failing(error);
    if (error.status !== 0) dialog.once = onceKey(); // refused: the next try is another request. Unanswered: it is the same
  }
  dialog.sending = false;
  redraw();
}

function formView(state, dialog, redraw) {
  const { action, plan } = dialog;
  const submit = (event) => {
    event.preventDefault();
    send(state, dialog, Object.fromEntries([...new FormData(event.target)].map(([name, value]) => [name, String(value).trim()])), redraw);
  };
  const refused = plan?.error || plan?.passed === false;
  // A step back is not kept waiting for its rehearsal, and may be tried although that had no answer.
  const back = dialog.kind === 'rollback';
  const waiting = (plan?.gates ?? []).filter((gate) => !gate.passed).length;
  return [
    h('p', {}, dialog.means),
    action.gated && h('div', { class: 'rehearsal', 'aria-live': 'polite' },
      !plan ? h('p', { class: 'soft' }, 'Rehearsing: asking every gate …')
        : plan.error ? h('p', { class: 'bad' }, coded(plan.error))
          : [h('p', {}, plan.passed ? h('b', { class: 'good' }, '✓ Every gate passes.') : h('b', {}, `It waits for ${many(waiting, 'thing')}:`)), gateList(plan.gates ?? [], true)]),
    !action.gated && plan?.error && h('p', { class: 'bad' }, coded(plan.error)),
    !action.gated && typeof plan?.would === 'string' && h('p', { class: 'soft' }, coded(plan.would)),
    h('form', { onsubmit: submit, key: 'form' },
      action.fields && action.fields(dialog, redraw),
      action.choices && h('fieldset', {}, h('legend', {}, action.choices.label),
        action.choices.options.map(([value, label], i) => h('label', { class: 'choice', key: value || 'none' },
          h('input', { type: 'radio', name: action.choices.name, value, checked: i === 0 ? true : undefined }), label))),
      h('label', { class: 'field' }, h('span', {}, 'Reason', h('span', { class: 'soft' }, ' — kept in the journal')),
        h('input', { name: 'reason', maxlength: 500, required: action.reason ? true : null, autocomplete: 'off', placeholder: action.reason ? 'Why now?' : 'Optional' })),
      h('label', { class: 'field' }, h('span', {}, 'Your name'),
        h('input', { name: 'actor', maxlength: 100, autocomplete: 'name', value: localStorage.getItem(WHO) ?? '', placeholder: 'Optional' })),
      dialog.error && h('p', { class: 'bad', role: 'alert' }, coded(dialog.error)),
      h('div', { class: 'buttons' },
        h('button', { type: 'button', onclick: closeDialog }, 'Not now'),
        action.gated && refused && h('button', { type: 'button', onclick: () => rehearse(state, dialog, redraw) }, 'Check again'),
        h('button', { type: 'submit', class: action.tone === 'warn' ? 'warn' : 'primary', disabled: (refused && !(back && plan.error)) || (!plan && !back) || dialog.sending ? true : null },
          dialog.sending ? 'Sending …' : action.verb))),
  ];
}

function operationView(state, dialog) {
  const one = (state.status?.daemon.operations ?? []).find((entry) => entry.id === dialog.operation) ?? dialog.known;
  if (!one) return [h('p', { class: 'soft' }, 'This operation is not listed any more; the journal keeps what it did.'), closing('Close')];
  const running = one.state === 'running';
  const [word, tone] = ENDS[one.state] ?? [one.state, 'soft'];
  const took = since(one.began_at, one.ended_at ? Date.parse(one.ended_at) : state.now);
  return [
    h('p', { class: 'operation-state', role: 'status' }, running && h('span', { class: 'turning', 'aria-hidden': 'true' }),
      h('b', { class: tone }, running ? 'At work' : words(word)), h('span', { class: 'soft' }, ` ${running ? 'for' : 'after'} ${span(took ?? 0)}`)),
    one.error && h('p', { class: 'bad' }, coded(one.error)),
    one.result?.verdict && h('p', {}, `Verdict: ${one.result.verdict}`),
    (one.notes ?? []).length > 0 && h('ol', { class: 'notes' }, one.notes.slice(-12).map((note, i) => h('li', { key: i }, coded(note)))),
    (one.gates ?? []).length > 0 && gateList(one.gates),
    running && h('p', { class: 'soft small' }, 'It goes on without this page.'),
    closing('Close'),
  ];
}

const closing = (label) => h('div', { class: 'buttons' }, h('button', { type: 'button', class: 'primary', onclick: closeDialog }, label));

function closeDialog() {
  document.getElementById('dialog').close();
}

function dialogView(state, redraw) {
  const { dialog } = state;
  if (!dialog) return [];
  const inside = dialog.runbook ? [h('div', { class: 'reading' }, dialog.runbook), closing('Close')]
    : dialog.operation ? operationView(state, dialog)
      : dialog.done ? [h('p', { class: 'good', role: 'status' }, 'Done.'), closing('Close')]
        : formView(state, dialog, redraw);
  return [h('div', { class: 'dialog-head', key: 'head' }, h('h2', { id: 'dialog-title', tabindex: -1, autofocus: true }, dialog.title),
    h('button', { type: 'button', class: 'quiet', 'aria-label': 'Close', onclick: closeDialog }, '✕')),
  h('div', { class: 'dialog-body', key: `${dialog.kind}/${dialog.operation ?? ''}/${dialog.done ?? ''}` }, inside)];
}
