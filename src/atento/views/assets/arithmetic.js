// What made one number: the terms, the factors, and the cells that they came from.

import { at, softmaxRow } from "./attention.js";

/**
 * A cell, row (col null) or column (row null) of another step's matrix.
 * @typedef {{ step: string, row: number|null, col: number|null }} Source
 *
 * @typedef {{ a: number, b: number, index: number, product: number }} Term
 * @typedef {{ index: number, logit: number, exp: number }} Share
 *
 * @typedef {{ kind: "given", result: number }
 *   | { kind: "dot", terms: Term[], plus: number|null, result: number }
 *   | { kind: "scale", value: number, scale: number, result: number }
 *   | { kind: "cap", value: number, softcap: number, result: number }
 *   | { kind: "bias", value: number, bias: number, result: number }
 *   | { kind: "mask", value: number, visible: boolean, result: number }
 *   | { kind: "softmax", shares: Share[], max: number, numerator: number, denominator: number,
 *       sink: {logit: number, exp: number}|null, none: boolean, column: number, result: number }
 *   } Arithmetic
 */

/** More terms than this are not shown at once. */
export const MANY = 32;
/** Of many terms, so many of the largest are shown. */
export const LARGEST = 12;

/**
 * @param {import("./record.js").Run} run @param {string} name @param {number} row @param {number} col
 * @returns {{ arithmetic: Arithmetic, sources: Source[] }}
 */
export function explain(run, name, row, col) {
  const step = run.steps.get(name);
  const result = at(step.matrix, row, col);
  const previous = step.previous ? run.steps.get(step.previous).matrix : null;
  const value = previous && name !== "weights" && name !== "output" ? at(previous, row, col) : 0;
  const place = row * step.matrix.cols + col;
  const from = [{ step: step.previous, row, col }];
  switch (name) {
    case "queries":
    case "keys":
    case "values": {
      const map = run.projections?.[name];
      if (!map) break;
      const terms = dotTerms(map.weight.rows, (c) => [at(run.input, row, c), at(map.weight, c, col)]);
      return {
        arithmetic: { kind: "dot", terms, plus: map.bias[col], result },
        sources: [
          { step: "input", row, col: null },
          { step: `weight-${name}`, row: null, col },
        ],
      };
    }
    case "scores": {
      const { queries, keys } = run.head;
      const terms = dotTerms(queries.cols, (f) => [at(queries, row, f), at(keys, col, f)]);
      return {
        arithmetic: { kind: "dot", terms, plus: null, result },
        sources: [
          { step: "queries", row, col: null },
          { step: "keys", row: col, col: null },
        ],
      };
    }
    case "scaled":
      return { arithmetic: { kind: "scale", value, scale: run.head.scale, result }, sources: from };
    case "capped":
      return { arithmetic: { kind: "cap", value, softcap: run.head.softcap, result }, sources: from };
    case "biased":
      return {
        arithmetic: { kind: "bias", value, bias: run.head.bias.data[place], result },
        sources: from,
      };
    case "masked":
      return {
        arithmetic: { kind: "mask", value, visible: run.head.mask[place] === 1, result },
        sources: from,
      };
    case "weights": {
      const sink = run.head.sink ?? null;
      const { values, max, exps, sinkExp, denominator, none } = softmaxRow(previous, row, sink);
      const shares = Array.from(exps, (exp, index) => ({ index, logit: values[index], exp }));
      return {
        arithmetic: {
          kind: "softmax",
          shares,
          max,
          numerator: exps[col],
          denominator,
          none,
          column: col,
          result,
          sink: sink === null ? null : { logit: sink, exp: sinkExp },
        },
        sources: [{ step: step.previous, row, col: null }],
      };
    }
    case "output": {
      const { values } = run.head;
      const terms = dotTerms(values.rows, (k) => [at(previous, row, k), at(values, k, col)]);
      return {
        arithmetic: { kind: "dot", terms, plus: null, result },
        sources: [
          { step: "weights", row, col: null },
          { step: "values", row: null, col },
        ],
      };
    }
  }
  return { arithmetic: { kind: "given", result }, sources: [] };
}

/** @param {number} count @param {(index: number) => number[]} factors @returns {Term[]} */
function dotTerms(count, factors) {
  return Array.from({ length: count }, (_, index) => {
    const [a, b] = factors(index);
    return { a, b, index, product: a * b };
  });
}

/**
 * Which of many terms to show: the largest, in their own order, and what the rest add up to.
 * @template T
 * @param {T[]} terms @param {(term: T) => number} size @param {T} [always] kept in any case
 * @returns {{ shown: T[], hidden: number, rest: number }}
 */
export function largest(terms, size, always) {
  if (terms.length <= MANY) return { shown: terms, hidden: 0, rest: 0 };
  const order = [...terms].sort((x, y) => Math.abs(size(y)) - Math.abs(size(x)));
  const kept = new Set(order.slice(0, LARGEST));
  if (always !== undefined) kept.add(always);
  let rest = 0;
  for (const term of terms) if (!kept.has(term)) rest += size(term);
  return { shown: terms.filter((term) => kept.has(term)), hidden: terms.length - kept.size, rest };
}
