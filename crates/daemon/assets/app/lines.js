// What was, for the small lines: a sample every few seconds, some hours of them, kept in this tab.

const KEPT = 'lockstep.samples';
const EVERY_MS = 2000;
const MOST = 3600; // two hours

const samples = { at: [], of: {} };

function loadSamples() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? 'null');
    if (Array.isArray(kept?.at) && typeof kept.of === 'object') Object.assign(samples, kept);
  } catch {
    sessionStorage.removeItem(KEPT);
  }
}
function keepSamples() {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(samples));
  } catch {
    sessionStorage.removeItem(KEPT); // full: the lines begin again after a reload
  }
}

// Takes `values` (name → number or null) if the last sample is old enough.
function sample(now, values) {
  const last = samples.at.at(-1);
  if (last !== undefined && now - last < EVERY_MS) return;
  samples.at.push(now);
  for (const [name, value] of Object.entries(values)) {
    const line = (samples.of[name] ??= new Array(samples.at.length - 1).fill(null));
    line.push(isNumber(value) ? Math.round(value * 100) / 100 : null);
  }
  for (const [name, line] of Object.entries(samples.of)) {
    if (line.length < samples.at.length) line.push(null);
    if (line.every((value) => value === null)) delete samples.of[name];
  }
  if (samples.at.length > MOST) {
    samples.at.splice(0, samples.at.length - MOST);
    for (const line of Object.values(samples.of)) line.splice(0, line.length - MOST);
  }
}

const WIDE = 120;
const HIGH = 28;

// The highest value of each of at most 60 slices, so that a short peak is not lost.
function slices(line) {
  const size = Math.max(1, Math.ceil(line.length / 60));
  const tops = [];
  for (let i = line.length; i > 0; i -= size) {
    const some = line.slice(Math.max(0, i - size), i).filter((value) => value !== null);
    tops.unshift(some.length ? Math.max(...some) : null);
  }
  return tops;
}

// A small line with words for those who do not see it.
function sparkline(name, what, show, tone = '') {
  const line = samples.of[name] ?? [];
  const tops = slices(line);
  const known = tops.filter((value) => value !== null);
  if (known.length < 2) return h('svg', { class: `spark ${tone}`, viewBox: `0 0 ${WIDE} ${HIGH}`, 'aria-hidden': 'true' });
  const top = Math.max(...known, 1e-9);
  const step = WIDE / Math.max(1, tops.length - 1);
  const place = (value, i) => [(i * step).toFixed(1), (HIGH - 3 - (value / top) * (HIGH - 7)).toFixed(1)];
  const points = tops.map((value, i) => place(value ?? 0, i).join(' '));
  const hours = span((samples.at.at(-1) - samples.at[0]) / 1000);
  const label = `${what}: now ${show(line.at(-1))}, at most ${show(top)} in the last ${hours}`;
  return h('svg', { class: `spark ${tone}`, viewBox: `0 0 ${WIDE} ${HIGH}`, role: 'img', 'aria-label': label, preserveAspectRatio: 'none' },
    h('path', { class: 'area', d: `M0 ${HIGH} L${points.join(' L')} L${WIDE} ${HIGH} Z` }),
    h('path', { class: 'stroke', d: `M${points.join(" L")}` }));
}
