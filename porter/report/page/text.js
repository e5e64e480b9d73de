// Elements and numbers. Everything that comes from files goes through `h` or `named` and becomes text nodes.

const SVG = 'http://www.w3.org/2000/svg';

// An element. Children that are no nodes become text; attributes that are null, undefined or false are left out; `on…` are listeners.
function h(tag, attributes, ...children) {
  return built(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return built(document.createElementNS(SVG, tag), attributes, children);
}

function built(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? '' : value);
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false || child === '') continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

// Names with characters that show nothing, or that turn the text around them about, have those spelled out.
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Co}\u115f\u1160\u3164\uffa0]/gu;
const shown = (text) => String(text).replace(INVISIBLE, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);

// A name out of a file, as code that does not influence the direction of what stands beside it.
const named = (text) => h('bdi', { class: 'name' }, shown(text));

// A name on paper, where nothing can be scrolled: very long ones are cut, and said to be.
const PAPER = 200;
const printed = (text) => (text.length > PAPER ? [named(text.slice(0, PAPER)), ` … (${integer(text.length)} characters)`] : named(text));

// A name in little room: the middle is what goes.
function shortened(text) {
  const whole = shown(text);
  const last = whole.lastIndexOf('.');
  const cut = [whole.lastIndexOf('.', last - 1), last].find((at) => at > 0 && whole.length - at < 24);
  const tail = cut ? whole.slice(cut) : '';
  return h('bdi', { class: 'name short' },
    h('span', { class: 'head' }, whole.slice(0, whole.length - tail.length)), tail && h('span', { class: 'tail' }, tail));
}

const MINUS = '\u2212';
const THIN = '\u202f';

function integer(n) {
  return String(n).replace(/\B(?=(\d{3})+(?!\d))/g, ',').replace('-', MINUS);
}

const count = (n, noun) => `${integer(n)} ${noun}${n === 1 ? '' : 's'}`;

// A number with `places` significant digits; what is very small or large as 1.2e−7.
function number(x, places = 4) {
  if (x === null || x === undefined) return '';
  // Integers that are too large for a number come as text.
  if (x === 'nan') return 'NaN';
  if (typeof x === 'string') return places < 4 && x.length > 9 ? number(Number(x), places) : x.replace('-', MINUS);
  if (x === 0) return '0';
  const size = Math.abs(x);
  if (Number.isInteger(x) && size < 1e6) return integer(x);
  let text = size >= 1e6 || size < 1e-4 ? x.toExponential(places - 1) : x.toPrecision(places);
  if (text.includes('e')) {
    const [mantissa, exponent] = x.toExponential(places - 1).split('e');
    text = `${mantissa.includes('.') ? mantissa.replace(/\.?0+$/, '') : mantissa}e${Number(exponent)}`;
  } else if (text.includes('.')) {
    text = text.replace(/\.?0+$/, '');
  }
  return text.replace(/-/g, MINUS);
}

function percent(part, whole) {
  if (!whole) return '';
  const p = (100 * part) / whole;
  if (p === 0) return '0%';
  if (p < 0.1) return '<0.1%';
  if (p > 99.9 && part < whole) return '>99.9%';
  return `${p.toFixed(1).replace(/\.0$/, '')}%`;
}

function bytes(n) {
  if (n < 1000) return `${n} B`;
  let value = n;
  for (const unit of ['kB', 'MB', 'GB', 'TB', 'PB']) {
    value /= 1000;
    if (value < 999.5 || unit === 'PB') return `${value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0)} ${unit}`;
  }
  return '';
}

const shapeText = (shape) => (shape.length ? shape.join('×') : 'scalar');

const SHORT = { float: 'f', bfloat: 'bf', int: 'i', uint: 'u', complex: 'c' };
function typeText(dtype) {
  const [, word, rest] = /^([a-z]+)(.*)$/.exec(dtype) || [null, dtype, ''];
  return rest && SHORT[word] ? SHORT[word] + rest : dtype;
}

function power(exponent) {
  return `2${String(exponent).replace(/[-0-9]/g, (c) => (c === '-' ? '⁻' : '⁰¹²³⁴⁵⁶⁷⁸⁹'[c]))}`;
}

// A definition list out of pairs; those without a value are left out.
function facts(pairs, attributes) {
  const rows = pairs.filter(([, value]) => value !== '' && value !== null && value !== undefined && value !== false);
  return h('dl', { class: 'facts', ...attributes }, rows.map(([term, value]) => h('div', {}, h('dt', {}, term), h('dd', {}, value))));
}

// A table that is there as a whole.
function plainTable(caption, head, rows, classes = []) {
  const cell = (tag, value, i, scope) => h(tag, { class: classes[i], scope }, value);
  return h('div', { class: 'scroll-x', tabindex: 0, role: 'region', 'aria-label': caption },
    h('table', { class: 'plain' }, h('caption', { class: 'hidden' }, caption),
      h('thead', {}, h('tr', {}, head.map((text, i) => cell('th', text, i, 'col')))),
      h('tbody', {}, rows.map((row) => h('tr', {}, row.map((value, i) => (i ? cell('td', value, i) : cell('th', value, i, 'row'))))))));
}
