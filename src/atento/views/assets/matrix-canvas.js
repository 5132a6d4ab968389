// A large matrix: one canvas for its cells and one above it for marks, however many cells it has.

import { at } from "./attention.js";
import { cellsPicture, NO_NUMBER } from "./colours.js";
import { element } from "./dom.js";
import { walkedByKeys } from "./grid-keys.js";
import { plainLabel } from "./labels.js";
import { fill, hatching, label, looks, outline, sharp, silentCanvas, spoken, whenPointed } from "./view-parts.js";

/** The smallest side of a cell. @param {number} count */
const smallest = (count) => Math.min(3, 3000 / count);

/** Every so many lines a label: 1, 2, 5, 10, 20, … @param {number} least */
function roundStep(least) {
  let step = 1;
  for (let factor = 0; step < least; factor++) step *= factor % 3 === 1 ? 2.5 : 2;
  return step;
}

/** @param {MatrixView} view @param {() => Theme} theme @returns {Drawing} */
export function matrixCanvas(view, theme) {
  const { matrix, words } = view;
  const { rows, cols } = matrix;
  const [base, over] = [silentCanvas(), silentCanvas({ class: "over" })];
  const live = spoken();
  const node = element(
    "div.matrix-scroll.canvas-matrix",
    {
      role: "application",
      tabindex: 0,
      "aria-roledescription": words.text("page.matrix"),
      "aria-label": `${view.title}. ${words.text("page.canvas.keys")}`,
    },
    base,
    over,
    live,
  );
  const [rowLabels, colLabels] = [view.rows, view.cols].map((all) => all.map(({ text, mark }) => plainLabel(text, 14) + mark));
  let current = { row: 0, col: 0 };
  /** @type {Mark[]} */
  let marks = [];
  let [left, top, w, h] = [0, 0, 0, 0];
  let look = looks();

  /** @param {Context} context @param {number} row */
  const writeRow = (context, row) => label(context, rowLabels[row], left - 6, top + (row + 0.5) * h, "right", left - 8);
  /** @param {Context} context @param {number} col */
  const writeColumn = (context, col) => label(context, colLabels[col], left + (col + 0.5) * w, top - 6, "left", top - 8, true);

  /** @param {Context} context */
  const drawCells = (context) => {
    const colourOf = view.colours.grades(theme());
    const picture = cellsPicture(rows, cols, (p) => {
      const value = matrix.data[p];
      // The hatching shows through.
      return value === -Infinity || view.unseen(p) ? null : (colourOf(value) ?? NO_NUMBER);
    });
    fill(context, hatching(context, look.ink), left, top, cols * w, rows * h);
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, left, top, cols * w, rows * h);
    if (Math.min(w, h) < 7) return;
    // Gaps, where cells are large enough to be told apart.
    context.strokeStyle = look.paper;
    context.beginPath();
    /** @param {number} x @param {number} y @param {number} wide @param {number} high */
    const line = (x, y, wide, high) => {
      context.moveTo(x, y);
      context.lineTo(x + wide, y + high);
    };
    for (let row = 1; row < rows; row++) line(left, top + row * h, cols * w, 0);
    for (let col = 1; col < cols; col++) line(left + col * w, top, 0, rows * h);
    context.stroke();
  };

  const redraw = () => {
    look = looks();
    const { unit } = look;
    const measure = base.getContext("2d");
    measure.font = look.smallFont;
    /** @param {string[]} labels */
    const widest = (labels) => Math.min(120 * unit, 12 + Math.max(0, ...labels.map((text) => measure.measureText(text).width)));
    [left, top] = [widest(rowLabels), widest(colLabels)];
    const fitting = Math.floor(((view.width() - left - 4) / cols) * 2) / 2;
    w = Math.max(smallest(cols), Math.min(22 * unit, fitting));
    h = Math.max(smallest(rows), Math.min(18 * unit, Math.floor((560 * unit) / rows)));
    if (view.rows[0]?.token && view.cols[0]?.token) h = w;
    const [width, height] = [Math.ceil(left + w * cols + 2), Math.ceil(top + h * rows + 2)];
    const context = sharp(base, width, height);
    context.font = look.smallFont;
    context.fillStyle = look.ink;
    for (let row = 0; row < rows; row += roundStep((14 * unit) / h)) writeRow(context, row);
    for (let col = 0; col < cols; col += roundStep((14 * unit) / w)) writeColumn(context, col);
    drawCells(context);
    context.globalAlpha = 0.25;
    outline(context, look.ink, 1, left - 0.5, top - 0.5, w * cols + 1, h * rows + 1);
    drawMarks();
  };

  const drawMarks = () => {
    const { unit, ink, paper, accent, source } = look;
    const context = sharp(over, parseFloat(base.style.width), parseFloat(base.style.height));
    context.font = `bold ${look.smallFont}`;
    /** The label of a marked line, over the labels beneath. @param {number} x @param {number} y @param {number} wide @param {number} high @param {() => void} write */
    const banner = (x, y, wide, high, write) => {
      fill(context, paper, x, y, wide - 1, high);
      context.fillStyle = ink;
      write();
    };
    for (const { row, col, kind } of marks) {
      const [x, wide] = col === null ? [left, cols * w] : [left + col * w, w];
      const [y, high] = row === null ? [top, rows * h] : [top + row * h, h];
      const along = kind === "along";
      outline(context, kind === "source" ? source : accent, along ? 1 : 2, x - 1, y - 1, wide + 1, high + 1);
      if (along) continue;
      if (row !== null) banner(0, y + high / 2 - 8 * unit, left, 16 * unit, () => writeRow(context, row));
      if (col !== null) banner(x + wide / 2 - 8 * unit, 0, 16 * unit, top - 2, () => writeColumn(context, col));
    }
  };

  /** @param {number} x @param {number} y @returns {Cell|null} */
  const cellAt = (x, y) => {
    const [row, col] = [Math.floor((y - top) / h), Math.floor((x - left) / w)];
    return row >= 0 && col >= 0 && row < rows && col < cols ? { row, col } : null;
  };
  /** @param {Cell} cell */
  const select = ({ row, col }) => {
    current = { row, col };
    const value = words.number.full(at(matrix, row, col));
    live.textContent = words.text("page.canvas.cell", { row: rowLabels[row], col: colLabels[col], value });
    view.choose(row, col);
  };
  let pointed = "";
  /** @param {Cell|null} cell */
  const point = (cell) => {
    const key = JSON.stringify(cell);
    if (key !== pointed) view.point(cell);
    pointed = key;
  };
  whenPointed(over, cellAt, point, (cell) => cell && select(cell));
  node.addEventListener("focus", () => {
    if (node.matches(":focus-visible")) select(current);
  });
  /** @param {Cell} next */
  const go = (next) => {
    select(next);
    const [x, y] = [left + next.col * w, top + next.row * h];
    if (x < node.scrollLeft || x + w > node.scrollLeft + node.clientWidth) node.scrollLeft = x - node.clientWidth / 2;
    if (y < node.scrollTop || y + h > node.scrollTop + node.clientHeight) node.scrollTop = y - node.clientHeight / 2;
  };
  const press = () => select(current);
  walkedByKeys(node, () => matrix, () => current, go, { Escape: view.close, Enter: press, " ": press });

  return {
    node,
    redraw,
    mark: (list) => {
      marks = list;
      drawMarks();
    },
    box: (row, col) => {
      const area = over.getBoundingClientRect();
      return new DOMRect(area.left + left + col * w, area.top + top + row * h, w, h);
    },
    focus: (row, col) => {
      current = { row, col };
    },
  };
}
