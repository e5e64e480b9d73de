// The page, put together.

const data = JSON.parse(document.getElementById('data').textContent);
const tensors = unpackTensors(data.tensors);

const byName = new Map(tensors.filter((t) => t.side !== 'b').map((t) => [t.name, t]));
for (const found of data.findings) for (const i of found.tensors) tensors[i].findings.push(found.kind);
const ways = data.map ? unpackWays(data.map) : [];
for (const way of ways) {
  for (const end of way.to) if (byName.has(end.name)) byName.get(end.name).way = way;
}

const links = [['summary', 'Summary'], ['tensors', 'Tensors'], data.comparison && ['comparison', 'Differences'], data.map && ['map', 'Map'],
  data.precision && ['precision', 'Precision'], ['provenance', 'Provenance'], ['commands', 'Reproduce']].filter(Boolean);
document.getElementById('nav').append(...links.map(([id, text]) => h('li', {}, h('a', { href: `#${id}` }, text))));

const view = tensorsSection(data, tensors);
summarySection(data, tensors, view.showOnly);
const tables = [view.table, ...(data.comparison ? comparisonSection(data, tensors, view.openFrom) : []), ...(data.map ? mapSection(data, ways) : [])];
if (data.precision) precisionSection(data, view.showOnly);
provenanceSection(data);
commandsSection(data);
document.getElementById('foot').append(h('p', {},
  `Made by porter ${data.porter}. Numbers are rounded here; 'porter report --json' gives them whole.${data.detailed ? ''
    : ' With so many tensors the histograms are coarser, and quantiles and magnitudes are in the JSON alone.'}`));

addEventListener('beforeprint', () => {
  for (const table of tables) table.print();
});

// Dark, light, or as the system has it; kept where the browser keeps things for files.
const theme = document.getElementById('theme');
const dark = matchMedia('(prefers-color-scheme: dark)');
function stored(value) {
  try {
    if (value === undefined) return localStorage.getItem('porter-report-theme');
    localStorage.setItem('porter-report-theme', value);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
  return null;
}
function paint(choice) {
  const now = choice || (dark.matches ? 'dark' : 'light');
  document.documentElement.dataset.theme = now;
  theme.textContent = now === 'dark' ? 'Light' : 'Dark';
  theme.setAttribute('aria-label', now === 'dark' ? 'Use light colours' : 'Use dark colours');
}
theme.addEventListener('click', () => {
  const next = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
  stored(next);
  paint(next);
});
dark.addEventListener('change', () => paint(stored()));
paint(stored());
document.documentElement.dataset.ready = String(Math.round(performance.now()));
