// The parts of the page around the tensors.

const ACTIONS = {
  keep: 'kept', rename: 'renamed', layout: 'rearranged', compute: 'computed', fill: 'filled in', tie: 'tied', drop: 'dropped', 'left out': 'left out',
};
const GLYPHS = { ok: '●', 'per-channel': '◐', 'keep f32': '○' };
const ANSWERS = { equal: 'good', 'within tolerance': 'good', differs: 'bad', 'map does not fit': 'bad' };

const fileName = (path) => (path === null ? 'weights' : path.slice(path.lastIndexOf('/') + 1) || path);
const formatText = (side) => [side.format, side.dialect].filter(Boolean).join(':');

function heading(id, text, note) {
  return [h('h2', { id: `${id}-heading` }, text), note && h('p', { class: 'lead' }, note)];
}

function section(id, ...children) {
  const element = document.getElementById(id);
  element.hidden = false;
  element.append(...children.flat().filter((child) => child instanceof Node));
  return element;
}

function summarySection(data, tensors, showOnly) {
  const { a, b, verdict } = data;
  const sides = h('div', { class: 'sides' }, [['A', a], ['B', b]].filter(([, side]) => side).map(([letter, side]) => h('div', { class: 'side' },
    h('span', { class: 'letter', 'aria-hidden': b ? null : 'true' }, b ? letter : ''),
    h('div', {}, h('p', { class: 'file' }, named(fileName(side.path))),
      h('p', { class: 'dim' }, [formatText(side), side.bytes === null ? null : bytes(side.bytes), count(side.tensors, 'tensor'),
        count(side.elements, 'element')].filter(Boolean).join(' · '))))));
  if (!b) sides.classList.add('alone');
  const said = verdict.text || `${count(tensors.length, 'tensor')}, ${count(a.elements, 'element')}, ${bytes(a.weight_bytes)} of weights`;
  section('summary', h('h1', { id: 'title' }, shown(data.title)), sides,
    h('p', { class: `verdict ${ANSWERS[verdict.answer] || ''}` }, said),
    data.comparison && comparisonFigures(data.comparison, showOnly),
    findingsList(data.findings, tensors, showOnly), totals(data, tensors));
}

function comparisonFigures(comparison, showOnly) {
  const { counts } = comparison;
  const parts = [['equal, bit for bit', counts.equal, 'equal'], ['within tolerance', counts.within_tolerance, 'within tolerance'],
    ['different', counts.differing, 'different'], ['only in A', counts.only_a, 'only in A'], ['only in B', counts.only_b, 'only in B']];
  return h('ul', { class: 'figures' }, parts.filter(([, n]) => n).map(([text, n, key]) => h('li', {},
    h('button', { type: 'button', class: 'figure', onclick: () => showOnly({ verdict: `c:${key}` }) }, h('b', {}, integer(n)), ` ${text}`))));
}

function findingsList(findings, tensors, showOnly) {
  if (!findings.length) return h('p', { class: 'dim' }, 'No NaN, no infinities, no subnormal numbers, no dead channels, no equal tensors.');
  return h('ul', { class: 'findings' }, findings.map((found) => {
    const n = found.tensors.length;
    const few = found.tensors.slice(0, 2).flatMap((at, i) => [i ? ', ' : '', named(tensors[at].name)]);
    return h('li', { class: found.grave ? 'grave' : null },
      h('button', { type: 'button', class: 'link', onclick: () => showOnly({ verdict: `f:${found.kind}` }) }, count(n, 'tensor')),
      ` ${n === 1 ? found.text : plural(found.text)}: `, few, n > 2 && ` and ${integer(n - 2)} more`);
  }));
}

const plural = (text) => text.replace(/^holds/, 'hold').replace(/^has/, 'have').replace(/^is all/, 'are all').replace('as another', 'as others');

function totals(data, tensors) {
  const parameters = data.groups.find((group) => group.kind === 'parameter') || data.groups[0];
  const rows = data.groups.map((group) => [`${group.kind}s`, integer(group.tensors), integer(group.elements), bytes(group.bytes),
    number(group.mean), number(group.std), group.min ? number(group.min.value) : '', group.max ? number(group.max.value) : '',
    percent(group.counts.zeros, group.counts.numbers)]);
  const table = rows.length ? plainTable('All tensors, by what they are',
    ['', 'Tensors', 'Elements', 'Size', 'Mean', 'Std', 'Min', 'Max', 'Zeros'], rows, ['', ...Array(8).fill('num')]) : null;
  const bins = parameters ? linearBins(parameters.linear) : null;
  const octaves = parameters ? octaveBins(parameters.octaves) : null;
  const charts = bins && h('div', { class: 'charts' }, linearChart(`Values of all ${parameters.kind}s`, bins),
    octaves && octaves.bins.length > 1 && octaveChart(`Their magnitudes, by powers of two`, octaves));
  return h('div', { class: 'totals' }, table, typesLine(tensors), charts);
}

function typesLine(tensors) {
  const sizes = new Map();
  for (const t of tensors) if (t.side !== 'b') sizes.set(t.dtype, (sizes.get(t.dtype) || 0) + t.elements);
  const whole = [...sizes.values()].reduce((x, y) => x + y, 0);
  const parts = [...sizes].sort((x, y) => y[1] - x[1]).map(([dtype, n]) => `${dtype} ${percent(n, whole) || integer(n)}`);
  return parts.length ? h('p', { class: 'dim' }, `Element types: ${parts.join(', ')}`) : null;
}

function comparisonSection(data, tensors, open) {
  const { comparison } = data;
  const t = comparison.tolerance;
  const allowed = ['rtol', 'atol', 'ulp'].filter((key) => t[key] !== null).map((key) => `${key} ${number(t[key])}`).join(', ');
  const rows = tensors.filter((tensor) => tensor.verdict && tensor.verdict !== 'equal');
  const note = [allowed ? `Allowed: ${allowed}.` : 'Tensors are paired by name and compared bit for bit.',
    data.map && ' What the map makes of A is compared with B.', ' Δ is b − a in float64.'].filter(Boolean).join('');
  const d = (row) => row.compared || {};
  const table = rows.length ? new RowTable({
    caption: 'Tensors that are not equal', noun: 'difference', rows, open, label: (row) => row.name,
    columns: [
      { label: 'Tensor', class: 'c-name', sort: (row) => ranks(tensors)[row.index], cell: (row, whole) => (whole ? printed(row.name) : shortened(row.name)) },
      { label: 'Verdict', class: 'c-verdict', sort: (row) => row.verdict, cell: verdictCell },
      { label: 'Max |Δ|', class: 'num p1', sort: (row) => d(row).maxAbs === 'nan' ? Infinity : value(d(row).maxAbs), first: 'descending', cell: (row) => number(d(row).maxAbs, 3) },
      { label: 'ULP', class: 'num p2', sort: (row) => value(d(row).maxUlp), first: 'descending', cell: (row) => number(d(row).maxUlp, 3) },
      { label: 'Cosine', class: 'num c-cosine p3', sort: (row) => d(row).lacking, first: 'descending', cell: (row) => cosine(d(row).lacking) },
      { label: 'Elements', class: 'num p2', sort: (row) => d(row).differing, first: 'descending', cell: (row) => part(row) },
      data.detailed && { label: 'First at', class: 'c-first p3', cell: (row) => firstAt(d(row)) },
    ].filter(Boolean),
  }) : null;
  const renamed = comparison.same_bytes.slice(0, 200).map((pair) => [named(pair.a), named(pair.b)]);
  const more = comparison.same_bytes.length - renamed.length;
  section('comparison', heading('comparison', 'Differences', note), table && table.view,
    !table && h('p', {}, 'None.'),
    renamed.length && h('h3', {}, 'Same bytes, other name'), renamed.length && plainTable('Same bytes, other name', ['A', 'B'], renamed),
    more > 0 && h('p', { class: 'dim' }, `${integer(more)} more.`));
  return table ? [table] : [];
}

const value = (x) => (x === 'inf' ? Infinity : x === undefined ? null : Number(x));
const part = (row) => (row.compared && row.compared.differing ? percent(row.compared.differing, row.elements) : '');
const firstAt = (d) => (d.first ? `[${d.first[0].join(', ')}]` : '');

// 1 only for what is 1: rounding must not hide a difference.
function cosine(lacking) {
  if (lacking === null || lacking === undefined) return '';
  if (lacking === 0) return '1';
  return lacking > 1e-6 ? (1 - lacking).toFixed(6).replace('-', MINUS) : `1${MINUS}${number(lacking, 2)}`;
}

function verdictCell(row) {
  const bad = !['equal', 'within tolerance', ''].includes(row.verdict);
  return h('span', { class: bad ? 'bad' : row.verdict === 'equal' ? 'dim' : null }, row.verdict);
}

function mapSection(data, ways) {
  const { map } = data;
  const total = Object.values(map.actions).reduce((x, y) => x + y, 0);
  const bar = total && h('div', { class: 'stack', 'aria-hidden': 'true' }, Object.entries(map.actions).map(([action, n]) => {
    const block = h('span', { class: `a-${action.replace(' ', '-')}` });
    block.style.flexGrow = n;
    return block;
  }));
  const used = map.sources - (map.actions.drop || 0) - (map.actions['left out'] || 0);
  const actions = h('ul', { class: 'figures keyed' }, Object.entries(map.actions)
    .map(([action, n]) => h('li', {}, h('span', { class: `swatch a-${action.replace(' ', '-')}` }), h('b', {}, integer(n)), ` ${ACTIONS[action] || action}`)));
  const made = data.b && map.results !== null
    ? `${integer(map.results)} made, ${map.missing.length ? `${count(map.missing.length, 'tensor')} of B not among them` : 'all of B among them'}` : '';
  const covers = map.fits ? `${integer(used)} of ${count(map.sources, 'tensor')} of A used${made && ` · ${made}`}.` : '';
  const problems = map.problems.length && h('ol', { class: 'problems' }, map.problems.slice(0, 200).map((p) => h('li', {},
    h('p', {}, h('b', {}, p.code), p.line ? ` line ${p.line}` : '', p.tensor !== null && [', ', named(p.tensor)], `: ${shown(p.message)}`),
    p.hint && h('p', { class: 'dim' }, shown(p.hint)))));
  const table = ways.length ? wayTable(ways) : null;
  const text = h('details', {}, h('summary', {}, 'The map'), h('ol', { class: 'text' }, map.text.replace(/\n$/, '').split('\n').map((line) => h('li', {}, h('code', {}, shown(line))))));
  section('map', heading('map', 'Map', [named(map.name), map.fits ? '' : ' does not fit']), covers && h('p', {}, covers), bar, total && actions, problems,
    map.missing.length && h('p', {}, 'Not made: ', map.missing.slice(0, 20).flatMap((name, i) => [i ? ', ' : '', named(name)]),
      map.missing.length > 20 && ` and ${integer(map.missing.length - 20)} more`),
    table && searchOf(table, ways, 'Search the map', 'tensor'), table && table.view, text);
  return table ? [table] : [];
}

function wayTable(ways) {
  const ends = (side) => (row, whole) => {
    const list = row[side];
    if (!list.length) return h('span', { class: 'dim' }, '–');
    if (whole) return list.flatMap((t, i) => [i ? ', ' : '', printed(t.name)]);
    return [shortened(list[0].name), list.length > 1 && h('span', { class: 'dim' }, ` +${list.length - 1}`)];
  };
  const shapes = (side) => (row) => (row[side].length ? shapeText(row[side][0].shape) : '');
  return new RowTable({
    caption: 'What becomes of every tensor of A', noun: 'tensor', rows: ways, label: (row) => row.from.concat(row.to).map((t) => t.name).join(', '),
    columns: [
      { label: 'From A', class: 'c-name', sort: (row) => (row.from[0] || { name: '' }).name, cell: ends('from') },
      { label: 'Shape', class: 'p3 c-shape', cell: shapes('from') },
      { label: 'To', class: 'c-name', sort: (row) => (row.to[0] || { name: '' }).name, cell: ends('to') },
      { label: 'Shape', class: 'p3 c-shape', cell: shapes('to') },
      { label: 'How', class: 'c-how', sort: (row) => row.action, cell: (row) => ACTIONS[row.action] || row.action },
      { label: 'Line', class: 'num p2 c-line', sort: (row) => row.lines[0], cell: (row) => row.lines.join(', ') },
    ],
  });
}

// A search field for a table; says how many rows are left.
function searchOf(table, rows, label, noun) {
  const status = h('span', { class: 'status', role: 'status' });
  const input = h('input', { type: 'search', autocomplete: 'off', spellcheck: 'false' });
  input.addEventListener('input', () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const left = rows.filter((row) => words.every((word) => row.search.includes(word)));
    table.show(left);
    status.textContent = words.length ? `${integer(left.length)} of ${count(rows.length, noun)}` : '';
  });
  return h('div', { class: 'filters' }, h('label', { class: 'field wide' }, h('span', {}, label), input), status);
}

function precisionSection(data, showOnly) {
  const { precision } = data;
  const now = data.groups.reduce((total, group) => total + group.bytes, 0);
  const rows = precision.totals.map((total) => {
    const verdicts = [['ok', total.ok], ['per-channel', total.per_channel], ['keep f32', total.keep]];
    const bar = h('div', { class: 'stack small', 'aria-hidden': 'true' }, verdicts.filter(([, n]) => n).map(([verdict, n]) => {
      const block = h('span', { class: `v-${verdict.replace(' ', '-')}` });
      block.style.flexGrow = n;
      return block;
    }));
    const cell = ([verdict, n]) => (n ? h('button', { type: 'button', class: 'link', onclick: () => showOnly({ verdict: `p:${total.to}:${verdict}` }) },
      h('span', { class: `glyph v-${verdict.replace(' ', '-')}`, 'aria-hidden': 'true' }, GLYPHS[verdict]), ` ${integer(n)}`) : '0');
    return [total.to, bar, ...verdicts.map(cell), total.snr === null ? (total.overflow ? '' : 'exact') : `${total.snr.toFixed(1)} dB`, integer(total.overflow),
      integer(total.underflow), integer(total.subnormal), bytes(total.nbytes)];
  });
  const head = ['Type', '', 'ok', 'per-channel', 'keep f32', 'SNR', 'Overflow', 'To zero', 'Subnormal', 'Size'];
  const table = plainTable('What each type would do', head, rows, ['', 'c-bar', ...Array(8).fill('num')]);
  const { thresholds } = precision;
  const eps = precision.epsilons.map((e) => h('li', {},
    `Batch normalisation's epsilon ${number(e.eps)} ${e.becomes === null ? 'overflows' : `becomes ${number(e.becomes)}`} in ${e.to}${e.subnormal ? ', a subnormal number' : ''}.`));
  section('precision', heading('precision', 'Precision',
    `What casts and quantisation would cost the floats${data.b ? (data.map && data.map.fits ? ' that the map makes of A' : ' of A') : ''}, ${bytes(now)} in all now.`), table,
  h('p', { class: 'note' }, `A tensor is ok where nothing overflows, at most ${percent(thresholds.lost, 1)} of it becomes zero and the signal-to-noise ratio is `
    + `at least ${thresholds.snr} dB (${thresholds.watched_snr} dB for variances and slopes, of which nothing may be lost). per-channel: integers need a scale for `
    + 'each output channel. What is no weight of two dimensions is not for integers.'),
  eps.length && h('ul', { class: 'note' }, eps),
  precision.passed_over.length && h('p', { class: 'note' }, `${count(precision.passed_over.length, 'tensor')} that hold no floats, passed over.`));
}

function provenanceSection(data) {
  const side = (letter, file) => [h('h3', {}, letter), facts([
    ['Path', file.path === null ? '' : named(file.path)], ['Format', formatText(file)], ['Size', file.bytes === null ? '' : `${integer(file.bytes)} bytes`],
    ['SHA-256 of the file', file.sha256 === null ? '' : h('code', { class: 'digest' }, file.sha256)],
    ['Weights digest', h('code', { class: 'digest' }, file.weights_digest)]])];
  const groups = new Map();
  for (const n of data.notices) {
    const key = `${n.of}\n${n.kind}\n${n.message}`;
    if (!groups.has(key)) groups.set(key, { ...n, names: [] });
    if (n.tensor !== null) groups.get(key).names.push(n.tensor);
  }
  const notices = [...groups.values()].map((n) => h('li', {}, h('b', {}, `${n.of}, ${n.kind}: `), shown(n.message),
    n.names.length > 0 && [' (', n.names.slice(0, 3).flatMap((name, i) => [i ? ', ' : '', named(name)]), n.names.length > 3 && ` and ${integer(n.names.length - 3)} more`, ')']));
  section('provenance', heading('provenance', 'Provenance', 'The weights digest is the same in every format: SHA-256 over names, types, shapes and values.'),
    h('div', { class: 'columns' }, h('div', {}, side(data.b ? 'A' : 'File', data.a)), data.b && h('div', {}, side('B', data.b)),
      data.map && h('div', {}, h('h3', {}, 'Map'), facts([['Name', named(data.map.name)],
        ['Parameters', Object.entries(data.map.params).map(([k, v]) => `${k}=${v}`).join(', ')],
        ['SHA-256 of its text', h('code', { class: 'digest' }, data.map.sha256)]])),
      h('div', {}, h('h3', {}, 'Made'), facts([['Date', data.date.replace('T', ' ').replace('Z', ' UTC')],
        ['With', Object.entries(data.environment).map(([k, v]) => `${k} ${v}`).join(', ')]]))),
    notices.length && h('h3', {}, 'Notes from reading'), notices.length && h('ul', { class: 'notices' }, notices));
}

function commandsSection(data) {
  const status = h('p', { class: 'hidden', role: 'status' });
  const copy = (text, button) => async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = 'Copied';
      status.textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(button.previousSibling);
      status.textContent = 'Selected';
    }
    setTimeout(() => {
      button.textContent = 'Copy';
      status.textContent = '';
    }, 1500);
  };
  const items = data.commands.map(({ what, command }) => {
    const button = h('button', { type: 'button', class: 'quiet', 'aria-label': `Copy the command for ${what}` }, 'Copy');
    button.addEventListener('click', copy(command, button));
    return h('li', {}, h('p', { class: 'what' }, what[0].toUpperCase() + what.slice(1)), h('div', { class: 'command' }, h('code', {}, shown(command)), button));
  });
  section('commands', heading('commands', 'Reproduce', 'With the files of the digests above.'), h('ul', { class: 'commands' }, items), status);
}
