// The arithmetic of one number, written out as nodes: every term with its own value.

import { explain, largest, LARGEST } from "./arithmetic.js";
import { colourScale, paint } from "./colours.js";
import { element, symbol, tokenNode } from "./dom.js";

/**
 * What the arithmetic must know of the page.
 * @typedef {{ words: import("./words.js").Words, run: import("./record.js").Run, tokens: import("./labels.js").Name[],
 *   keyTokens: import("./labels.js").Name[] }} Scene
 * @typedef {{ step: string, row: number, col: number }} Selection
 * @typedef {{ shown: any[], hidden: number, rest: number }} Cut
 */

/** Steps whose rows are queries and whose columns are keys. */
export const PAIRED = ["scores", "scaled", "capped", "biased", "masked", "weights"];

/** Cells of the input and of learned maps were not computed here. @param {string} step */
const isGiven = (step) => step === "input" || step.startsWith("weight-");

/**
 * The arithmetic of a cell, and the cells that it came from.
 * @param {Scene} scene @param {Selection} selection
 * @returns {{ arithmetic: import("./arithmetic.js").Arithmetic, sources: import("./arithmetic.js").Source[] }}
 */
export function known(scene, { step, row, col }) {
  if (!isGiven(step)) return explain(scene.run, step, row, col);
  const matrix =
    step === "input" ? scene.run.input : scene.run.projections[step.slice("weight-".length)].weight;
  return { arithmetic: { kind: "given", result: matrix.data[row * matrix.cols + col] }, sources: [] };
}

/** What the number is, in words. @param {Scene} scene @param {Selection} selection */
export function headline(scene, { step, row, col }) {
  const { words, tokens, keyTokens } = scene;
  if (step.startsWith("weight-"))
    return words.say("page.panel.weight", { row: String(row), col: String(col) });
  if (PAIRED.includes(step)) {
    return words.say(`page.panel.${step}`, {
      query: tokenNode(tokens[row], 200),
      key: tokenNode(keyTokens[col], 200),
    });
  }
  const names = step === "keys" || step === "values" ? keyTokens : tokens;
  return words.say(`page.panel.${step}`, { token: tokenNode(names[row], 200), feature: String(col) });
}

/**
 * The arithmetic as nodes.
 * @param {Scene} scene @param {Selection} selection
 * @param {boolean} all every term, however many
 * @param {() => void} showAll when the reader asks for that
 * @returns {Node[]}
 */
export function arithmeticNodes(scene, selection, all, showAll) {
  const { words } = scene;
  const n = words.number.full;
  const count = words.number.count;
  const { arithmetic } = known(scene, selection);
  const result = element("strong", { class: "result" }, n(arithmetic.result));
  /** In brackets where a minus would follow a sign. @param {number} value */
  const p = (value) => (value < 0 ? `(${n(value)})` : n(value));
  /** @param {...(Node|string)} parts */
  const line = (...parts) => element("p", { class: "line" }, ...parts);
  /** @param {string} key @param {Record<string, any>} [parts] */
  const note = (key, parts) => element("p", { class: "note" }, ...words.say(key, parts));
  /** @param {any[]} terms @returns {Cut} */
  const whole = (terms) => ({ shown: terms, hidden: 0, rest: 0 });
  /** That terms were left out, and the way to see them. @param {Cut} cut @param {string} key */
  const leftOut = (cut, key) => {
    if (!cut.hidden) return [];
    const total = count(cut.shown.length + cut.hidden);
    return [
      note(key, { shown: count(LARGEST), count: total }),
      element(
        "button",
        { type: "button", class: "more", onclick: showAll },
        ...words.say("page.panel.all", { count: total }),
      ),
    ];
  };

  switch (arithmetic.kind) {
    case "dot": {
      const cut = all ? whole(arithmetic.terms) : largest(arithmetic.terms, (term) => term.product);
      const sum = selection.step === "output" ? outputTable(cut) : sumOfTerms(cut, arithmetic);
      return [sum, ...leftOut(cut, "page.panel.largest")];
    }
    case "softmax": {
      if (arithmetic.none)
        return [line(result), note("page.panel.none", { query: tokenNode(scene.tokens[selection.row]) })];
      const { shares, numerator, denominator, max, column } = arithmetic;
      const cut = all ? whole(shares) : largest(shares, (share) => share.exp, shares[column]);
      return [
        line(`${n(numerator)} / ${n(denominator)} = `, result),
        softmaxTable(cut, arithmetic),
        note("page.panel.max", { max: n(max) }),
        ...leftOut(cut, "page.panel.largest.andthis"),
      ];
    }
    case "scale":
      return [line(`${n(arithmetic.value)} × ${p(arithmetic.scale)} = `, result)];
    case "cap": {
      const { value, softcap } = arithmetic;
      return [
        line(`${n(softcap)} · tanh(${n(value)} / ${n(softcap)})`),
        line(`= ${n(softcap)} · ${p(Math.tanh(value / softcap))} = `, result),
      ];
    }
    case "bias":
      return [line(`${n(arithmetic.value)} + ${p(arithmetic.bias)} = `, result)];
    case "mask":
      return [
        line(`${n(arithmetic.value)} → `, result),
        note(arithmetic.visible ? "page.panel.visible" : "page.panel.unseen"),
      ];
    default: {
      const { step } = selection;
      const from = step === "input" ? ".input" : isGiven(step) ? ".weight" : "";
      return [line(result), note(`page.panel.given${from}`)];
    }
  }

  /** a·b + a·b + … = result, each term tinted by what it adds. @param {Cut} cut */
  function sumOfTerms(cut, { plus }) {
    const colours = colourScale(cut.shown.map((term) => term.product));
    const terms = cut.shown.map((term, place) => {
      const title = words.text("page.panel.term", {
        feature: String(term.index),
        product: n(term.product),
      });
      const a = place ? p(term.a) : n(term.a);
      const node = element("span", { class: "term", title }, `${a}·${p(term.b)}`);
      paint(node, colours, term.product);
      return node;
    });
    if (cut.hidden) {
      const parts = { count: count(cut.hidden), sum: p(cut.rest) };
      terms.push(element("span", { class: "term rest" }, ...words.say("page.panel.rest", parts)));
    }
    if (plus !== null)
      terms.push(
        element("span", { class: "term plus" }, ...words.say("page.panel.plus", { bias: p(plus) })),
      );
    // A sign stays with the term after it when the line breaks.
    const line = element("p", { class: "line terms" });
    terms.forEach((term, place) =>
      line.append(place ? " " : "", element("span", { class: "unbroken" }, place ? "+ " : "", term)),
    );
    line.append(" ", element("span", { class: "unbroken" }, "= ", result));
    return line;
  }

  /** One row of a table: a token, what is computed, and what comes out. */
  function row(name, text, value, options = {}) {
    const cell = element("td", {}, options.strong ?? n(value));
    if (options.colours) {
      cell.classList.add("tinted");
      paint(cell, options.colours, value);
    }
    return element(
      "tr",
      { class: options.class },
      element("th", { scope: "row" }, ...name),
      element("td", {}, text),
      element("td", { class: "sign" }, "="),
      cell,
    );
  }

  /** @param {(Node|string)[]} heading @param {HTMLElement[]} rows @param {Cut} cut @param {HTMLElement[]} last */
  function table(heading, rows, cut, last) {
    const others = !cut.hidden
      ? []
      : [
          element(
            "tr",
            {},
            element(
              "th",
              { scope: "row", colspan: 3 },
              ...words.say("page.panel.others", { count: count(cut.hidden) }),
            ),
            element("td", {}, n(cut.rest)),
          ),
        ];
    return element(
      "table",
      { class: "shares" },
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          element("th", { scope: "col" }, ...words.say("page.panel.key")),
          element("th", { scope: "col", colspan: 3 }, ...heading),
        ),
      ),
      element("tbody", {}, ...rows, ...others, ...last),
    );
  }

  /** Weight × value for each key, and their sum. @param {Cut} cut */
  function outputTable(cut) {
    const colours = colourScale(cut.shown.map((term) => term.product));
    const rows = cut.shown.map((term) =>
      row([tokenNode(scene.keyTokens[term.index])], `${n(term.a)} × ${p(term.b)}`, term.product, {
        colours,
      }),
    );
    const total = row(["Σ"], "", arithmetic.result, { class: "total", strong: result });
    return table(words.say("page.panel.weightvalue"), rows, cut, [total]);
  }

  /** exp(s − max) for each key and the sink, and their sum. @param {Cut} cut */
  function softmaxTable(cut, { shares, max, sink, denominator, column }) {
    const colours = colourScale(shares.map((share) => share.exp));
    const power = (logit) => (logit === -Infinity ? "exp(−∞)" : `exp(${n(logit)} − ${p(max)})`);
    const rows = cut.shown.map((share) =>
      row([tokenNode(scene.keyTokens[share.index])], power(share.logit), share.exp, {
        colours,
        class: share.index === column ? "chosen" : null,
      }),
    );
    const last = [row(["Σ"], "", denominator, { class: "total" })];
    if (sink)
      last.unshift(row(words.say("page.panel.sink"), power(sink.logit), sink.exp, { class: "sink" }));
    return table(["exp(", symbol("s"), " − max)"], rows, cut, last);
  }
}
