// A matrix of up to some hundred cells: a real table, each number a cell that can be focused.

import { at } from "./attention.js";
import { paint } from "./colours.js";
import { element, tokenNode } from "./dom.js";
import { walkedByKeys } from "./grid-keys.js";

/** Decimals that fit into a column. @param {number} width @param {number} cols */
function decimalsFor(width, cols) {
  const room = width / cols;
  // A few columns rather scroll than lose digits.
  if (cols <= 8 || room >= 58) return 4;
  return room >= 42 ? 2 : 0;
}

/** @param {MatrixView} view @returns {Drawing} */
export function matrixTable(view) {
  const { matrix, words } = view;
  /** @param {string} scope */
  const heading = (scope) => (/** @type {Label} */ one) => element("th", { scope }, one.token ? tokenNode(one, 14) : one.text);
  const [rowHeads, colHeads] = [view.rows.map(heading("row")), view.cols.map(heading("col"))];
  /** @type {HTMLElement[][]} */
  const cells = view.rows.map((_, row) =>
    view.cols.map((_, col) => {
      const value = at(matrix, row, col);
      const hidden = value === -Infinity || view.unseen(row * matrix.cols + col);
      const kind = hidden ? "td.unseen" : Number.isNaN(value) ? "td.nan" : "td";
      const td = element(kind, { role: "gridcell", tabindex: row || col ? -1 : 0, "data-row": row, "data-col": col });
      paint(td, view.colours, value);
      return td;
    }),
  );
  const corner = element("td.corner", element("span", `${view.rowAxis} ↓`), " ", element("span", `${view.colAxis} →`));
  const table = element(
    "table.matrix",
    { role: "grid", "aria-label": view.title },
    element("thead", element("tr", corner, colHeads)),
    element("tbody", cells.map((line, row) => element("tr", rowHeads[row], line))),
  );

  let active = cells[0]?.[0];
  /** @param {any} event */
  const cellOf = (event) => event.target.closest("td[data-row]");
  /** @param {any} td */
  const place = (td) => ({ row: Number(td.dataset.row), col: Number(td.dataset.col) });
  /** @param {any} td */
  const activate = (td) => {
    active.tabIndex = -1;
    active = td;
    active.tabIndex = 0;
  };
  table.addEventListener("pointerover", (/** @type {PointerEvent} */ event) => {
    const td = cellOf(event);
    if (event.pointerType !== "touch") view.point(td && place(td));
  });
  table.addEventListener("pointerleave", () => view.point(null));
  for (const type of ["focusin", "click"]) {
    table.addEventListener(type, (/** @type {Event} */ event) => {
      const td = cellOf(event);
      if (!td) return;
      activate(td);
      const { row, col } = place(td);
      view.choose(row, col);
    });
  }
  const press = () => active.click();
  /** @param {Cell} to */
  const go = ({ row, col }) => cells[row][col].focus();
  walkedByKeys(table, () => matrix, () => place(active), go, { Escape: view.close, Enter: press, " ": press });

  let written = -1;
  const redraw = () => {
    const digits = decimalsFor(view.width() - 110, matrix.cols);
    if (digits === written) return;
    written = digits;
    table.classList.toggle("narrow", digits === 0);
    cells.flat().forEach((td, p) => {
      const value = matrix.data[p];
      td.textContent = value === -Infinity ? "−∞" : digits ? words.number.cell(value, digits) : "";
      if (digits === 4) td.removeAttribute("aria-label");
      else td.setAttribute("aria-label", words.number.full(value));
    });
  };

  /** @type {Element[]} */
  let marked = [];
  /** @param {Mark[]} marks */
  const mark = (marks) => {
    for (const one of marked) one.classList.remove("here", "along", "source");
    marked = [];
    for (const { row, col, kind } of marks) {
      const lines = row === null ? cells : [cells[row]];
      const found = lines.flatMap((line) => (col === null ? line : [line[col]]));
      if (row !== null) found.push(rowHeads[row]);
      if (col !== null) found.push(colHeads[col]);
      for (const one of found) one.classList.add(kind);
      marked.push(...found);
    }
  };
  return {
    node: element("div.matrix-scroll", table),
    mark,
    redraw,
    box: (row, col) => cells[row][col].getBoundingClientRect(),
    focus: (row, col) => activate(cells[row][col]),
  };
}
