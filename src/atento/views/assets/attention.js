// The equation, in float64, for one head. Arithmetic only: no page, no words.

/**
 * A matrix in row-major order.
 * @typedef {{ rows: number, cols: number, data: Float64Array }} Matrix
 *
 * What one head computes with. `bias` and `mask` are (query, key); mask: 1 = attends.
 * @typedef {{ queries: Matrix, keys: Matrix, values: Matrix, scale: number, softcap?: number|null,
 *   bias?: Matrix|null, mask?: Uint8Array|null, sink?: number|null }} HeadInput
 *
 * @typedef {{ name: string, matrix: Matrix, previous: string|null }} Step
 */

/** @param {number} rows @param {number} cols @returns {Matrix} */
export function emptyMatrix(rows, cols) {
  return { rows, cols, data: new Float64Array(rows * cols) };
}

/** @param {Matrix} m @param {number} row @param {number} col */
export function at(m, row, col) {
  return m.data[row * m.cols + col];
}

/** left · right. @param {Matrix} left @param {Matrix} right @returns {Matrix} */
export function product(left, right) {
  const result = emptyMatrix(left.rows, right.cols);
  for (let i = 0; i < left.rows; i++) {
    for (let k = 0; k < left.cols; k++) {
      const a = left.data[i * left.cols + k];
      for (let j = 0; j < right.cols; j++) {
        result.data[i * right.cols + j] += a * right.data[k * right.cols + j];
      }
    }
  }
  return result;
}

/** input · weight + bias. @param {Matrix} input @param {Matrix} weight @param {ArrayLike<number>} bias */
export function project(input, weight, bias) {
  const result = product(input, weight);
  for (let p = 0; p < result.data.length; p++) result.data[p] += bias[p % result.cols];
  return result;
}

/** left · rightᵀ: each row of one with each row of the other. @param {Matrix} left @param {Matrix} right */
export function rowsTimesRows(left, right) {
  const result = emptyMatrix(left.rows, right.rows);
  const d = left.cols;
  for (let i = 0; i < left.rows; i++) {
    for (let j = 0; j < right.rows; j++) {
      let sum = 0;
      for (let f = 0; f < d; f++) sum += left.data[i * d + f] * right.data[j * d + f];
      result.data[i * right.rows + j] = sum;
    }
  }
  return result;
}

/** @param {Matrix} m @param {(value: number, place: number) => number} f @returns {Matrix} */
function eachOf(m, f) {
  return { rows: m.rows, cols: m.cols, data: m.data.map(f) };
}

/**
 * The softmax of one row, with all that goes into it. A sink adds to the denominator alone; a row
 * that may see no key gets no weight.
 * @param {Matrix} logits @param {number} row @param {number|null} [sink]
 */
export function softmaxRow(logits, row, sink = null) {
  const values = logits.data.subarray(row * logits.cols, (row + 1) * logits.cols);
  let max = sink ?? -Infinity;
  for (const value of values) max = Number.isNaN(value) ? NaN : Math.max(max, value);
  const none = values.every((value) => value === -Infinity);
  const exps = Float64Array.from(values, (value) => (none ? 0 : Math.exp(value - max)));
  const sinkExp = sink === null || none ? 0 : Math.exp(sink - max);
  let denominator = sinkExp;
  for (const exp of exps) denominator += exp;
  return { values, max, exps, sinkExp, denominator, none };
}

/** @param {Matrix} logits @param {number|null} [sink] @returns {Matrix} */
export function softmaxRows(logits, sink = null) {
  const result = emptyMatrix(logits.rows, logits.cols);
  for (let i = 0; i < logits.rows; i++) {
    const { exps, denominator, none } = softmaxRow(logits, i, sink);
    if (none) continue;
    for (let j = 0; j < logits.cols; j++) result.data[i * logits.cols + j] = exps[j] / denominator;
  }
  return result;
}

/**
 * The weighted sum of values. A key without weight adds nothing, even where its value is NaN: that
 * is how a mask hides it.
 * @param {Matrix} weights @param {Matrix} values
 */
export function weightedSum(weights, values) {
  const result = emptyMatrix(weights.rows, values.cols);
  for (let i = 0; i < weights.rows; i++) {
    for (let k = 0; k < weights.cols; k++) {
      const weight = at(weights, i, k);
      if (weight === 0) continue;
      for (let j = 0; j < values.cols; j++) result.data[i * values.cols + j] += weight * at(values, k, j);
    }
  }
  return result;
}

/**
 * All steps of one head, in the order of the equation; those that do not happen are absent.
 * @param {HeadInput} head
 * @returns {Map<string, Step>}
 */
export function attend(head) {
  /** @type {Map<string, Step>} */
  const steps = new Map();
  let logits = "";
  /** @param {string} name @param {Matrix} matrix @param {string|null} previous */
  const add = (name, matrix, previous) => steps.set(name, { name, matrix, previous });
  /** @param {string} name @param {(value: number, place: number) => number} f */
  const then = (name, f) => {
    add(name, eachOf(/** @type {Step} */ (steps.get(logits)).matrix, f), logits);
    logits = name;
  };

  add("queries", head.queries, null);
  add("keys", head.keys, null);
  add("values", head.values, null);
  add("scores", rowsTimesRows(head.queries, head.keys), null);
  logits = "scores";
  then("scaled", (value) => value * head.scale);
  const { softcap, bias, mask, sink } = head;
  if (softcap != null) then("capped", (value) => softcap * Math.tanh(value / softcap));
  if (bias) then("biased", (value, place) => value + bias.data[place]);
  if (mask) then("masked", (value, place) => (mask[place] ? value : -Infinity));
  const last = /** @type {Step} */ (steps.get(logits)).matrix;
  const weights = softmaxRows(last, sink ?? null);
  add("weights", weights, logits);
  add("output", weightedSum(weights, head.values), "weights");
  return steps;
}
