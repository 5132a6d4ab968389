// The weights of one head from q, k, log-sum-exp and mask. No page is needed: this also runs in a
// worker and in node.
//
//   weight = exp( softcap · tanh(q · k · scale / softcap) + bias − lse ), and 0 where the mask hides

/** exp of these is close to the smallest normal float32; below, a weight is 0, as it is in Python. */
const LOWEST = -87;

/** Rows × columns whose scores are computed at a time. */
const BLOCK = 64;

/** @param {HeadWeights} head @param {number} i @param {number} j */
export function biasAt({ bias, Tq }, i, j) {
  if (!bias) return 0;
  if (bias.distance) return bias.values[j - i + Tq - 1];
  return bias.values[(bias.rows === 1 ? 0 : i) * bias.cols + (bias.cols === 1 ? 0 : j)];
}

/** Whether query i may look at key j. @param {HeadWeights} head @param {number} i @param {number} j */
function visible({ mask }, i, j) {
  if (!mask) return true;
  const run = firstRun(mask, i, j);
  return run < mask.offsets[i + 1] && mask.starts[run] <= j;
}

/** Everything that makes one weight. @param {HeadWeights} head @param {number} i @param {number} j */
export function parts(head, i, j) {
  const { d, query, key, scale, softcap } = head;
  const products = Float64Array.from({ length: d }, (_, f) => query[i * d + f] * key[j * d + f]);
  const dot = products.reduce((sum, product) => sum + product, 0);
  const scaled = dot * scale;
  const capped = softcap ? softcap * Math.tanh(scaled / softcap) : scaled;
  const bias = biasAt(head, i, j);
  const lse = head.lse[i];
  const sees = visible(head, i, j);
  const weight = sees && lse !== -Infinity ? toWeight(capped + bias - lse) : 0;
  return { products, dot, scaled, capped, bias, score: capped + bias, lse, weight, sees };
}

const STEPS = 1024;
const FRACTIONS = Float64Array.from({ length: STEPS }, (_, k) => 2 ** (k / STEPS));
const POWERS = Float64Array.from({ length: 128 }, (_, k) => 2 ** (k - 127));

/** exp of what is not above 0 but for rounding, to 11 digits: Math.exp takes six times as long. @param {number} log */
function toWeight(log) {
  if (log < LOWEST) return 0;
  if (!(log < 0)) return Math.exp(log);
  const n = Math.floor(log * (STEPS / Math.LN2));
  const rest = log - n * (Math.LN2 / STEPS);
  return POWERS[(n >> 10) + 127] * FRACTIONS[n & (STEPS - 1)] * (1 + rest * (1 + rest / 2));
}

/** @param {HeadWeights} head @param {number} i @param {number} j */
export const weight = (head, i, j) => parts(head, i, j).weight;

/** Some rows of features, one after the other for each feature: (feature, row). @type {PackRows} */
function packed(source, d, from, count) {
  const result = new Float64Array(d * BLOCK);
  for (let r = 0; r < count; r++)
    for (let f = 0; f < d; f++) result[f * BLOCK + r] = source[(from + r) * d + f];
  return result;
}

/**
 * Products of a block, 2 × 2 at a time so that they stay in registers: out[r × BLOCK + c].
 * @type {Multiply}
 */
function multiply(a, b, d, rows, cols, out) {
  for (let r = 0; r < rows; r += 2) {
    for (let c = 0; c < cols; c += 2) {
      let [s, t, u, v] = [0, 0, 0, 0];
      for (let p = r, q = c, end = r + d * BLOCK; p < end; p += BLOCK, q += BLOCK) {
        s += a[p] * b[q];
        t += a[p] * b[q + 1];
        u += a[p + 1] * b[q];
        v += a[p + 1] * b[q + 1];
      }
      const at = r * BLOCK + c;
      out[at] = s;
      out[at + 1] = t;
      out[at + BLOCK] = u;
      out[at + BLOCK + 1] = v;
    }
  }
}

/**
 * The weights of a rectangle, in pieces of rows that the mask leaves: `fold(i, from, to, values, at)`
 * gets those of query i and keys from … to in values[at], values[at + 1], …
 * @param {HeadWeights} head @param {Ends} rows @param {Ends} cols
 * @param {(i: number, from: number, to: number, values: Float64Array, at: number) => void} fold
 */
function eachPiece(head, rows, cols, fold) {
  const { d, lse, mask } = head;
  const out = new Float64Array(BLOCK * BLOCK);
  /** @type {Float64Array[]} */
  const keys = [];
  for (let top = rows[0]; top < rows[1]; top += BLOCK) {
    const high = Math.min(BLOCK, rows[1] - top);
    const own = packed(head.query, d, top, high);
    for (let left = cols[0]; left < cols[1]; left += BLOCK) {
      const right = Math.min(left + BLOCK, cols[1]);
      let made = false;
      for (let i = top; i < top + high; i++) {
        if (lse[i] === -Infinity) continue;
        const at = (i - top) * BLOCK - left;
        const end = mask ? mask.offsets[i + 1] : 1;
        for (let run = mask ? firstRun(mask, i, left) : 0; run < end; run++) {
          const from = mask ? Math.max(left, mask.starts[run]) : left;
          const to = mask ? Math.min(right, mask.stops[run]) : right;
          if (from >= right) break;
          if (!made) multiply(own, (keys[left] ??= packed(head.key, d, left, right - left)), d, high, right - left, out);
          made = true;
          weigh(head, i, from, to, out, at);
          fold(i, from, to, out, at + from);
        }
      }
    }
  }
}

/** Products become weights, where they stand. @type {Weigh} */
function weigh(head, i, from, to, values, at) {
  const { scale, softcap, bias } = head;
  const sum = head.lse[i];
  for (let j = from; j < to; j++) {
    let score = values[at + j] * scale;
    if (softcap) score = softcap * Math.tanh(score / softcap);
    if (bias) score += biasAt(head, i, j);
    values[at + j] = toWeight(score - sum);
  }
}

/** The first run of query i that does not end before column j. @type {FirstRun} */
function firstRun({ offsets, stops }, i, j) {
  let [low, high] = [offsets[i], offsets[i + 1]];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (stops[middle] <= j) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The weights of one query: (Tk). @param {HeadWeights} head @param {number} i */
export function row(head, i) {
  const result = new Float32Array(head.Tk);
  eachPiece(head, [i, i + 1], [0, head.Tk], (_, from, to, values, at) => {
    for (let j = from; j < to; j++) result[j] = values[at + j - from];
  });
  return result;
}

/**
 * A square of cells with their mean and maximum, each of 2^zoom × 2^zoom weights from (row0, col0), as `LayerRecord.tile`.
 * @param {HeadWeights} head @param {number} row0 @param {number} col0 @param {number} zoom @param {number} size
 * @returns {{rows: number, cols: number, mean: Float32Array, max: Float32Array}} fewer cells where the weights end
 */
export function bothTiles(head, row0, col0, zoom, size) {
  const side = 2 ** zoom;
  const rows = Math.min(size, Math.ceil((head.Tq - row0) / side));
  const cols = Math.min(size, Math.ceil((head.Tk - col0) / side));
  const sums = new Float64Array(rows * cols);
  const max = new Float32Array(rows * cols);
  /** @type {(...at: number[]) => Ends} */
  const range = (first, cells, length) => [first, Math.min(first + cells * side, length)];
  eachPiece(head, range(row0, rows, head.Tq), range(col0, cols, head.Tk), (i, from, to, values, at) => {
    const first = ((i - row0) >> zoom) * cols;
    for (let j = from; j < to; j++) {
      const value = values[at + j - from];
      const p = first + ((j - col0) >> zoom);
      sums[p] += value;
      if (!(value <= max[p])) max[p] = value;
    }
  });
  const mean = Float32Array.from(sums, (sum, p) => {
    const high = Math.min(side, head.Tq - row0 - Math.floor(p / cols) * side);
    return sum / (high * Math.min(side, head.Tk - col0 - (p % cols) * side));
  });
  return { rows, cols, mean, max };
}

/**
 * Take a pair in where it is among the largest. Most are not: they cost no object.
 * @param {Pair[]} list the largest first @param {number} row @param {number} col @param {number} weight @param {number} count
 */
export function takeIn(list, row, col, weight, count) {
  const size = Math.abs(weight);
  if (!(size > 0) || (list.length === count && size <= Math.abs(list[count - 1].weight))) return;
  let place = list.length;
  while (place && Math.abs(list[place - 1].weight) < size) place--;
  list.splice(place, 0, { row, col, weight });
  if (list.length > count) list.pop();
}

/** The largest weights of a rectangle, the largest first. @param {HeadWeights} head @param {Ends} rows @param {Ends} cols @param {number} count */
export function strongest(head, rows, cols, count) {
  /** @type {Pair[]} */
  const found = [];
  eachPiece(head, rows, cols, (i, from, to, values, at) => {
    for (let j = from; j < to; j++) takeIn(found, i, j, values[at + j - from], count);
  });
  return found;
}
