// Keys that walk a grid, the same in a table, on a canvas, among heads and among features.

import { within } from "./view-parts.js";

/** @param {KeyboardEvent} event @param {Cell} from @param {{rows: number, cols: number}} size @returns {Cell|null} null: no key of ours */
function nextCell({ key, altKey, metaKey, ctrlKey }, { row, col }, { rows, cols }) {
  const page = Math.max(1, Math.min(10, Math.floor(rows / 2)));
  const far = ctrlKey ? Infinity : 1;
  const whole = ctrlKey ? Infinity : 0;
  /** @type {Record<string, number[]>} */
  const steps = {
    ArrowLeft: [0, -far],
    ArrowRight: [0, far],
    ArrowUp: [-far, 0],
    ArrowDown: [far, 0],
    PageUp: [-page, 0],
    PageDown: [page, 0],
    Home: [-whole, -Infinity],
    End: [whole, Infinity],
  };
  const step = steps[key];
  if (altKey || metaKey || !step) return null;
  return { row: within(row + step[0], rows), col: within(col + step[1], cols) };
}

/**
 * @param {HTMLElement} node @param {() => {rows: number, cols: number}} size @param {() => Cell} from where it is
 * @param {(to: Cell) => void} go @param {Record<string, () => any>} [others] what other keys do
 */
export function walkedByKeys(node, size, from, go, others = {}) {
  node.addEventListener("keydown", (event) => {
    if (others[event.key]) return others[event.key]();
    const next = nextCell(event, from(), size());
    if (!next) return;
    event.preventDefault();
    go(next);
  });
}
