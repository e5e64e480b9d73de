// A table of many rows, of which those in view are in the document. Every row has one height; the rest is padding.

const ROW = 34;
const PRINTED = 500;
const SPARE = 8;
// Letters of a name from which on other columns make room for it earlier.
const LONG = 28;

// columns: {label: node or text, class, sort: row => comparable, cell: row => node or text, first: 'descending'}; the first one names
// the row.
// open: called with a row that is chosen.
class RowTable {
  constructor({ caption, columns, rows, open, noun, label }) {
    Object.assign(this, { columns, all: rows, rows, open, noun, label });
    this.sorted = null;
    this.down = false;
    this.current = 0;
    this.chosen = null;
    this.head = h('tr', { 'aria-rowindex': 1 }, columns.map((column, i) => this.#header(column, i)));
    this.before = h('tr', { 'aria-hidden': 'true', class: 'pad' }, h('td'));
    this.after = this.before.cloneNode(true);
    this.body = h('tbody', {}, this.before, this.after);
    this.element = h('table', { class: rows.some((row) => label(row).length > LONG) ? 'rows long' : 'rows' },
      h('caption', { class: 'hidden' }, caption),
      h('colgroup', {}, columns.map((c) => h('col', { class: c.class }))),
      h('thead', {}, this.head), this.body);
    this.scroller = h('div', {
      class: 'scroller', tabindex: open ? -1 : 0, role: 'region', 'aria-label': caption,
      onscroll: () => this.#draw(), onkeydown: (event) => this.#key(event),
    }, this.element);
    this.empty = h('p', { class: 'empty', hidden: true }, `No ${noun} matches.`);
    this.printout = h('div', { class: 'print-only' });
    this.view = h('div', { class: 'row-table' }, this.scroller, this.empty, this.printout);
    new ResizeObserver(() => this.#draw()).observe(this.scroller);
    this.show(rows);
  }

  show(rows) {
    this.rows = rows;
    this.#sort();
    this.current = Math.max(0, this.rows.indexOf(this.chosen));
    this.scroller.scrollTop = 0;
    this.element.setAttribute('aria-rowcount', rows.length + 1);
    this.empty.hidden = rows.length > 0;
    this.scroller.hidden = rows.length === 0;
    this.#draw(true);
  }

  choose(row) {
    this.chosen = row;
    this.current = Math.max(0, this.rows.indexOf(row));
    this.#draw(true);
  }

  // Bring a row into view; does not move the focus.
  reveal(index) {
    const head = this.head.offsetHeight;
    const top = index * ROW;
    const room = this.scroller.clientHeight - head;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    else if (top + ROW > this.scroller.scrollTop + room) this.scroller.scrollTop = top + ROW - room;
  }

  print() {
    const rows = this.rows.slice(0, PRINTED);
    const body = rows.map((row) => h('tr', {}, this.columns.map((c, i) => this.#cell(c, i, row, true))));
    const head = h('tr', {}, this.columns.map((c) => h('th', { class: c.class, scope: 'col' }, this.#label(c))));
    const note = rows.length < this.rows.length
      ? `The first ${integer(rows.length)} of ${count(this.rows.length, this.noun)} are printed; the page itself has all of them.` : '';
    this.printout.replaceChildren(h('table', { class: 'rows' }, h('thead', {}, head), h('tbody', {}, body)), note && h('p', {}, note));
  }

  #header(column, i) {
    const text = h('button', { type: 'button', onclick: () => this.#by(i) }, this.#label(column), h('span', { class: 'arrow', 'aria-hidden': 'true' }));
    return h('th', { scope: 'col', class: column.class, 'aria-sort': column.sort ? 'none' : null }, column.sort ? text : this.#label(column));
  }

  // A label stands in the table and on paper.
  #label({ label }) {
    return label instanceof Node ? label.cloneNode(true) : label;
  }

  // The first time in the direction that is asked for most, then the other, then as the file has it.
  #by(i) {
    const first = this.columns[i].first === 'descending';
    if (this.sorted !== i) {
      this.sorted = i;
      this.down = first;
    } else if (this.down === first) {
      this.down = !first;
    } else {
      this.sorted = null;
    }
    [...this.head.cells].forEach((cell, j) => {
      if (this.columns[j].sort) cell.setAttribute('aria-sort', this.sorted !== j ? 'none' : this.down ? 'descending' : 'ascending');
    });
    this.show(this.rows);
  }

  #sort() {
    const rows = this.rows.slice();
    if (this.sorted === null) {
      this.rows = rows.sort((a, b) => a.index - b.index);
      return;
    }
    const key = this.columns[this.sorted].sort;
    const sign = this.down ? -1 : 1;
    // What has no value comes last, either way.
    const none = (x) => x === null || x === undefined || x === '';
    const keyed = rows.map((row) => [key(row), row]);
    keyed.sort(([x, a], [y, b]) => none(x) - none(y) || (x < y ? -sign : x > y ? sign : 0) || a.index - b.index);
    this.rows = keyed.map(([, row]) => row);
  }

  #cell(column, i, row, whole = false) {
    return h(i ? 'td' : 'th', { class: column.class, scope: i ? null : 'row' }, column.cell(row, whole));
  }

  #row(index) {
    const row = this.rows[index];
    const chosen = row === this.chosen;
    const cells = this.columns.map((column, i) => {
      if (i || !this.open) return this.#cell(column, i, row);
      const button = h('button', {
        type: 'button', class: 'row-button', tabindex: index === this.current ? 0 : -1, 'aria-pressed': String(chosen),
        title: shown(this.label(row)), onfocus: () => this.#at(index),
      }, column.cell(row));
      return h('th', { class: column.class, scope: 'row' }, button);
    });
    const attributes = { 'aria-rowindex': index + 2, class: chosen ? 'chosen' : null };
    if (this.open) attributes.onclick = () => this.#choose(index);
    const element = h('tr', attributes, cells);
    element.index = index;
    return element;
  }

  #draw(anew = false) {
    const height = this.scroller.clientHeight || 20 * ROW;
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW) - SPARE);
    const last = Math.min(this.rows.length, Math.ceil((this.scroller.scrollTop + height) / ROW) + SPARE);
    if (!anew && first === this.first && last === this.last) return;
    const inside = this.body.contains(document.activeElement);
    const kept = new Map();
    for (const element of [...this.body.rows]) {
      if (element === this.before || element === this.after) continue;
      if (!anew && element.index >= first && element.index < last) kept.set(element.index, element);
      else element.remove();
    }
    let place = this.before;
    for (let i = first; i < last; i++) {
      const element = kept.get(i) || this.#row(i);
      if (place.nextSibling !== element) place.after(element);
      place = element;
    }
    [this.first, this.last] = [first, last];
    this.before.firstChild.style.height = `${first * ROW}px`;
    this.after.firstChild.style.height = `${(this.rows.length - last) * ROW}px`;
    this.before.hidden = first === 0;
    this.after.hidden = last === this.rows.length;
    // The row with the focus may be out of view now; keys go on from there.
    if (inside && !this.body.contains(document.activeElement)) {
      const button = this.#button(this.current);
      (button || this.scroller).focus({ preventScroll: true });
    }
  }

  #button(index) {
    const element = [...this.body.rows].find((row) => row.index === index);
    return element ? element.querySelector('button') : null;
  }

  #at(index) {
    if (index === this.current) return;
    const old = this.#button(this.current);
    if (old) old.tabIndex = -1;
    this.current = index;
    const button = this.#button(index);
    if (button) button.tabIndex = 0;
  }

  #choose(index) {
    this.#at(index);
    this.chosen = this.rows[index];
    for (const element of this.body.rows) {
      if (element.index === undefined) continue;
      const on = element.index === index;
      element.classList.toggle('chosen', on);
      element.querySelector('button').setAttribute('aria-pressed', String(on));
    }
    this.open(this.chosen);
  }

  #key(event) {
    if (!this.open || event.altKey || event.ctrlKey || event.metaKey || this.head.contains(event.target)) return;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / ROW) - 2);
    const to = {
      ArrowDown: this.current + 1, ArrowUp: this.current - 1, PageDown: this.current + page, PageUp: this.current - page,
      Home: 0, End: this.rows.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const index = Math.min(Math.max(to, 0), this.rows.length - 1);
    this.reveal(index);
    this.#draw();
    const button = this.#button(index);
    if (!button) return;
    button.focus({ preventScroll: true });
    this.#choose(index);
  }
}
