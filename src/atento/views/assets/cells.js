// The strongest among many cells, without computing every weight in them.

import { TILE } from "./tiles.js";
import { bothTiles } from "./weights.js";

/** @typedef {{row: number, col: number, weight: number}} Pair */

/** Take one in where it is among the largest. @param {Pair[]} list @param {Pair} one @param {number} count */
function takeIn(list, one, count) {
  const size = Math.abs(one.weight);
  if (!(size > 0) || (list.length === count && size <= Math.abs(list[count - 1].weight))) return;
  let place = list.length;
  while (place && Math.abs(list[place - 1].weight) < size) place--;
  list.splice(place, 0, one);
  if (list.length > count) list.pop();
}

/**
 * The largest weights of one head, or differences of two, in some rows and columns of cells: first the
 * cells with the largest maximum, then every weight in these.
 * @param {import("./tiles.js").Tiles} tiles @param {import("./recording.js").Head[]} heads
 * @param {number} level cells are of 2^level × 2^level weights
 * @param {number[]} rows from the first cell to the one after the last @param {number[]} cols
 * @param {number} count @returns {Pair[]} the largest first
 */
export function strongestOf(tiles, heads, level, [top, bottom], [left, right], count) {
  const side = 2 ** level;
  /** @type {Pair[]} */
  const cells = [];
  for (let row = Math.floor(top / TILE); row * TILE < bottom; row++) {
    for (let col = Math.floor(left / TILE); col * TILE < right; col++) {
      const [mine, theirs] = heads.map((head) => tiles.get({ head, level, row, col }));
      if (!mine || (heads[1] && !theirs)) continue; // it will be looked at when it has come
      const [r0, c0] = [row * TILE, col * TILE];
      for (let r = Math.max(0, top - r0); r < Math.min(mine.rows, bottom - r0); r++) {
        for (let c = Math.max(0, left - c0); c < Math.min(mine.cols, right - c0); c++) {
          const p = r * mine.cols + c;
          const weight = mine.max[p] - (theirs ? theirs.max[p] : 0);
          takeIn(cells, { row: (r0 + r) * side, col: (c0 + c) * side, weight }, count);
        }
      }
    }
  }
  if (!level) return cells;
  /** @type {Pair[]} */
  const found = [];
  for (const { row, col } of cells) {
    const [mine, theirs] = heads.map((head) => bothTiles(head, row, col, 0, side));
    mine.mean.forEach((own, p) => {
      const weight = own - (theirs ? theirs.mean[p] : 0);
      takeIn(found, { row: row + Math.floor(p / mine.cols), col: col + (p % mine.cols), weight }, count);
    });
  }
  return found;
}
