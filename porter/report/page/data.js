// The embedded data, unpacked: the inverse of porter/report/packing.py.

const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const VERDICTS = {
  '=': 'equal', '~': 'within tolerance', d: 'differs', t: 'type differs', s: 'shape differs', a: 'only in A', b: 'only in B',
};
const PRECISION = { o: 'ok', p: 'per-channel', k: 'keep f32' };
const KINDS = { p: 'parameter', b: 'buffer', c: 'counter' };

function unpackNames(packed) {
  const names = [];
  let last = '';
  for (let i = 0; i < packed.rest.length; i++) {
    last = last.slice(0, packed.shared[i]) + packed.rest[i];
    names.push(last);
  }
  return names;
}

function unpackCounts(text) {
  const counts = [];
  let value = 0;
  let unit = 1;
  for (const char of text) {
    const digit = DIGITS.indexOf(char);
    // Not shifted: counts may be above 2^31.
    value += (digit & 31) * unit;
    if (digit & 32) {
      unit *= 32;
    } else {
      counts.push(value);
      value = 0;
      unit = 1;
    }
  }
  return counts;
}

const column = (packed, i) => packed.values[packed.at[i]];

// A histogram with even bins, as bins; null where there is none.
function linearBins(packed) {
  if (!packed) return null;
  const [step, first, text] = packed;
  return unpackCounts(text).map((count, i) => ({ from: (first + i) * step, to: (first + i + 1) * step, count }));
}

// Two histograms with bins of one width, as bins with a `second` count.
function commonBins(a, b) {
  const left = linearBins(a);
  const right = linearBins(b);
  const step = a[0];
  const first = Math.min(a[1], b[1]);
  const last = Math.max(a[1] + left.length, b[1] + right.length);
  const bins = [];
  for (let k = first; k < last; k++) {
    bins.push({
      from: k * step, to: (k + 1) * step,
      count: (left[k - a[1]] || { count: 0 }).count,
      second: (right[k - b[1]] || { count: 0 }).count,
    });
  }
  return bins;
}

// A histogram by powers of two: magnitudes from 2^exponent up.
function octaveBins(packed) {
  if (!packed) return null;
  const [first, text, zeros, below] = packed;
  const both = unpackCounts(text);
  const n = both.length / 2;
  const bins = [];
  for (let i = 0; i < n; i++) {
    bins.push({ exponent: first + i, negative: both[i], positive: both[n + i], count: both[i] + both[n + i] });
  }
  return { bins, zeros, below };
}

function unpackPrecision(packed, i) {
  const code = packed.verdicts[i];
  if (code === '.') return null;
  if (code === 'n') {
    return { verdict: 'keep f32', lost: '', scheme: '', reason: 'integers are for weights alone' };
  }
  const lost = (packed.lost[i] || []).map((n, k) => n && `${integer(n)} ${['overflow', 'to zero', 'subnormal'][k]}`).filter(Boolean).join(', ');
  const snr = packed.snr[i];
  const reason = packed.words[packed.reasons[i]];
  return {
    verdict: PRECISION[code], lost, scheme: packed.ways[DIGITS.indexOf(packed.schemes[i])] || '',
    reason: reason || (snr === null ? 'exact' : `SNR ${snr.toFixed(1)} dB`),
  };
}

// lacking: 1 − cosine.
function unpackDifference([, differing, maxAbs, maxUlp, lacking, rest]) {
  return { differing, maxAbs, maxUlp, lacking, ...rest };
}

function unpackTensors(packed) {
  const names = unpackNames(packed.names);
  const { counts, comparison } = packed;
  const differences = new Map(comparison ? comparison.found.map((found) => [found[0], unpackDifference(found)]) : []);
  return names.map((name, index) => {
    const shape = column(packed.shape, index);
    const dtype = column(packed.dtype, index);
    const elements = shape.reduce((product, n) => product * n, 1);
    return {
      index, name, shape, dtype, elements,
      search: name.toLowerCase(),
      kind: KINDS[packed.kind[index]],
      role: column(packed.role, index),
      axes: column(packed.axes, index),
      bytes: packed.bytes[index] === undefined ? 4 * elements : packed.bytes[index],
      numbers: elements * (packed.complex[index] ? 2 : 1),
      mean: packed.mean[index], std: packed.std[index],
      min: packed.min[index], max: packed.max[index], smallest: packed.smallest ? packed.smallest[index] : null,
      zeros: counts.zeros[index] || 0,
      negativeZeros: counts.negative_zeros[index] || 0,
      subnormal: counts.subnormal[index] || 0,
      nan: counts.nan[index] || 0,
      infinite: (counts.positive_infinite[index] || 0) + (counts.negative_infinite[index] || 0),
      side: packed.side[index],
      precision: (packed.precision || []).map((one) => unpackPrecision(one, index)),
      verdict: comparison ? VERDICTS[comparison.verdicts[index]] : '',
      compared: differences.get(index) || null,
      findings: [],
      way: null,
    };
  });
}

function unpackWays(map) {
  const { sources, targets, action, lines } = map.ways;
  const ends = [sources, targets].map((side) => {
    const names = unpackNames(side.names);
    const all = names.map((name, i) => ({ name, dtype: column(side.dtype, i), shape: column(side.shape, i) }));
    let at = 0;
    return side.count.map((n) => all.slice(at, (at += n)));
  });
  return ends[0].map((from, i) => ({
    index: i, from, to: ends[1][i], action: column(action, i), lines: column(lines, i),
    search: [...from, ...ends[1][i]].map((t) => t.name.toLowerCase()).join('\n'),
  }));
}

// Each tensor's place among all by name, in the order of people: 2 before 10. Found when it is first asked for.
const collator = new Intl.Collator('en', { numeric: true });
let places = null;
function ranks(tensors) {
  if (places === null) {
    places = new Array(tensors.length);
    tensors.slice().sort((x, y) => collator.compare(x.name, y.name) || x.index - y.index).forEach((t, i) => { places[t.index] = i; });
  }
  return places;
}
