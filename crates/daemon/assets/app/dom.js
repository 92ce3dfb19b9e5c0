// A small way to say what the page should show and to change only what differs. Every text and attribute goes through clean() and
// is set as text: data never becomes markup. Elements stay where they are, so focus and selection survive an update.

const SVG = 'http://www.w3.org/2000/svg';
const DRAWN = new Set(['svg', 'path', 'rect', 'circle', 'line']);

// An element: its tag, its attributes (`on…` are handlers, `key` tells it from its siblings), what is in it.
function h(tag, attrs, ...inside) {
  const { key, ...rest } = attrs ?? {};
  const kids = inside.flat(Infinity).filter((kid) => kid !== null && kid !== undefined && kid !== false && kid !== true);
  return { tag, key, attrs: rest, kids: kids.map((kid) => (typeof kid === 'object' ? kid : clean(kid))) };
}

// A text in which `commands` stand between backticks.
function coded(text) {
  return String(text ?? '').split(/(`[^`]+`)/).filter(Boolean).map((part) => (/^`.+`$/.test(part) ? h('code', {}, part.slice(1, -1)) : part));
}

function make(kid) {
  const node = DRAWN.has(kid.tag) ? document.createElementNS(SVG, kid.tag) : document.createElement(kid.tag);
  node.lockstepTag = kid.tag;
  node.lockstepKey = kid.key;
  node.lockstepSet = new Set();
  return node;
}

function dress(node, attrs) {
  for (const [name, value] of Object.entries(attrs)) {
    if (name.startsWith('on')) {
      node[name] = value;
    } else if (value === null || value === undefined || value === false) {
      node.removeAttribute(name);
    } else {
      const text = value === true ? '' : name === 'd' ? value : clean(value); // a drawn line is long, and ours
      if (node.getAttribute(name) !== text) node.setAttribute(name, text);
      node.lockstepSet.add(name);
    }
  }
  for (const name of node.lockstepSet) {
    if (!(name in attrs)) {
      node.removeAttribute(name);
      node.lockstepSet.delete(name);
    }
  }
}

const fits = (node, kid) => node?.nodeType === 1 && node.lockstepTag === kid.tag && node.lockstepKey === kid.key;

// Brings what is in `parent` to `kids`.
function patch(parent, kids) {
  const keyed = new Map();
  for (const node of parent.childNodes) if (node.lockstepKey !== undefined) keyed.set(node.lockstepKey, node);
  const wanted = new Set(kids.map((kid) => kid.key));
  let at = parent.firstChild;
  const skip = () => {
    const next = at.nextSibling;
    at.remove();
    at = next;
  };
  for (const kid of kids) {
    while (at && at.lockstepKey !== undefined && !wanted.has(at.lockstepKey)) skip();
    let node;
    if (typeof kid === 'string') {
      node = at?.nodeType === 3 ? at : document.createTextNode('');
      if (node.data !== kid) node.data = kid;
    } else {
      const found = kid.key === undefined ? at : keyed.get(kid.key);
      node = fits(found, kid) ? found : make(kid);
      dress(node, kid.attrs);
      patch(node, kid.kids);
    }
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  while (at) skip();
}

// Says something to screen readers, once.
function say(text) {
  document.getElementById('said').textContent = clean(text);
}
