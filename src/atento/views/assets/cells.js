// The strongest among many cells, without computing every weight in them.

import { TILE } from "./tiles.js";
import { bothTiles, takeIn } from "./weights.js";

/**
 * The largest weights of one head, or differences of two, in some rows and columns of cells: first the
 * cells with the largest maximum, then every weight in these.
 * @param {Tiles} tiles @param {Head[]} heads @param {number} level cells are of 2^level × 2^level weights
 * @param {Ends} rows @param {Ends} cols @param {number} count @returns {Pair[]} the largest first
 */
export function strongestOf(tiles, heads, level, [top, bottom], [left, right], count) {
  const side = 2 ** level;
  /** @type {Pair[]} */
  const cells = [];
  for (let row = Math.floor(top / TILE); row * TILE < bottom; row++) {
    for (let col = Math.floor(left / TILE); col * TILE < right; col++) {
      const [mine, theirs] = heads.map((head) => tiles.get({ head, level, row, col }));
      // It will be looked at when it has come.
      if (!mine || (heads[1] && !theirs)) continue;
      const [first, end] = [Math.max(left, col * TILE), Math.min(right, col * TILE + mine.cols)];
      for (let r = Math.max(top, row * TILE); r < Math.min(bottom, row * TILE + mine.rows); r++) {
        const start = (r - row * TILE) * mine.cols - col * TILE;
        for (let c = first; c < end; c++) {
          const weight = mine.max[start + c] - (theirs ? theirs.max[start + c] : 0);
          takeIn(cells, r * side, c * side, weight, count);
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
      takeIn(found, row + Math.floor(p / mine.cols), col + (p % mine.cols), weight, count);
    });
  }
  return found;
}
