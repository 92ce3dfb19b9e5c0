// Turning a setting that every process follows: which, to what, for how long, and why.

let knownSettings = []; // what the server says there is: name, takes, about, kind

const settingNamed = (name) => knownSettings.find((one) => one.name === name) ?? knownSettings[0];

// What was typed, as the setting takes it; null takes the setting back. What it does not take, the server says.
function settingValue(kind, text) {
  if (text === '') return null;
  if (kind === 'roles') return text;
  if (text === 'default') return null;
  if (kind === 'mode') return text.replace('-', '_');
  if (kind === 'yes') return text === 'true' ? true : null;
  const number = Number(text.replace('%', ''));
  return Number.isFinite(number) ? number : text;
}

function settingFields(dialog, redraw) {
  const chosen = settingNamed(dialog.setting);
  return [
    h('label', { class: 'field', key: 'name' }, h('span', {}, 'Setting'),
      h('select', { name: 'name', onchange: (event) => { dialog.setting = event.target.value; redraw(); } },
        knownSettings.map((one) => h('option', { key: one.name, value: one.name, selected: one === chosen ? true : null }, words(one.name))))),
    h('p', { class: 'soft small', key: 'about' }, `${chosen?.about ?? ''}. It takes ${chosen?.takes ?? 'a value'}.`),
    h('label', { class: 'field', key: 'value' }, h('span', {}, 'To', h('span', { class: 'soft' }, ' — nothing takes it back')),
      h('input', { name: 'value', maxlength: chosen?.kind === 'roles' ? 2000 : 40, autocomplete: 'off', placeholder: 'As each process is configured' })),
  ];
}

ACTIONS.settings = {
  title: () => 'Turn a setting', means: () => 'Every process of the migration follows it within a second, whichever machine it runs on.', verb: 'Turn', reason: true,
  fields: settingFields,
  choices: { name: 'for_s', label: 'For', options: [['', 'Until it is taken back'], ['900', '15 minutes'], ['3600', 'One hour'], ['86400', 'A day']] },
  body: (s, form) => (form.name
    ? { set: { [form.name]: settingValue(settingNamed(form.name)?.kind, form.value) }, ...(form.for_s ? { for_s: Number(form.for_s) } : {}) } : { set: {} }),
};

async function startTurning(state, redraw) {
  try {
    knownSettings = (await ask(state.token, 'GET', 'v1/settings')).known;
  } catch {
    if (knownSettings.length === 0) return; // the page says by itself that the server does not answer
  }
  startAction(state, 'settings', redraw);
}
