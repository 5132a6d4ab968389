// The arithmetic of one number, written out as nodes: every term with its own value.

import { explain, largest, LARGEST } from "./arithmetic.js";
import { colourScale, paint } from "./colours.js";
import { element, symbol, tokenNode } from "./dom.js";
import { pressable } from "./view-parts.js";

/** Steps whose rows are queries and whose columns are keys. */
export const PAIRED = ["scores", "scaled", "capped", "biased", "masked", "weights"];

/** What the number is, in words. @param {Scene} scene @param {Picked} selection */
export function headline({ words, tokens, keyTokens }, { step, row, col }) {
  if (step.startsWith("weight-")) return words.say("page.panel.weight", { row: String(row), col: String(col) });
  const names = step === "keys" || step === "values" ? keyTokens : tokens;
  const parts = PAIRED.includes(step)
    ? { query: tokenNode(tokens[row], 200), key: tokenNode(keyTokens[col], 200) }
    : { token: tokenNode(names[row], 200), feature: String(col) };
  return words.say(`page.panel.${step}`, parts);
}

/**
 * The arithmetic as nodes.
 * @param {Scene} scene @param {Picked} selection @param {boolean} all every term, however many
 * @param {() => void} showAll when the reader asks for that
 * @returns {Node[]}
 */
export function arithmeticNodes({ words, run, tokens, keyTokens }, { step, row, col }, all, showAll) {
  const { full: n, count } = words.number;
  const { arithmetic } = explain(run, step, row, col);
  const result = element("strong.result", n(arithmetic.result));
  /** In brackets where a minus would follow a sign. @param {number} value */
  const p = (value) => (value < 0 ? `(${n(value)})` : n(value));
  /** @param {...any} parts */
  const line = (...parts) => element("p.line", parts);
  /** @param {string} key @param {Record<string, any>} [parts] */
  const note = (key, parts) => element("p.note", words.say(`page.panel.${key}`, parts));
  /** @param {any[]} terms @param {(term: any) => number} size @param {any} [always] @returns {Cut} */
  const cut = (terms, size, always) => (all ? { shown: terms, hidden: 0, rest: 0 } : largest(terms, size, always));
  /** That terms were left out, and the way to see them. @param {Cut} part @param {string} key */
  const leftOut = ({ shown, hidden }, key) => {
    if (!hidden) return [];
    const total = count(shown.length + hidden);
    const more = pressable(words.say("page.panel.all", { count: total }), showAll, { class: "more" });
    return [note(key, { shown: count(LARGEST), count: total }), more];
  };

  /** a·b + a·b + … = result, each term tinted by what it adds. @param {Cut} part @param {number|null} plus */
  const sumOfTerms = ({ shown, hidden, rest }, plus) => {
    const colours = colourScale(shown.map(({ product }) => product));
    const terms = shown.map(({ a, b, index, product }, place) => {
      const title = words.text("page.panel.term", { feature: String(index), product: n(product) });
      const node = element("span.term", { title }, `${place ? p(a) : n(a)}·${p(b)}`);
      paint(node, colours, product);
      return node;
    });
    if (hidden) terms.push(element("span.term.rest", words.say("page.panel.rest", { count: count(hidden), sum: p(rest) })));
    if (plus !== null) terms.push(element("span.term.plus", words.say("page.panel.plus", { bias: p(plus) })));
    // A sign stays with the term after it when the line breaks.
    /** @param {string} sign @param {Node} term */
    const signed = (sign, term) => [" ", element("span.unbroken", sign, term)];
    return element("p.line.terms", terms.map((term, place) => (place ? signed("+ ", term) : term)), signed("= ", result));
  };

  /** One row of a table: a token, what is computed, and what comes out. @param {string} kind @param {any} name @param {any} text @param {any} value @param {{ scale: Colours, value: number }} [colours] */
  const tableRow = (kind, name, text, value, colours) => {
    const cell = element(colours ? "td.tinted" : "td", value);
    if (colours) paint(cell, colours.scale, colours.value);
    return element(kind, element("th", { scope: "row" }, name), element("td", text), element("td.sign", "="), cell);
  };
  /** Rows of keys, tinted by what they add. @param {any} heading @param {Cut} part @param {Colours} scale @param {(one: any) => number} value @param {(one: any) => string} text @param {any} last */
  const shares = (heading, { shown, hidden, rest }, scale, value, text, last) => {
    const here = arithmetic.kind === "softmax" ? arithmetic.column : -1;
    const rows = shown.map((one) => {
      const kind = one.index === here ? "tr.chosen" : "tr";
      return tableRow(kind, tokenNode(keyTokens[one.index]), text(one), n(value(one)), { scale, value: value(one) });
    });
    const others = () => words.say("page.panel.others", { count: count(hidden) });
    if (hidden) rows.push(element("tr", element("th", { scope: "row", colspan: 3 }, others()), element("td", n(rest))));
    const titles = [element("th", { scope: "col" }, words.say("page.panel.key")), element("th", { scope: "col", colspan: 3 }, heading)];
    return element("table.shares", element("thead", element("tr", titles)), element("tbody", rows, last));
  };

  switch (arithmetic.kind) {
    case "dot": {
      const part = cut(arithmetic.terms, ({ product }) => product);
      if (step !== "output") return [sumOfTerms(part, arithmetic.plus), ...leftOut(part, "largest")];
      const scale = colourScale(part.shown.map(({ product }) => product));
      const total = tableRow("tr.total", "Σ", "", result);
      /** @param {Term} term */
      const written = ({ a, b }) => `${n(a)} × ${p(b)}`;
      const table = shares(words.say("page.panel.weightvalue"), part, scale, ({ product }) => product, written, total);
      return [table, ...leftOut(part, "largest")];
    }
    case "softmax": {
      const { shares: keys, numerator, denominator, max, column, sink, none } = arithmetic;
      if (none) return [line(result), note("none", { query: tokenNode(tokens[row]) })];
      const part = cut(keys, ({ exp }) => exp, keys[column]);
      /** @param {{ logit: number }} share */
      const power = ({ logit }) => (logit === -Infinity ? "exp(−∞)" : `exp(${n(logit)} − ${p(max)})`);
      const last = [
        sink && tableRow("tr.sink", words.say("page.panel.sink"), power(sink), n(sink.exp)),
        tableRow("tr.total", "Σ", "", n(denominator)),
      ];
      const scale = colourScale(keys.map(({ exp }) => exp));
      return [
        line(`${n(numerator)} / ${n(denominator)} = `, result),
        shares(["exp(", symbol("s"), " − max)"], part, scale, ({ exp }) => exp, power, last),
        note("max", { max: n(max) }),
        ...leftOut(part, "largest.andthis"),
      ];
    }
    case "scale":
      return [line(`${n(arithmetic.value)} × ${p(arithmetic.scale)} = `, result)];
    case "cap": {
      const { value, softcap } = arithmetic;
      const share = p(Math.tanh(value / softcap));
      return [line(`${n(softcap)} · tanh(${n(value)} / ${n(softcap)})`), line(`= ${n(softcap)} · ${share} = `, result)];
    }
    case "bias":
      return [line(`${n(arithmetic.value)} + ${p(arithmetic.bias)} = `, result)];
    case "mask":
      return [line(`${n(arithmetic.value)} → `, result), note(arithmetic.visible ? "visible" : "unseen")];
    default: {
      const from = step === "input" ? ".input" : step.startsWith("weight-") ? ".weight" : "";
      return [line(result), note(`given${from}`)];
    }
  }
}
