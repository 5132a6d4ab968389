// A large matrix: one canvas for its cells and one above it for marks, however many cells it has.

import { at } from "./attention.js";
import { element } from "./dom.js";
import { nextCell } from "./grid-keys.js";
import { plainLabel } from "./labels.js";

const LARGEST_SIDE = 4096; // browsers refuse canvases of more than some 16 million pixels

/** The smallest side of a cell. @param {number} count */
const smallest = (count) => Math.min(3, 3000 / count);

const NOT_A_NUMBER = [163, 42, 163];

/** Stripes for places that may not be seen, as in tables. @param {string} ink */
function hatching(ink) {
  const tile = element("canvas", { width: 6, height: 6 });
  const context = tile.getContext("2d");
  context.strokeStyle = ink;
  context.globalAlpha = 0.16;
  context.beginPath();
  for (const shift of [-6, 0, 6]) line(context, shift, 6, 6, -6);
  context.stroke();
  return tile;
}

const line = (context, x, y, wide, high) => {
  context.moveTo(x, y);
  context.lineTo(x + wide, y + high);
};

/** Every so many lines a label: 1, 2, 5, 10, 20, … @param {number} least */
function roundStep(least) {
  let step = 1;
  for (let factor = 0; step < least; factor++) step *= factor % 3 === 1 ? 2.5 : 2;
  return step;
}

/** @param {import("./matrix-table.js").MatrixView} view @param {() => "light"|"dark"} theme @returns {import("./matrix-table.js").Drawing} */
export function matrixCanvas(view, theme) {
  const { matrix, words } = view;
  const base = /** @type {HTMLCanvasElement} */ (element("canvas", { "aria-hidden": "true" }));
  const over = /** @type {HTMLCanvasElement} */ (
    element("canvas", { "aria-hidden": "true", class: "over" })
  );
  const live = element("p", { class: "visually-hidden", "aria-live": "polite" });
  const node = element(
    "div",
    {
      class: "matrix-scroll canvas-matrix",
      role: "application",
      tabindex: 0,
      "aria-roledescription": words.text("page.matrix"),
      "aria-label": `${view.title}. ${words.text("page.canvas.keys")}`,
    },
    base,
    over,
    live,
  );
  const rowLabels = view.rows.map((label) => plainLabel(label.text, 14) + label.mark);
  const colLabels = view.cols.map((label) => plainLabel(label.text, 14) + label.mark);
  let current = { row: 0, col: 0 };
  /** @type {import("./matrix-table.js").Mark[]} */
  let marks = [];
  let shape = { left: 0, top: 0, w: 0, h: 0 };
  let unit = 1; // how large the page writes, against 16 pixels: large screens get large labels
  let font = "";
  let ink = "#000";
  let paper = "#fff";
  let accent = "";
  let source = "";

  /** @param {HTMLCanvasElement} canvas @param {number} width @param {number} height */
  const prepare = (canvas, width, height) => {
    const ratio = Math.min(window.devicePixelRatio || 1, LARGEST_SIDE / Math.max(width, height));
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.scale(ratio, ratio);
    context.font = font;
    context.textBaseline = "middle";
    return context;
  };
  /** A label, apart from the direction of its letters. */
  const write = (context, text, x, y, align, room) => {
    context.textAlign = align;
    context.fillText(`\u2068${text}\u2069`, x, y, room);
  };
  const writeColumn = (context, col) => {
    context.save();
    context.translate(shape.left + (col + 0.5) * shape.w, shape.top - 6);
    context.rotate(-Math.PI / 2);
    write(context, colLabels[col], 0, 0, "left", shape.top - 8);
    context.restore();
  };

  /** One pixel for each cell, blown up: as quick for a million cells as for a thousand. */
  const drawCells = (context, name) => {
    const { left, top, w, h } = shape;
    const image = new ImageData(matrix.cols, matrix.rows);
    const { data } = image;
    const colourOf = view.colours.grades(name);
    for (let row = 0, p = 0; row < matrix.rows; row++) {
      for (let col = 0; col < matrix.cols; col++, p++) {
        const value = matrix.data[p];
        if (value === -Infinity || view.unseenAt(row, col)) continue; // the hatching shows through
        const colour = colourOf(value) ?? NOT_A_NUMBER;
        data[4 * p] = colour[0];
        data[4 * p + 1] = colour[1];
        data[4 * p + 2] = colour[2];
        data[4 * p + 3] = 255;
      }
    }
    const small = element("canvas", { width: matrix.cols, height: matrix.rows });
    small.getContext("2d").putImageData(image, 0, 0);
    context.fillStyle = context.createPattern(hatching(ink), "repeat");
    context.fillRect(left, top, matrix.cols * w, matrix.rows * h);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, left, top, matrix.cols * w, matrix.rows * h);
    if (Math.min(w, h) < 7) return;
    context.strokeStyle = paper; // gaps, where cells are large enough to be told apart
    context.beginPath();
    for (let row = 1; row < matrix.rows; row++) line(context, left, top + row * h, matrix.cols * w, 0);
    for (let col = 1; col < matrix.cols; col++) line(context, left + col * w, top, 0, matrix.rows * h);
    context.stroke();
  };

  const redraw = () => {
    const style = getComputedStyle(node);
    const name = theme();
    ink = style.getPropertyValue("--ink").trim() || ink;
    paper = style.getPropertyValue("--paper").trim() || paper;
    accent = style.getPropertyValue("--accent").trim() || ink;
    source = style.getPropertyValue("--source").trim() || ink;
    unit = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16 || 1;
    font = `${Math.round(12 * unit)}px system-ui, sans-serif`;
    const measure = /** @type {CanvasRenderingContext2D} */ (base.getContext("2d"));
    measure.font = font;
    const widest = (labels) =>
      Math.min(
        120 * unit,
        12 + labels.reduce((most, text) => Math.max(most, measure.measureText(text).width), 0),
      );
    const left = widest(rowLabels);
    const top = widest(colLabels);
    const room = view.width() - left - 4;
    const square = view.rows[0]?.token && view.cols[0]?.token;
    const w = Math.max(
      smallest(matrix.cols),
      Math.min(22 * unit, Math.floor((room / matrix.cols) * 2) / 2),
    );
    const h = square
      ? w
      : Math.max(smallest(matrix.rows), Math.min(18 * unit, Math.floor((560 * unit) / matrix.rows)));
    shape = { left, top, w, h };
    const width = Math.ceil(left + w * matrix.cols + 2);
    const height = Math.ceil(top + h * matrix.rows + 2);
    const context = prepare(base, width, height);
    context.fillStyle = ink;
    const rowStep = roundStep((14 * unit) / h);
    const colStep = roundStep((14 * unit) / w);
    for (let row = 0; row < matrix.rows; row += rowStep)
      write(context, rowLabels[row], left - 6, top + (row + 0.5) * h, "right", left - 8);
    for (let col = 0; col < matrix.cols; col += colStep) writeColumn(context, col);
    drawCells(context, name);
    context.strokeStyle = ink;
    context.globalAlpha = 0.25;
    context.strokeRect(left - 0.5, top - 0.5, w * matrix.cols + 1, h * matrix.rows + 1);
    prepare(over, width, height);
    drawMarks();
  };

  const drawMarks = () => {
    const context = /** @type {CanvasRenderingContext2D} */ (over.getContext("2d"));
    const { left, top, w, h } = shape;
    context.clearRect(0, 0, over.width, over.height);
    for (const { row, col, kind } of marks) {
      const x = col === null ? left : left + col * w;
      const y = row === null ? top : top + row * h;
      const wide = col === null ? matrix.cols * w : w;
      const high = row === null ? matrix.rows * h : h;
      context.strokeStyle = kind === "source" ? source : accent;
      context.lineWidth = kind === "along" ? 1 : 2;
      context.strokeRect(x - 1, y - 1, wide + 1, high + 1);
      if (kind === "along") continue;
      context.font = `bold ${font}`;
      if (row !== null)
        banner(
          context,
          () => write(context, rowLabels[row], left - 6, y + high / 2, "right"),
          0,
          y + high / 2 - 8 * unit,
          left,
          16 * unit,
        );
      if (col !== null)
        banner(context, () => writeColumn(context, col), x + wide / 2 - 8 * unit, 0, 16 * unit, top - 2);
    }
  };
  /** The label of a marked line, over the labels beneath. */
  const banner = (context, draw, x, y, wide, high) => {
    context.fillStyle = paper;
    context.fillRect(x, y, wide - 1, high);
    context.fillStyle = ink;
    draw();
  };

  /** @param {PointerEvent|MouseEvent} event */
  const cellAt = (event) => {
    const box = over.getBoundingClientRect();
    const col = Math.floor((event.clientX - box.left - shape.left) / shape.w);
    const row = Math.floor((event.clientY - box.top - shape.top) / shape.h);
    return row >= 0 && col >= 0 && row < matrix.rows && col < matrix.cols ? { row, col } : null;
  };
  const select = ({ row, col }) => {
    current = { row, col };
    live.textContent = words.text("page.canvas.cell", {
      row: rowLabels[row],
      col: colLabels[col],
      value: words.number.full(at(matrix, row, col)),
    });
    view.choose(row, col);
  };
  let pointed = "";
  over.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const cell = cellAt(event);
    const key = cell ? `${cell.row},${cell.col}` : "";
    if (key !== pointed) view.point(cell);
    pointed = key;
  });
  over.addEventListener("pointerleave", () => {
    pointed = "";
    view.point(null);
  });
  over.addEventListener("click", (event) => {
    const cell = cellAt(event);
    if (cell) select(cell);
  });
  node.addEventListener("focus", () => {
    if (node.matches(":focus-visible")) select(current);
  });
  node.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return view.close();
    if (event.key === "Enter" || event.key === " ") return select(current);
    const next = nextCell(event, current, matrix);
    if (!next) return;
    event.preventDefault();
    select(next);
    const [x, y] = [shape.left + next.col * shape.w, shape.top + next.row * shape.h];
    if (x < node.scrollLeft || x + shape.w > node.scrollLeft + node.clientWidth)
      node.scrollLeft = x - node.clientWidth / 2;
    if (y < node.scrollTop || y + shape.h > node.scrollTop + node.clientHeight)
      node.scrollTop = y - node.clientHeight / 2;
  });

  return {
    node,
    redraw,
    mark: (list) => {
      marks = list;
      drawMarks();
    },
    box: (row, col) => {
      const { left, top } = over.getBoundingClientRect();
      return new DOMRect(
        left + shape.left + col * shape.w,
        top + shape.top + row * shape.h,
        shape.w,
        shape.h,
      );
    },
    focus: (row, col, really) => {
      current = { row, col };
      if (really) node.focus();
    },
  };
}
