// A matrix of up to some hundred cells: a real table, each number a cell that can be focused.

import { paint } from "./colours.js";
import { element, tokenNode } from "./dom.js";
import { nextCell } from "./grid-keys.js";

/**
 * A row or column: the text of a token, or the number of a feature.
 * @typedef {{ text: string, mark: string, token: boolean }} Label
 *
 * What is drawn, whichever way: `name` of the step, labels, colours, and what to do when a cell is
 * pointed at (`point`, null: at none any more) or chosen (`choose`).
 * @typedef {{ name: string, title: string, matrix: import("./attention.js").Matrix, rows: Label[],
 *   cols: Label[], rowAxis: string, colAxis: string, colours: ReturnType<typeof import("./colours.js").colourScale>,
 *   words: import("./words.js").Words, unseenAt: (row: number, col: number) => boolean, width: () => number,
 *   point: (cell: {row: number, col: number}|null) => void,
 *   choose: (row: number, col: number) => void, close: () => void }} MatrixView
 *
 * What every drawing can do. A mark is a cell, or a whole row (col null) or column (row null).
 * @typedef {{ row: number|null, col: number|null, kind: "here"|"along"|"source" }} Mark
 * @typedef {{ node: HTMLElement, mark: (marks: Mark[]) => void, focus: (row: number, col: number, really: boolean) => void,
 *   redraw: () => void, box: (row: number, col: number) => DOMRect }} Drawing
 */

/** @param {Label} label */
function labelNode(label) {
  return label.token ? tokenNode(label, 14) : document.createTextNode(label.text);
}

/** Decimals that fit into a column. @param {number} width @param {number} cols */
function decimalsFor(width, cols) {
  const room = width / cols;
  if (cols <= 8 || room >= 58) return 4; // a few columns rather scroll than lose digits
  if (room >= 42) return 2;
  return 0;
}

/** @param {MatrixView} view @returns {Drawing} */
export function matrixTable(view) {
  const { matrix, words } = view;
  /** @type {HTMLElement[][]} */
  const cells = [];
  const body = element("tbody");
  const corner = element(
    "td",
    { class: "corner" },
    element("span", {}, `${view.rowAxis} ↓`),
    " ",
    element("span", {}, `${view.colAxis} →`),
  );
  const head = element("tr", {}, corner);
  const rowHeads = [];
  const colHeads = view.cols.map((label) => {
    const th = element("th", { scope: "col" }, labelNode(label));
    head.append(th);
    return th;
  });
  view.rows.forEach((label, row) => {
    const th = element("th", { scope: "row" }, labelNode(label));
    const line = element("tr", {}, th);
    rowHeads.push(th);
    cells.push(
      view.cols.map((_, col) => {
        const value = matrix.data[row * matrix.cols + col];
        const td = element("td", {
          role: "gridcell",
          tabindex: row || col ? -1 : 0,
          "data-row": row,
          "data-col": col,
        });
        if (value === -Infinity || view.unseenAt(row, col)) td.classList.add("unseen");
        if (Number.isNaN(value)) td.classList.add("nan");
        paint(td, view.colours, value);
        line.append(td);
        return td;
      }),
    );
    body.append(line);
  });
  const table = element(
    "table",
    { role: "grid", "aria-label": view.title, class: "matrix" },
    element("thead", {}, head),
    body,
  );
  const node = element("div", { class: "matrix-scroll" }, table);

  let active = cells[0]?.[0];
  /** @param {Event} event */
  const cellOf = (event) =>
    /** @type {HTMLElement|null} */ (/** @type {Element} */ (event.target).closest("td[data-row]"));
  const place = (td) => ({ row: Number(td.dataset.row), col: Number(td.dataset.col) });
  const activate = (td) => {
    active.tabIndex = -1;
    active = td;
    active.tabIndex = 0;
  };
  table.addEventListener("pointerover", (event) => {
    const td = cellOf(event);
    if (event.pointerType !== "touch") view.point(td ? place(td) : null);
  });
  table.addEventListener("pointerleave", () => view.point(null));
  for (const type of ["focusin", "click"]) {
    table.addEventListener(type, (event) => {
      const td = cellOf(event);
      if (!td) return;
      activate(td);
      const { row, col } = place(td);
      view.choose(row, col);
    });
  }
  table.addEventListener("keydown", (event) => {
    const td = cellOf(event);
    if (!td) return;
    if (event.key === "Escape") return view.close();
    if (event.key === "Enter" || event.key === " ") return td.click();
    const next = nextCell(event, place(td), matrix);
    if (!next) return;
    event.preventDefault();
    cells[next.row][next.col].focus();
  });

  let written = -1;
  const redraw = () => {
    const digits = decimalsFor(view.width() - 110, matrix.cols);
    if (digits === written) return;
    written = digits;
    table.classList.toggle("narrow", digits === 0);
    cells.forEach((line, row) =>
      line.forEach((td, col) => {
        const value = matrix.data[row * matrix.cols + col];
        td.textContent = value === -Infinity ? "−∞" : digits ? words.number.cell(value, digits) : "";
        if (digits === 4) td.removeAttribute("aria-label");
        else td.setAttribute("aria-label", words.number.full(value));
      }),
    );
  };

  /** @type {HTMLElement[]} */
  let marked = [];
  /** @param {Mark[]} marks */
  const mark = (marks) => {
    for (const td of marked) td.classList.remove("here", "along", "source");
    marked = [];
    const add = (td, kind) => {
      td.classList.add(kind);
      marked.push(td);
    };
    for (const { row, col, kind } of marks) {
      if (row !== null && col !== null) add(cells[row][col], kind);
      else if (row !== null) cells[row].forEach((td) => add(td, kind));
      else if (col !== null) cells.forEach((line) => add(line[col], kind));
      if (row !== null) add(rowHeads[row], kind);
      if (col !== null) add(colHeads[col], kind);
    }
  };
  return {
    node,
    mark,
    redraw,
    box: (row, col) => cells[row][col].getBoundingClientRect(),
    focus: (row, col, really) => {
      activate(cells[row][col]);
      if (really) cells[row][col].focus();
    },
  };
}
