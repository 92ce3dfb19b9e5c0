// The runbook, beside the page: this daemon serves docs/runbook.md, and a small reader makes headings, lists, tables and code of it.

// As the documentation site makes anchors of headings.
const anchor = (title) => title.toLowerCase().replace(/[^a-z0-9 -]/g, '').trim().replace(/ /g, '-');

// `code`, **bold**, *stress* and links (their words only).
function phrase(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*|\*[^*\s][^*]*\*|\[[^\]]+\]\([^)]*\))/).filter(Boolean).map((part) => {
    if (part.startsWith('`')) return h('code', {}, part.slice(1, -1));
    if (part.startsWith('**')) return h('b', {}, part.slice(2, -2));
    if (part.startsWith('*')) return h('em', {}, part.slice(1, -1));
    const link = /^\[([^\]]+)\]\(#([a-z0-9-]+)\)$/.exec(part);
    if (link) return h('a', { href: `runbook.md#${link[2]}`, onclick: (event) => showRunbook(event, link[2]) }, link[1]);
    return part.startsWith('[') ? /^\[([^\]]+)\]/.exec(part)[1] : part;
  });
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, '').split('|').map((cell) => cell.trim());
}

// The lines of a section as elements.
function read(lines) {
  const out = [];
  for (let i = 0; i < lines.length; ) {
    const line = lines[i];
    const take = (belongs) => {
      const some = [];
      while (i < lines.length && belongs(lines[i])) some.push(lines[i++]);
      return some;
    };
    if (!line.trim()) i += 1;
    else if (/^#+ /.test(line)) {
      out.push(h('h3', {}, line.replace(/^#+ /, '')));
      i += 1;
    } else if (/^\s*```/.test(line)) {
      i += 1;
      out.push(h('pre', {}, ...take((l) => !/^\s*```/.test(l)).map((l) => h('span', {}, l || ' '))));
      i += 1;
    } else if (/^\s*\|/.test(line)) {
      const [head, , ...rows] = take((l) => /^\s*\|/.test(l)).map(cells);
      out.push(h('div', { class: 'scroll' }, h('table', {}, h('thead', {}, h('tr', {}, head.map((cell) => h('th', {}, phrase(cell))))),
        h('tbody', {}, rows.map((row) => h('tr', {}, row.map((cell) => h('td', {}, phrase(cell)))))))));
    } else if (/^(\d+\.|-) /.test(line)) {
      const first = /^\d+/.exec(line)?.[0];
      const items = [];
      for (const l of take((l) => /^(\d+\.|-) |^\s+\S/.test(l) && !/^\s*(\||```)/.test(l))) {
        if (/^(\d+\.|-) /.test(l)) items.push(l.replace(/^(\d+\.|-) /, ''));
        else items[items.length - 1] += ` ${l.trim()}`;
      }
      out.push(h(first ? 'ol' : 'ul', { start: first }, items.map((item) => h('li', {}, phrase(item)))));
    } else {
      const text = take((l) => l.trim() && !/^(#+ |\s*```|\s*\||(\d+\.|-) )/.test(l)).map((l) => l.trim()).join(' ');
      if (text) out.push(h('p', {}, phrase(text)));
      else i += 1;
    }
  }
  return out;
}

// The section with that anchor, to the next heading of the same or a higher level; all of it where there is none.
function section(text, id) {
  const lines = text.split('\n');
  const level = (line) => /^(#+) /.exec(line)?.[1].length ?? 0;
  const begin = lines.findIndex((line) => level(line) && anchor(line.replace(/^#+ /, '')) === id);
  if (begin < 0) return { title: 'Runbook', body: read(lines.slice(1)) };
  const end = lines.findIndex((line, i) => i > begin && level(line) && level(line) <= level(lines[begin]));
  return { title: lines[begin].replace(/^#+ /, ''), body: read(lines.slice(begin + 1, end < 0 ? undefined : end)) };
}
