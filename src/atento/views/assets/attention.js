// The equation, in float64, for one head. Arithmetic only: no page, no words.

/** A matrix in row-major order, each number made by its row and column. @param {number} rows @param {number} cols @param {(row: number, col: number) => number} make @returns {Matrix} */
export function matrixOf(rows, cols, make) {
  const data = new Float64Array(rows * cols);
  for (let row = 0, p = 0; row < rows; row++) for (let col = 0; col < cols; col++) data[p++] = make(row, col);
  return { rows, cols, data };
}

/** @param {Matrix} m @param {number} row @param {number} col */
export const at = (m, row, col) => m.data[row * m.cols + col];

/** @param {number} count @param {(k: number) => number} term */
function sum(count, term) {
  let total = 0;
  for (let k = 0; k < count; k++) total += term(k);
  return total;
}

/** input · weight + bias. @param {Matrix} input @param {Matrix} weight @param {ArrayLike<number>} bias */
export const project = (input, weight, bias) =>
  matrixOf(input.rows, weight.cols, (i, j) => sum(input.cols, (c) => at(input, i, c) * at(weight, c, j)) + bias[j]);

/**
 * The softmax of one row, with all that goes into it. A sink adds to the denominator alone; a row
 * that may see no key gets no weight.
 * @param {Matrix} logits @param {number} row @param {number|null} sink
 */
export function softmaxRow(logits, row, sink) {
  const values = logits.data.subarray(row * logits.cols, (row + 1) * logits.cols);
  const max = values.reduce((most, value) => (Number.isNaN(value) ? NaN : Math.max(most, value)), sink ?? -Infinity);
  const none = values.every((value) => value === -Infinity);
  const exps = values.map((value) => (none ? 0 : Math.exp(value - max)));
  const sinkExp = sink === null || none ? 0 : Math.exp(sink - max);
  return { values, max, exps, sinkExp, denominator: sinkExp + sum(exps.length, (k) => exps[k]), none };
}

/** All steps of one head, in the order of the equation; those that do not happen are absent. @param {HeadInput} head @returns {Known<Step>} */
export function attend({ queries, keys, values, scale, softcap, bias, mask, sink }) {
  const steps = /** @type {Known<Step>} */ (new Map());
  /** @param {string} name @param {Matrix} matrix @param {string|null} previous */
  const add = (name, matrix, previous = null) => steps.set(name, { name, matrix, previous });
  let logits = matrixOf(queries.rows, keys.rows, (i, j) => sum(queries.cols, (f) => at(queries, i, f) * at(keys, j, f)));
  let last = "scores";
  /** @param {string} name @param {(value: number, place: number) => number} f */
  const then = (name, f) => {
    logits = { ...logits, data: logits.data.map(f) };
    add(name, logits, last);
    last = name;
  };

  add("queries", queries);
  add("keys", keys);
  add("values", values);
  add("scores", logits);
  then("scaled", (value) => value * scale);
  if (softcap != null) then("capped", (value) => softcap * Math.tanh(value / softcap));
  if (bias) then("biased", (value, place) => value + bias.data[place]);
  if (mask) then("masked", (value, place) => (mask[place] ? value : -Infinity));
  const weights = matrixOf(queries.rows, keys.rows, () => 0);
  for (let i = 0; i < queries.rows; i++) {
    const { exps, denominator, none } = softmaxRow(logits, i, sink ?? null);
    if (!none) weights.data.set(exps.map((exp) => exp / denominator), i * keys.rows);
  }
  add("weights", weights, last);
  // A key without weight adds nothing, even where its value is NaN: that is how a mask hides it.
  /** @param {number} weight @param {number} value */
  const share = (weight, value) => (weight === 0 ? 0 : weight * value);
  /** @param {number} i @param {number} j */
  const output = (i, j) => sum(keys.rows, (k) => share(at(weights, i, k), at(values, k, j)));
  add("output", matrixOf(queries.rows, values.cols, output), "weights");
  return steps;
}
