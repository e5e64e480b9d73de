// The tensors: filters, the table, and what is known of the one that is chosen.

const ANY = '';

function option(value, text) {
  return h('option', { value }, text);
}

// The choices of a select with how many tensors each has, the most first.
function tally(tensors, key) {
  const counts = new Map();
  for (const t of tensors) counts.set(t[key], (counts.get(t[key]) || 0) + 1);
  return [...counts].sort((x, y) => y[1] - x[1] || (x[0] < y[0] ? -1 : 1));
}

function choices(label, tensors, key, text = (x) => x) {
  const select = h('select', {}, option(ANY, 'any'), tally(tensors, key).map(([v, n]) => option(v, `${shown(text(v))} (${integer(n)})`)));
  return { select, field: h('label', { class: 'field' }, h('span', {}, label), select) };
}

// Verdicts by what asks for them: the comparison (c:), a finding (f:), a type (p:).
function verdicts(data, tensors) {
  const tests = new Map();
  const groups = [];
  const group = (label, entries) => {
    const there = entries.map(([key, text, test]) => [key, text, test, tensors.filter(test).length]).filter(([, , , n]) => n);
    if (!there.length) return;
    groups.push(h('optgroup', { label }, there.map(([key, text, test, n]) => {
      tests.set(key, test);
      return option(key, `${text} (${integer(n)})`);
    })));
  };
  if (data.comparison) {
    const kinds = ['differs', 'type differs', 'shape differs', 'within tolerance', 'only in A', 'only in B', 'equal'];
    const different = (t) => ['differs', 'type differs', 'shape differs'].includes(t.verdict);
    group('Comparison', [['c:different', 'different in any way', different], ...kinds.map((v) => [`c:${v}`, v, (t) => t.verdict === v])]);
  }
  group('Findings', data.findings.map((f) => [`f:${f.kind}`, f.text.replace(', and the file does not tie them', ''), (t) => t.findings.includes(f.kind)]));
  const targets = data.precision ? data.precision.targets : [];
  targets.forEach((target, i) => group(`Precision: ${target}`, Object.values(PRECISION)
    .map((v) => [`p:${target}:${v}`, `${target}: ${v}`, (t) => t.precision[i] && t.precision[i].verdict === v])));
  const select = h('select', {}, option(ANY, 'any'), groups);
  return { select, tests, field: h('label', { class: 'field' }, h('span', {}, 'Verdict'), select) };
}

function tensorColumns(data, tensors) {
  const targets = data.precision ? data.precision.targets : [];
  const columns = [
    { label: 'Tensor', class: 'c-name', sort: (t) => ranks(tensors)[t.index], cell: (t, whole) => (whole ? printed(t.name) : shortened(t.name)) },
    { label: 'Shape', class: 'c-shape p1', sort: (t) => t.elements, first: 'descending', cell: (t) => shapeText(t.shape) },
    { label: 'Type', class: 'c-type p2', sort: (t) => t.dtype, cell: (t) => typeText(t.dtype) },
    { label: 'Mean', class: 'num p3', sort: (t) => value(t.mean), cell: (t) => number(t.mean, 3) },
    { label: 'Std', class: 'num p3', sort: (t) => value(t.std), first: 'descending', cell: (t) => number(t.std, 3) },
    { label: 'Min', class: 'num p2', sort: (t) => value(t.min), cell: (t) => number(t.min, 3) },
    { label: 'Max', class: 'num p2', sort: (t) => value(t.max), first: 'descending', cell: (t) => number(t.max, 3) },
  ];
  if (tensors.some((t) => t.zeros)) {
    columns.push({ label: 'Zeros', class: 'num p3 c-zeros', sort: (t) => t.zeros / t.numbers, first: 'descending', cell: (t) => (t.zeros ? percent(t.zeros, t.numbers) : '') });
  }
  if (data.tensors.linear.some(Boolean)) columns.push({ label: 'Values', class: 'c-spark p3', cell: (t) => spark(data.tensors.linear[t.index]) });
  if (targets.length) {
    const apart = targets.length < 4 && targets.every((target) => target.length < 5);
    columns.push({
      label: apart ? h('span', { class: 'types' }, targets.flatMap((target) => [h('span', {}, target), ' '])) : 'Precision',
      class: data.comparison ? 'c-precision p1' : 'c-precision', first: 'descending',
      sort: (t) => (t.precision[0] ? t.precision.reduce((bad, p) => bad * 3 + Object.values(PRECISION).indexOf(p.verdict), 0) : null),
      cell: (t) => (t.precision[0] ? h('span', { class: apart ? 'types' : null }, t.precision.map((p, i) => h('span',
        { class: `glyph v-${p.verdict.replace(' ', '-')}`, title: `${targets[i]}: ${p.verdict}` },
        h('span', { class: 'hidden' }, `${targets[i]} ${p.verdict}, `), h('span', { 'aria-hidden': 'true' }, GLYPHS[p.verdict])))) : ''),
    });
  }
  if (data.comparison) columns.push({ label: 'A and B', class: 'c-verdict', sort: (t) => t.verdict, cell: verdictCell });
  return columns;
}

function tensorsSection(data, tensors) {
  const panel = h('aside', { class: 'panel', 'aria-labelledby': 'panel-heading', id: 'panel', tabindex: -1 });
  const open = (t) => panel.replaceChildren(...tensorPanel(data, t).flat().filter((child) => child instanceof Node));
  const table = new RowTable({ caption: 'Tensors', columns: tensorColumns(data, tensors), rows: tensors, open, noun: 'tensor', label: (t) => t.name });
  const input = h('input', { type: 'search', autocomplete: 'off', spellcheck: 'false', placeholder: 'parts of the name' });
  const dtype = choices('Type', tensors, 'dtype');
  const role = choices('Role', tensors, 'role');
  const verdict = verdicts(data, tensors);
  const status = h('p', { class: 'status', role: 'status' });
  const reset = h('button', { type: 'button', class: 'quiet', hidden: true, onclick: () => { set({}); input.focus(); } }, 'Show all');

  function apply() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const test = verdict.tests.get(verdict.select.value);
    const rows = tensors.filter((t) => words.every((word) => t.search.includes(word)) && (!dtype.select.value || t.dtype === dtype.select.value)
      && (!role.select.value || t.role === role.select.value) && (!test || test(t)));
    const narrowed = Boolean(words.length || dtype.select.value || role.select.value || test);
    status.textContent = narrowed ? `${integer(rows.length)} of ${count(tensors.length, 'tensor')}` : count(tensors.length, 'tensor');
    reset.hidden = !narrowed;
    table.show(rows);
  }

  function set(wanted) {
    input.value = '';
    dtype.select.value = role.select.value = ANY;
    verdict.select.value = wanted.verdict || ANY;
    apply();
  }

  input.addEventListener('input', apply);
  for (const { select } of [dtype, role, verdict]) select.addEventListener('change', apply);
  section('tensors', heading('tensors', 'Tensors', data.map && data.map.fits ? 'As the map makes them of A.' : null),
    h('div', { class: 'filters', role: 'search', 'aria-label': 'Tensors' },
      h('label', { class: 'field wide' }, h('span', {}, 'Search'), input), dtype.field, role.field, verdict.field),
    h('div', { class: 'found' }, status, reset),
    h('div', { class: 'split' }, table.view, panel));
  status.textContent = count(tensors.length, 'tensor');
  if (tensors.length) {
    table.choose(tensors[0]);
    open(tensors[0]);
  }
  return {
    table,
    showOnly(wanted) {
      set(wanted);
      if (table.rows.length) {
        table.choose(table.rows[0]);
        open(table.rows[0]);
      }
      goTo('tensors');
    },
    openFrom(t) {
      if (!table.rows.includes(t)) set({});
      table.choose(t);
      table.reveal(table.current);
      open(t);
      panel.focus({ preventScroll: true });
      panel.scrollIntoView({ block: 'nearest' });
    },
  };
}

function goTo(id) {
  const target = document.getElementById(id);
  target.scrollIntoView();
  target.focus({ preventScroll: true });
}

function tensorPanel(data, t) {
  const packed = data.tensors;
  const side = t.side === 'b' ? 'only in B' : '';
  return [
    h('h3', { id: 'panel-heading' }, named(t.name)),
    h('p', { class: 'dim' }, [t.dtype, shapeText(t.shape) + (t.axes ? ` (${t.axes})` : ''), t.kind, bytes(t.bytes), side].filter(Boolean).join(' · ')),
    differencePart(t, data.detailed), ...chartsOf(packed, t), statisticsPart(packed, t), channelsPart(packed.channels[t.index], t),
    precisionPart(data, t), originPart(t),
  ];
}

function chartsOf(packed, t) {
  const common = t.compared && t.compared.common;
  const bins = common ? commonBins(...common) : linearBins(packed.linear[t.index]);
  if (!bins) return [];
  const octaves = packed.octaves ? octaveBins(packed.octaves[t.index]) : null;
  return [linearChart('Values', bins), octaves && octaves.bins.length > 1 ? octaveChart('Magnitudes', octaves) : null];
}

function statisticsPart(packed, t) {
  const at = packed.extremes ? packed.extremes[t.index] : [null, null];
  const place = (index) => (index && index.length ? ` at [${index.join(', ')}]` : '');
  const q = packed.quantiles ? packed.quantiles[t.index] : 0;
  const several = (n) => (n ? `${integer(n)} (${percent(n, t.numbers)})` : '');
  return facts([
    ['Elements', integer(t.elements)], ['Mean', number(t.mean)], ['Std', number(t.std)],
    ['Min', t.min === null ? '' : number(t.min) + place(at[0])], ['Max', t.max === null ? '' : number(t.max) + place(at[1])],
    ['Smallest, not zero', number(t.smallest)],
    ['1, 50, 99%', q ? [q[0], q[3], q[6]].map((x) => number(x, 3)).join('  ') : ''],
    ['Zeros', several(t.zeros) && several(t.zeros) + (t.negativeZeros ? `, ${integer(t.negativeZeros)} negative` : '')],
    ['Subnormal', several(t.subnormal)], ['NaN', several(t.nan)], ['Infinite', several(t.infinite)],
  ]);
}

function channelsPart(channels, t) {
  if (!channels) return null;
  const [axis, assumed, spread, widest, n, dead] = channels;
  const which = n ? `${integer(n)} of ${integer(t.shape[axis])}: ${dead.join(', ')}${n > dead.length ? ' …' : ''}` : 'none';
  return [h('h4', {}, 'Output channels'), facts([
    ['Axis', `${axis}${assumed ? ', assumed' : ''}`], ['Spread', spread ? `${number(spread, 3)}×, widest ${integer(widest)}` : ''], ['Dead', which]])];
}

function differencePart(t, detailed) {
  const d = t.compared;
  if (!t.verdict) return null;
  const head = h('h4', {}, 'A and B: ', verdictCell(t));
  if (!d) return head;
  const of = (x) => (x === null || x === undefined ? '' : number(x));
  const needs = d.needs ? ['atol', 'rtol', 'ulp'].map((key, i) => d.needs[i] !== null && `${key} ${number(d.needs[i], 2)}`).filter(Boolean).join(' or ') : '';
  const [where, a, b, bitsA, bitsB] = d.first || [];
  return [head, facts([
    ['Type of B', d.dtype], ['Shape of B', d.shape && shapeText(d.shape)],
    ['Different elements', d.differing ? `${integer(d.differing)} (${percent(d.differing, t.elements)})` : ''],
    ['Max |Δ|', of(d.maxAbs)], ['Max ULP', of(d.maxUlp)], ['Cosine', cosine(d.lacking)], ['Would pass with', needs],
    ['First', d.first && `[${where.join(', ')}]: ${a === b ? `${bitsA} → ${bitsB}` : `${a} → ${b}`}`],
    ['B: mean, std', d.b && `${number(d.b[0])}, ${number(d.b[1])}`], ['B: min, max', d.b && `${number(d.b[2])}, ${number(d.b[3])}`],
  ]), d.notes && h('ul', { class: 'note' }, d.notes.map((note) => h('li', {}, shown(note)))),
  !detailed && h('p', { class: 'note' }, 'The histogram is of A.')];
}

function precisionPart(data, t) {
  if (!t.precision[0]) return null;
  const rows = t.precision.map((p, i) => [data.precision.targets[i],
    [h('span', { class: `glyph v-${p.verdict.replace(' ', '-')}`, 'aria-hidden': 'true' }, GLYPHS[p.verdict]), ` ${p.verdict}`],
    [shown(p.reason), p.scheme && ` (${p.scheme})`, p.lost && h('span', { class: 'dim' }, ` · ${p.lost}`)]]);
  return [h('h4', {}, 'Precision'), plainTable('Precision', ['Type', 'Verdict', 'Why'], rows)];
}

function originPart(t) {
  if (!t.way) return null;
  const { way } = t;
  const lines = way.lines.length ? `, line${way.lines.length > 1 ? 's' : ''} ${way.lines.join(', ')} of the map` : '';
  return [h('h4', {}, 'Made by the map'), h('p', {}, `${ACTIONS[way.action] || way.action}${lines}`),
    way.from.length && h('ul', { class: 'sources' }, way.from.map((s) => h('li', {}, named(s.name), h('span', { class: 'dim' }, ` ${typeText(s.dtype)} ${shapeText(s.shape)}`))))];
}
