"use strict";
// The long tables of the report: numbers and cells, from the JSON beside this script. A table shows one page of rows;
// what is behind a row is made when it is opened. Data become text by textContent alone, and never markup.

const data = JSON.parse(document.getElementById("data").textContent);
const cells = data.cells.rows.map((row) => Object.fromEntries(data.cells.fields.map((name, i) => [name, row[i]])));
const numbers = data.numbers.map(([kind, name, text, unit, notebook, group, place]) => {
  return { kind, name, text, unit, notebook, group, place };
});
const DASH = "\u2013";
// Characters that make a text look like another one, as files.HIDDEN has them.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ud800-\udfff]/gu;

/** What a search compares: without case, and whichever minus is typed. */
const searched = (text) => text.toLowerCase().replaceAll("\u2212", "-");

/** A text in which nothing is hidden. */
function shown(value) {
  return String(value).replace(HIDDEN, (one) => "\\u" + one.charCodeAt(0).toString(16).padStart(4, "0"));
}

/** An element with attributes and children; children that are no nodes become text. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick" || name === "onchange" || name === "oninput") made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null) made.setAttribute(name, shown(value));
  }
  made.append(...children.map((child) => (child instanceof Node ? child : shown(child))));
  return made;
}

const fixed = (value, digits) => (value === null || value === undefined ? DASH : value.toFixed(digits));
const count = (value) => (value === null || value === undefined ? DASH : Math.round(value).toLocaleString("en"));

/** A scrolling region, which the keyboard can reach, around a table. */
function region(label, table) {
  return element("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": label }, table);
}

/** A table of what is known in rows of texts, the first of them the head. */
function plain(caption, [head, ...rows]) {
  const table = element("table", {}, element("caption", {}, caption));
  table.append(element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))));
  const line = (row) => row.map((text, i) => element(i ? "td" : "th", i ? {} : { scope: "row" }, text));
  table.append(element("tbody", {}, ...rows.map((row) => element("tr", {}, ...line(row)))));
  return region(caption, table);
}

/**
 * A table of many rows: search, filters, sorting, pages, and details on demand.
 *
 * columns: {title, get (row -> what is sorted by), show (row -> text or node), number}; the first heads its row.
 * filters: {title, get (row -> a value or a list of them)}; text: row -> what is searched; detail: row -> nodes.
 * called: row -> what it is called, if anything: a search for all of that finds it alone.
 */
class Listing {
  constructor({ id, noun, rows, columns, filters, text, detail, size, called = () => "" }) {
    Object.assign(this, { id, noun, rows, columns, filters, text, detail, size, called });
    this.page = 0;
    this.order = null; // {column, up}
    this.open = new Set();
    this.only = null; // {rows, why}: nothing but these rows
    this.searched = new Map();
    this.build(document.getElementById(id));
    this.refresh();
  }

  build(root) {
    const search = { id: `${this.id}-search`, type: "search", autocomplete: "off", oninput: () => this.refresh() };
    this.search = element("input", search);
    this.controls = element("div", { class: "controls" }, this.label("Search", this.search));
    this.selects = this.filters.map((filter) => {
      const values = [...new Set(this.rows.flatMap((row) => filter.get(row)))];
      values.sort((a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en")));
      const select = element("select", { id: `${this.id}-${filter.title}`, onchange: () => this.refresh() });
      select.append(element("option", { value: "" }, "all"));
      select.append(...values.map((value, i) => element("option", { value: i + 1 }, value)));
      this.controls.append(this.label(filter.title, select));
      return { filter, select, values };
    });
    this.controls.append(element("button", { type: "button", onclick: () => this.reset() }, "Clear"));
    this.chip = element("p", { class: "chip", hidden: "" });
    this.said = element("p", { class: "said", role: "status" });
    this.head = element("tr");
    this.body = element("tbody");
    const table = element("table", { class: "long" }, element("caption", { class: "hidden" }, `Table of ${this.noun}`));
    table.append(element("thead", {}, this.head), this.body);
    const move = (by) => () => this.turn(by);
    this.before = element("button", { type: "button", onclick: move(-1) }, "Previous page");
    this.after = element("button", { type: "button", onclick: move(1) }, "Next page");
    const pages = element("div", { class: "pages" }, this.before, this.after);
    root.append(this.controls, this.chip, this.said, region(`Table of ${this.noun}`, table), pages);
    this.heads();
  }

  label(text, control) {
    return element("label", { for: control.id }, element("span", {}, text), control);
  }

  heads() {
    this.head.replaceChildren(
      ...this.columns.map((column) => {
        const about = { scope: "col", class: column.number ? "number" : undefined };
        if (!column.get) return element("th", about, column.title);
        const here = this.order && this.order.column === column;
        about["aria-sort"] = here ? (this.order.up ? "ascending" : "descending") : "none";
        const button = { type: "button", onclick: () => this.sort(column) };
        return element("th", about, element("button", button, column.title));
      }),
    );
  }

  /** Sort by a column; once more turns the order round. */
  sort(column) {
    const again = this.order && this.order.column === column;
    this.order = { column, up: again ? !this.order.up : !column.number };
    this.heads();
    this.head.children[this.columns.indexOf(column)].firstChild.focus();
    this.refresh();
  }

  reset() {
    this.search.value = "";
    for (const { select } of this.selects) select.value = "";
    this.only = null;
    this.refresh();
  }

  /** Choose a value of a filter, if there is such a one. */
  choose(title, value) {
    const { select, values } = this.selects.find(({ filter }) => filter.title === title);
    select.value = values.indexOf(value) + 1 || "";
    this.refresh();
  }

  /** Show nothing but these rows, which are those of ``why``. */
  restrict(rows, why) {
    this.reset();
    this.only = { rows, why };
    this.refresh();
  }

  chosen() {
    const asked = searched(this.search.value).trim();
    const named = (row) => searched(this.called(row)) === asked;
    // A figure or table that no notebook makes is none of these rows, whatever words they have.
    const whole = asked && (this.rows.some(named) || /^(figure|table) \d+$/.test(asked));
    const words = whole ? [] : asked.split(/\s+/).filter(Boolean);
    const set = this.selects.filter(({ select }) => select.value);
    const wanted = set.map(({ filter, select, values }) => [filter.get, values[select.value - 1]]);
    const found = (this.only ? this.only.rows : this.rows).filter(
      (row) =>
        wanted.every(([get, value]) => [get(row)].flat().includes(value)) &&
        (words.length ? words.every((word) => this.searchable(row).includes(word)) : !asked || named(row)),
    );
    if (!this.order) return found;
    const { column, up } = this.order;
    const keyed = found.map((row) => [column.get(row), row]);
    const missing = (value) => value === null || value === undefined || value === "";
    keyed.sort(([a], [b]) => {
      if (missing(a) || missing(b)) return missing(a) - missing(b); // last, whichever way
      const difference = typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0;
      return up ? difference : -difference;
    });
    return keyed.map(([, row]) => row);
  }

  searchable(row) {
    if (!this.searched.has(row)) this.searched.set(row, searched(this.text(row)));
    return this.searched.get(row);
  }

  turn(by) {
    this.page += by;
    this.draw();
    const [one, other] = by > 0 ? [this.after, this.before] : [this.before, this.after];
    (one.disabled ? other : one).focus(); // what is switched off would lose the focus
  }

  refresh() {
    this.found = this.chosen();
    this.page = 0;
    this.draw();
  }

  draw() {
    const first = this.page * this.size;
    const here = this.found.slice(first, first + this.size);
    const total = this.rows.length.toLocaleString("en");
    const range = `${(first + 1).toLocaleString("en")} to ${(first + here.length).toLocaleString("en")}`;
    const of = this.found.length === this.rows.length ? "" : ` of ${this.found.length.toLocaleString("en")} found`;
    const none = `None of ${total} ${this.noun} found`;
    this.said.textContent = here.length ? `Rows ${range}${of}, ${total} ${this.noun} in all` : none;
    this.before.disabled = !this.page;
    this.after.disabled = first + this.size >= this.found.length;
    this.chip.hidden = !this.only;
    if (this.only) {
      const clear = element("button", { type: "button", onclick: () => this.reset() }, `Show all ${this.noun}`);
      this.chip.replaceChildren(this.only.why, " ", clear);
    }
    this.body.replaceChildren(...here.flatMap((row, i) => this.lines(row, first + i)));
  }

  lines(row, position) {
    const id = `${this.id}-${position}`;
    const open = this.open.has(row);
    const toggle = () => {
      if (!this.open.delete(row)) this.open.add(row);
      this.draw();
      document.getElementById(id).focus();
    };
    const parts = this.columns.map((column, i) => {
      const value = column.show(row);
      if (i) return element("td", { class: column.number ? "number" : undefined }, value);
      const button = { id, type: "button", class: "open", "aria-expanded": open, onclick: toggle };
      if (open) button["aria-controls"] = `${id}-detail`;
      return element("th", { scope: "row" }, element("button", button, value));
    });
    const line = element("tr", {}, ...parts);
    if (!open) return [line];
    const inside = element("td", { colspan: this.columns.length }, element("div", {}, ...this.detail(row)));
    return [line, element("tr", { id: `${id}-detail`, class: "detail" }, inside)];
  }
}

/** A button that shows the cells behind a number, or what else it is made of. */
function behind(number) {
  if (number.group < 0) return data.reads[number.notebook] || DASH;
  const rows = data.groups[number.group];
  const label = `${rows.length} cells behind ${number.name}`;
  const attributes = { type: "button", "aria-label": label, onclick: () => show(number) };
  return element("button", attributes, `${rows.length} cells`);
}

function show(number) {
  const rows = data.groups[number.group].map((i) => cells[i]);
  const printed = number.kind === "number" ? ` (${number.text})` : "";
  visit(rows, `The ${rows.length} cells behind the ${number.kind} ${number.name}${printed}.`);
}

function visit(rows, why) {
  cellsTable.restrict(rows, why);
  const title = document.getElementById("cells-title");
  title.scrollIntoView();
  title.focus({ preventScroll: true });
}

function links(notebook) {
  const found = Object.entries(data.links[notebook] || {}).map(([text, href]) => element("a", { href }, text));
  return element("p", {}, `From notebook ${notebook}`, ...found.flatMap((link) => [" \u00b7 ", link]));
}

const short = (text) => (text.length > 140 ? `${text.slice(0, 139)}\u2026` : text);

const numbersTable = new Listing({
  id: "numbers-list",
  noun: "numbers, tables and figures",
  rows: numbers,
  size: 20,
  columns: [
    { title: "Name", get: (row) => row.name, show: (row) => row.name },
    { title: "Kind", get: (row) => row.kind, show: (row) => row.kind },
    { title: "In the paper", get: (row) => row.place.padStart(9), show: (row) => row.place || DASH },
    { title: "As printed", get: (row) => row.text, show: (row) => short(row.text) || DASH },
    { title: "Unit", get: (row) => row.unit, show: (row) => row.unit || DASH },
    { title: "Notebook", get: (row) => row.notebook, show: (row) => row.notebook },
    { title: "Made of", get: (row) => (row.group < 0 ? null : data.groups[row.group].length), show: behind },
  ],
  filters: [
    { title: "Notebook", get: (row) => row.notebook },
    { title: "Kind", get: (row) => row.kind },
    { title: "Made of", get: (row) => (row.group < 0 ? data.reads[row.notebook] || "other" : "recorded cells") },
  ],
  called: (row) => row.place,
  text: (row) => `${row.place} ${row.name} ${row.text} ${row.unit} ${row.notebook}`,
  detail: (row) => [
    links(row.notebook),
    ...(row.kind === "table" ? [plain(`Table ${row.name}`, data.tables[row.name])] : []),
    ...(row.kind === "number" ? [element("p", {}, row.text)] : []),
    ...(row.kind === "figure" ? [element("p", {}, element("a", { href: `#figure-${row.name}` }, "The figure"))] : []),
  ],
});

const byId = new Map(cells.map((cell) => [cell.id, cell]));
/** What a cell shares with others: its shape, recipe, facts or studies. */
const of = (cell, name) => data.cells[name][cell[name]];
let language = "";

/** The score of a cell in the chosen language, in percent; its value where none is chosen, null where it has none. */
function score(cell) {
  if (!language) return cell.value;
  const { languages, metrics } = of(cell, "shapes");
  const i = languages.indexOf(language);
  return i < 0 ? null : cell.scores[i * metrics.length];
}

const scored = { title: "Score", number: true, get: score };
scored.show = (cell) => (cell.value === null ? "failed" : fixed(score(cell), 1));
const cellsTable = new Listing({
  id: "cells-list",
  noun: "cells",
  rows: cells,
  size: 50,
  columns: [
    { title: "Cell", get: (cell) => cell.id, show: (cell) => cell.id },
    { title: "Layers", number: true, get: (cell) => cell.layers, show: (cell) => cell.layers },
    { title: "Condition", get: (cell) => cell.condition, show: (cell) => cell.condition },
    { title: "Evaluated on", get: (cell) => cell.set, show: (cell) => cell.set },
    { title: "Seed", number: true, get: (cell) => cell.seed, show: (cell) => cell.seed },
    scored,
    { title: "English", number: true, get: (cell) => cell.english, show: (cell) => fixed(cell.english, 1) },
    { title: "Minutes", number: true, get: (cell) => cell.minutes, show: (cell) => fixed(cell.minutes, 2) },
    { title: "GB", number: true, get: (cell) => cell.memory, show: (cell) => fixed(cell.memory, 1) },
    { title: "Status", get: (cell) => cell.status, show: (cell) => state(cell) },
    { title: "Executed", show: (cell) => executed(cell) },
  ],
  filters: [
    { title: "Phase", get: (cell) => cell.phase },
    { title: "Model", get: (cell) => cell.model },
    { title: "Layers", get: (cell) => cell.layers },
    { title: "Condition", get: (cell) => cell.condition },
    { title: "Evaluated on", get: (cell) => cell.set },
    { title: "Study", get: (cell) => of(cell, "studies") },
    { title: "Status", get: (cell) => cell.status },
  ],
  text: (cell) => {
    const { machine, code, set } = of(cell, "facts");
    const own = [cell.id, cell.condition, cell.set, cell.status, cell.why, machine, code, set];
    return [...own, ...of(cell, "studies"), recipe(cell)].join(" ");
  },
  detail: (cell) => [...about(cell), perLanguage(cell)],
});

function state(cell) {
  return element("span", { class: `state-${cell.status}` }, cell.status);
}

function executed(cell) {
  if (!cell.notebook) return DASH;
  return element("a", { href: cell.notebook, "aria-label": `executed notebook of ${cell.id}` }, "notebook");
}

function recipe(cell) {
  const values = Object.entries(of(cell, "recipes")).map(([name, value]) => `${name} ${value}`);
  return values.join(", ");
}

/** A button that leads to the cell that another one starts from. */
function origin(cell) {
  const parent = byId.get(cell.parent);
  if (!parent) return cell.parent || "the public model";
  const go = () => visit([parent], `The cell that ${cell.id} starts from.`);
  return element("button", { type: "button", onclick: go }, cell.parent);
}

/** What a cell cost. */
function cost(cell) {
  const training = `${count(cell.tokens)} training tokens, ${fixed(cell.flops / 1e12, 2)} TFLOP in training`;
  return `${fixed(cell.minutes, 2)} minutes, ${fixed(cell.memory, 2)} GB, ${training}`;
}

/** What is known of a cell, as a list of terms. */
function about(cell) {
  const { machine, code, set, parameters, own } = of(cell, "facts");
  const within = `agrees within ${fixed(cell.tolerance, 1)} points`;
  const rows = {
    Status: cell.why ? `${cell.status}: ${cell.why}` : cell.status,
    "Evaluated on": set,
    Recipe: recipe(cell) || "none: nothing is trained",
    "Starts from": origin(cell),
    Parameters: `${count(parameters)}, ${count(own)} of them outside the word embeddings`,
    Cost: cost(cell),
    "A rerun elsewhere": cell.tolerance === null ? "no tolerance: only equal values agree" : within,
    Studies: of(cell, "studies").join(", ") || "none of those that are published",
    Machine: machine,
    Code: code,
    "Run it again": element("code", {}, `make cell ID=${cell.id}`),
    "Executed notebook": cell.notebook ? executed(cell) : "not on this machine: the command above makes it",
  };
  const terms = Object.entries(rows).map(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  return [element("dl", {}, ...terms.flat())];
}

/** The scores of a cell by language. */
function perLanguage(cell) {
  const { languages, items, metrics } = of(cell, "shapes");
  const width = metrics.length;
  const scores = (i) => cell.scores.slice(i * width, (i + 1) * width).map((value) => fixed(value, 1));
  const lines = languages.map((code, i) => [code, count(items[i]), ...scores(i)]);
  return lines.length ? plain("Scores by language, in percent", [["Language", "Items", ...metrics], ...lines]) : "";
}

/** The choice of a language, whose scores the column shows. */
function chooseLanguage() {
  const codes = [...new Set(data.cells.shapes.flatMap((shape) => shape.languages))].sort();
  const select = element("select", { id: "cells-list-score" }, element("option", { value: "" }, "mean, zero-shot"));
  select.append(...codes.map((code) => element("option", { value: code }, code)));
  select.addEventListener("change", () => {
    language = select.value;
    scored.title = language ? `Score, ${language}` : "Score";
    cellsTable.heads();
    cellsTable.refresh();
  });
  cellsTable.controls.insertBefore(cellsTable.label("Score of", select), cellsTable.controls.lastChild);
}

chooseLanguage();
if (data.study) cellsTable.choose("Study", data.study);
const byName = new Map(numbers.map((number) => [`${number.notebook}/${number.name}`, number]));
for (const button of document.querySelectorAll("button[data-name]")) {
  button.addEventListener("click", () => show(byName.get(button.dataset.name)));
}
performance.mark("drawn");
