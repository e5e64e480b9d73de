// Histograms: bars that are read by the pointer, by arrow keys, and as a table.

const HEIGHT = 120;

const isEdge = (x) => number(x, 5);
const evenly = (bin) => `${isEdge(bin.from)} to ${isEdge(bin.to)}`;

// bins: [{count, second?}]; range: bin => text of where it lies; ticks: [{at: 0 to 1, text}]; marks: [{at, text}] of vertical lines;
// detail: bin => more text. names: what the first and second counts are of.
function chart({ title, bins, total, totalSecond, range, ticks, marks = [], detail = () => '', names = ['', ''] }) {
  const two = bins.some((bin) => bin.second !== undefined);
  const most = Math.max(...bins.map((bin) => Math.max(bin.count / total, two ? bin.second / totalSecond : 0)));
  const least = 1 / Math.max(total, two ? totalSecond : 0);
  let logarithmic = false;
  let at = null;

  const part = (share) => {
    if (!share) return 0;
    if (!logarithmic) return share / most;
    // A single number is still seen.
    return (Math.log(share / least) + 0.7) / (Math.log(most / least) + 0.7);
  };
  const said = (bin) => {
    const first = `${names[0] ? `${names[0]}: ` : ''}${integer(bin.count)} (${percent(bin.count, total)})`;
    const second = two ? ` · ${names[1]}: ${integer(bin.second)} (${percent(bin.second, totalSecond)})` : '';
    return `${range(bin)}: ${first}${second}${detail(bin)}`;
  };

  const picture = svg('svg', { viewBox: `0 0 ${bins.length} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true', focusable: 'false' });
  const readout = h('p', { class: 'readout', 'aria-hidden': 'true' });
  const peak = bins.reduce((best, bin) => (bin.count > best.count ? bin : best), bins[0]);
  const plot = h('div', {
    class: 'plot', tabindex: 0, role: 'slider', 'aria-label': `${title}, bins`, 'aria-valuemin': 1, 'aria-valuemax': bins.length,
    'aria-valuenow': bins.indexOf(peak) + 1, 'aria-valuetext': said(peak), 'aria-orientation': 'horizontal',
    onpointermove: (event) => {
      const box = picture.getBoundingClientRect();
      look(Math.min(bins.length - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * bins.length))));
    },
    onpointerleave: () => look(document.activeElement === plot ? at : null),
    onfocus: () => look(at === null ? bins.indexOf(peak) : at),
    onblur: () => look(null),
    onkeydown: (event) => {
      const from = at === null ? bins.indexOf(peak) : at;
      const to = { ArrowRight: from + 1, ArrowUp: from + 1, ArrowLeft: from - 1, ArrowDown: from - 1, Home: 0, End: bins.length - 1 }[event.key];
      if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      look(Math.min(Math.max(to, 0), bins.length - 1));
    },
  }, picture, marks.filter((m) => m.at > 0 && m.at < 1).map((m) => placed(h('span', { class: 'mark' }), m.at)));

  function look(index) {
    at = index;
    [...picture.children].forEach((group, i) => group.classList.toggle('at', i === index));
    if (index === null) {
      readout.textContent = `Most: ${said(peak)}`;
      return;
    }
    readout.textContent = said(bins[index]);
    plot.setAttribute('aria-valuenow', index + 1);
    plot.setAttribute('aria-valuetext', said(bins[index]));
  }

  function draw() {
    const bar = (share, x, width, name) => {
      const height = part(share) * (HEIGHT - 2);
      return height > 0 ? svg('rect', { class: name, x, width, y: HEIGHT - Math.max(height, 1), height: Math.max(height, 1) }) : null;
    };
    picture.replaceChildren(...bins.map((bin, i) => svg('g', {},
      svg('rect', { class: 'back', x: i, width: 1, y: 0, height: HEIGHT }),
      two ? [bar(bin.count / total, i + 0.06, 0.44, 'bar'), bar(bin.second / totalSecond, i + 0.5, 0.44, 'bar second')]
        : bar(bin.count / total, i + 0.04, 0.92, 'bar'))));
    look(at);
  }
  draw();

  const toggle = h('button', {
    type: 'button', class: 'quiet', 'aria-pressed': 'false',
    onclick: () => {
      logarithmic = !logarithmic;
      toggle.setAttribute('aria-pressed', String(logarithmic));
      draw();
    },
  }, 'Log counts');
  return h('figure', { class: 'chart' },
    h('figcaption', {}, h('span', {}, title),
      two && h('span', { class: 'legend' }, h('span', { class: 'key' }, names[0]), h('span', { class: 'key second' }, names[1])), toggle),
    plot, h('div', { class: 'axis', 'aria-hidden': 'true' }, ticks.map((tick) => placed(h('span', { class: edge(tick.at) }, tick.text), tick.at))),
    readout, asTable(title, bins, range, two, names));
}

const edge = (at) => (at < 0.05 ? 'from' : at > 0.95 ? 'to' : null);

function placed(element, at) {
  element.style.left = `${100 * at}%`;
  return element;
}

// The same numbers as a table, made when it is opened.
function asTable(title, bins, range, two, names) {
  const details = h('details', { class: 'as-table' }, h('summary', {}, 'As a table'));
  details.addEventListener('toggle', () => {
    if (!details.open || details.children.length > 1) return;
    const head = two ? ['Range', names[0], names[1]] : ['Range', 'Numbers'];
    const rows = bins.filter((bin) => bin.count || bin.second)
      .map((bin) => [range(bin), integer(bin.count), ...(two ? [integer(bin.second)] : [])]);
    details.append(plainTable(title, head, rows, ['', 'num', 'num']));
  });
  return details;
}

const sum = (bins, key) => bins.reduce((total, bin) => total + bin[key], 0);

function linearTicks(bins) {
  const from = bins[0].from;
  const to = bins[bins.length - 1].to;
  const zero = -from / (to - from);
  const ticks = [{ at: 0, text: number(from, 3) }, { at: 1, text: number(to, 3) }];
  if (zero > 0.12 && zero < 0.88) ticks.push({ at: zero, text: '0' });
  return ticks;
}

function linearChart(title, bins) {
  const ticks = linearTicks(bins);
  return chart({
    title, bins, total: sum(bins, 'count'), totalSecond: bins[0].second === undefined ? 0 : sum(bins, 'second'),
    range: evenly, ticks, names: bins[0].second === undefined ? ['', ''] : ['A', 'B'],
  });
}

// Magnitudes by powers of two, with the limits of half precision.
function octaveChart(title, { bins, zeros, below }) {
  const first = bins[0].exponent;
  const place = (exponent) => (exponent - first) / bins.length;
  const step = Math.ceil(bins.length / 5);
  const ticks = bins.filter((_, i) => i % step === 0).map((bin) => ({ at: place(bin.exponent), text: power(bin.exponent) }));
  const marks = [-25, -14, 16].map((exponent) => ({ at: place(exponent) }));
  const figure = chart({
    title, bins, total: sum(bins, 'count'), range: (bin) => `${power(bin.exponent)} to ${power(bin.exponent + 1)}`, ticks, marks,
    detail: (bin) => (bin.negative && bin.positive ? ` · ${integer(bin.negative)} negative` : ''),
  });
  const seen = [[-25, `becomes zero below ${power(-25)}`], [-14, `is subnormal below ${power(-14)}`], [16, `overflows at ${power(16)}`]]
    .filter(([exponent]) => place(exponent) > 0 && place(exponent) < 1).map(([, text]) => text);
  const notes = [seen.length && `Lines: half precision ${seen.join(', ')}.`, zeros && `${count(zeros, 'zero')} not shown.`,
    below && `${count(below, 'number')} nearer to zero not shown.`].filter(Boolean);
  if (notes.length) figure.append(h('p', { class: 'note' }, notes.join(' ')));
  return figure;
}

// A histogram of one line, without words: the table's picture of a tensor.
function spark(packed) {
  const bins = linearBins(packed);
  if (!bins) return '';
  const most = Math.max(...bins.map((bin) => bin.count));
  let path = `M0 20`;
  bins.forEach((bin, i) => {
    const y = (20 - (bin.count ? Math.max((18 * bin.count) / most, 0.8) : 0)).toFixed(1);
    path += `L${i} ${y}L${i + 1} ${y}`;
  });
  path += `L${bins.length} 20Z`;
  return svg('svg', { class: 'spark', viewBox: `0 0 ${bins.length} 20`, preserveAspectRatio: 'none', 'aria-hidden': 'true', focusable: 'false' },
    svg('path', { d: path }));
}
