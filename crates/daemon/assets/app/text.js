// What is shown of what others wrote, and how numbers, durations and times read.

// Characters that are not drawn themselves but steer what is: controls, directions of writing, joiners, tags. A key may hold them.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
const LONGEST = 600;

// A text that may be shown: what is unseen is named, what is too long is cut.
function clean(value) {
  const text = String(value);
  const kept = text.length > LONGEST ? `${text.slice(0, LONGEST)} …` : text;
  return kept
    .replace(/[\n\t\r]+/g, ' ')
    .replace(UNSEEN, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`)
    .replace(/[\ud800-\udfff]/gu, '\ufffd');
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);

const count = (value) => (isNumber(value) ? whole.format(value) : '–');
const many = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;
const rate = (value) => (isNumber(value) ? `${value < 10 ? tenth.format(value) : whole.format(value)}/s` : '–');

// "0.4 s", "12 s", "3 min", "2 h 5 min", "4 days".
function span(seconds) {
  if (!isNumber(seconds)) return '–';
  const s = Math.max(0, seconds);
  if (s < 0.001) return '0 s';
  if (s < 1) return `${whole.format(s * 1000)} ms`;
  if (s < 10) return `${tenth.format(s)} s`;
  if (s < 100) return `${whole.format(s)} s`;
  if (s < 5400) return `${whole.format(s / 60)} min`;
  if (s < 172800) {
    const minutes = Math.round(s / 60) % 60;
    return `${Math.floor(Math.round(s / 60) / 60)} h${minutes ? ` ${minutes} min` : ''}`;
  }
  return `${whole.format(s / 86400)} days`;
}

const millis = (ms) => (isNumber(ms) ? (ms < 10 ? `${tenth.format(ms)} ms` : span(ms / 1000)) : '–');

// Seconds since a time that the server wrote, by this machine's clock set right by the server's.
function since(iso, now) {
  const at = Date.parse(iso ?? '');
  return Number.isNaN(at) ? null : Math.max(0, (now - at) / 1000);
}
function ago(iso, now) {
  const s = since(iso, now);
  if (s === null) return 'at an unknown time';
  return s < 2 ? 'just now' : `${span(Math.round(s))} ago`;
}
function clock(iso) {
  const at = new Date(iso ?? '');
  if (Number.isNaN(at.getTime())) return '–';
  const day = at.toDateString() === new Date().toDateString() ? {} : { day: 'numeric', month: 'short' };
  return at.toLocaleString(undefined, { ...day, hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
}

// "change_phase" → "Change phase".
function words(name) {
  const text = String(name ?? '').replace(/[_-]+/g, ' ').trim();
  return text.charAt(0).toUpperCase() + text.slice(1);
}
