// What made one number: the terms, the factors, and the cells that they came from.

import { at, softmaxRow } from "./attention.js";

/** More terms than this are not shown at once. */
export const MANY = 32;
/** Of many terms, so many of the largest are shown. */
export const LARGEST = 12;

/** A whole row or column of a step's matrix. @param {string} step @param {number} row */
const lineOf = (step, row) => ({ step, row, col: null });
/** @param {string} step @param {number} col */
const columnOf = (step, col) => ({ step, row: null, col });

/** @param {Run} run @param {string} name of a step, "input" or "weight-…" @param {number} row @param {number} col @returns {{ arithmetic: Arithmetic, sources: Source[] }} */
export function explain(run, name, row, col) {
  const { head, steps, projections, input } = run;
  const step = steps.get(name);
  const matrix = /** @type {Matrix} */ (step?.matrix ?? projections?.[name.slice("weight-".length)]?.weight ?? input);
  const previous = step?.previous ?? "";
  const before = steps.get(previous)?.matrix;
  const result = at(matrix, row, col);
  /** @param {number} count @param {Factor} a @param {Factor} b @param {Source[]} sources @param {number|null} plus */
  const dot = (count, a, b, sources, plus = null) => {
    const terms = Array.from({ length: count }, (_, index) => ({ a: a(index), b: b(index), index, product: a(index) * b(index) }));
    return { arithmetic: /** @type {Arithmetic} */ ({ kind: "dot", terms, plus, result }), sources };
  };
  /** @param {string} kind @param {Record<string, any>} parts */
  const changed = (kind, parts) => ({
    arithmetic: /** @type {Arithmetic} */ ({ kind, value: at(before, row, col), ...parts, result }),
    sources: [{ step: previous, row, col }],
  });
  const map = step && projections?.[name];
  if (map && input) {
    const sources = [lineOf("input", row), columnOf(`weight-${name}`, col)];
    return dot(map.weight.rows, (c) => at(input, row, c), (c) => at(map.weight, c, col), sources, map.bias[col]);
  }
  const place = row * matrix.cols + col;
  const { queries, keys, values, scale, softcap, bias, mask, sink } = head;
  switch (name) {
    case "scores": {
      const sources = [lineOf("queries", row), lineOf("keys", col)];
      return dot(queries.cols, (f) => at(queries, row, f), (f) => at(keys, col, f), sources);
    }
    case "scaled":
      return changed("scale", { scale });
    case "capped":
      return changed("cap", { softcap });
    case "biased":
      return changed("bias", { bias: bias?.data[place] });
    case "masked":
      return changed("mask", { visible: mask?.[place] === 1 });
    case "weights": {
      const { values: logits, exps, sinkExp, ...whole } = softmaxRow(before, row, sink);
      const shares = Array.from(exps, (exp, index) => ({ index, logit: logits[index], exp }));
      const sunk = sink === null ? null : { logit: sink, exp: sinkExp };
      const arithmetic = /** @type {Arithmetic} */ ({ kind: "softmax", ...whole, shares, numerator: exps[col], column: col, sink: sunk, result });
      return { arithmetic, sources: [lineOf(previous, row)] };
    }
    case "output": {
      const sources = [lineOf("weights", row), columnOf("values", col)];
      return dot(values.rows, (k) => at(before, row, k), (k) => at(values, k, col), sources);
    }
  }
  return { arithmetic: { kind: "given", result }, sources: [] };
}

/**
 * Which of many terms to show: the largest, in their own order, and what the rest add up to.
 * @param {any[]} terms @param {(term: any) => number} size @param {any} [always] kept in any case @returns {Cut}
 */
export function largest(terms, size, always) {
  if (terms.length <= MANY) return { shown: terms, hidden: 0, rest: 0 };
  const order = [...terms].sort((x, y) => Math.abs(size(y)) - Math.abs(size(x)));
  const kept = new Set([...order.slice(0, LARGEST), ...(always === undefined ? [] : [always])]);
  const rest = terms.reduce((sum, term) => (kept.has(term) ? sum : sum + size(term)), 0);
  return { shown: terms.filter((term) => kept.has(term)), hidden: terms.length - kept.size, rest };
}
