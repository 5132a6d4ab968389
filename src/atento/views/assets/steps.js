// The steps of the equation as sections: what happens, the formula with this run's sizes, the matrix.

import { colourScale } from "./colours.js";
import { element, symbol } from "./dom.js";
import { usualScale } from "./equation.js";
import { plainLabel } from "./labels.js";
import { matrixCanvas } from "./matrix-canvas.js";
import { matrixTable } from "./matrix-table.js";
import { ramp, unfolding } from "./view-parts.js";
import { PAIRED } from "./written-arithmetic.js";

/** From so many cells on, a canvas: the page must not grow with them. */
export const CANVAS_FROM = 400;

/** @type {Record<string, string>} */
const SYMBOLS = { queries: "Q", keys: "K", values: "V", input: "X" };

/** @param {string} letter @param {string} sub */
const indexed = (letter, sub) => element("span.symbol", { translate: "no" }, symbol(letter), element("sub", sub));

/** @param {Matrix} m */
const size = (m) => `${m.rows}×${m.cols}`;

/** The formula of a step with this run's numbers. @param {Scene} scene @param {string} name @param {Matrix} matrix */
function formula({ run: { steps, head, projections, input }, words }, name, matrix) {
  const n = words.number.full;
  /** @param {string} step */
  const term = (step) => words.text(`page.term.${step}`);
  const before = term(steps.get(name)?.previous ?? "");
  /** @param {...any} list */
  const shapes = (...list) => element("span.shapes", list);
  /** @param {...any} parts */
  const maps = (...parts) => shapes(`${parts.join(" · ")} → ${size(matrix)}`);
  const map = input && projections?.[name];
  if (SYMBOLS[name]) {
    const letter = symbol(SYMBOLS[name]);
    if (!map) return [letter, shapes(size(matrix))];
    const [weight, bias] = ["W", "b"].map((one) => indexed(one, SYMBOLS[name]));
    return [letter, " = ", symbol("X"), " ", weight, " + ", bias, maps(`(${size(input)})`, `(${size(map.weight)})`)];
  }
  const softcap = head.softcap ?? NaN;
  /** @type {Record<string, () => any[]>} */
  const parts = {
    scores: () => [symbol("Q"), " ", symbol("K"), "ᵀ", maps(`(${size(head.queries)})`, `(${head.keys.cols}×${head.keys.rows})`)],
    scaled: () => [
      `${before} × ${n(head.scale)}`,
      usualScale(head) && shapes(`1/√${head.queries.cols} = ${n(head.scale)}`),
    ],
    capped: () => [`${n(softcap)} · tanh(${before} / ${n(softcap)})`],
    biased: () => [`${before} + ${term("bias")}`],
    masked: () => words.say("page.formula.masked", { before }),
    weights: () => [
      `softmax(${before})`,
      head.sink !== null && shapes(words.say("page.formula.sink", { sink: n(head.sink) })),
    ],
    output: () => [`${before} · `, symbol("V"), maps(`(${size(steps.get("weights").matrix)})`, `(${size(head.values)})`)],
  };
  return [`${term(name)} = `, ...parts[name]()];
}

/** The sentence of a step, which may depend on how the run was. @param {Scene} scene @param {string} name */
function sentence({ run, words }, name) {
  const given = !run.projections && SYMBOLS[name] ? ".given" : "";
  const parts = { cap: words.number.full(run.head.softcap ?? 0), sizeX: String(run.input?.cols ?? "") };
  const result = words.say(`page.say.${name}${given}`, parts);
  if ((name === "keys" || name === "values") && run.group > 1)
    result.push(" ", ...words.say("page.say.shared", { count: words.number.count(run.group) }));
  if (name === "weights" && run.head.sink !== null) result.push(" ", ...words.say("page.say.sink"));
  return result;
}

/** @param {Stage} stage @param {string} name of a step, "input" or "weight-…" @param {Matrix} matrix */
function drawing({ scene, drawings, point, choose, close, theme, width }, name, matrix) {
  const { words, run } = scene;
  /** @param {Name[]} names */
  const tokens = (names) => names.map((one) => ({ ...one, token: true }));
  /** @param {number} count */
  const numbers = (count) => Array.from({ length: count }, (_, i) => ({ text: String(i), mark: "" }));
  const paired = PAIRED.includes(name);
  const learned = name.startsWith("weight-");
  const { mask } = run.head;
  const { count } = words.number;
  const parts = { name: words.text(`page.step.${name}`), rows: count(matrix.rows), cols: count(matrix.cols) };
  /** @type {MatrixView} */
  const view = {
    title: words.text("page.matrix.title", parts),
    matrix,
    rows: learned ? numbers(matrix.rows) : tokens(name === "keys" || name === "values" ? scene.keyTokens : scene.tokens),
    cols: paired ? tokens(scene.keyTokens) : numbers(matrix.cols),
    rowAxis: words.text(learned ? "page.axis.feature" : "page.axis.query"),
    colAxis: words.text(paired ? "page.axis.key" : "page.axis.feature"),
    colours: colourScale(matrix.data),
    words,
    unseen: name === "weights" && mask ? (p) => !mask[p] : () => false,
    width,
    point: (cell) => point(cell && { step: name, ...cell }),
    choose: (row, col) => choose({ step: name, row, col }),
    close,
  };
  const large = matrix.data.length > CANVAS_FROM;
  drawings.set(name, large ? matrixCanvas(view, theme) : matrixTable(view));
  return element(
    "div.matrix-block",
    drawings.get(name).node,
    matrix.data.length > 0 && legend(view),
    large && unfolding(words.say("page.astext"), () => asText(view), "details.as-text"),
  );
}

/** From which number to which the colours reach. @param {MatrixView} view */
function legend({ colours, words, matrix, unseen }) {
  const { reach, signed } = colours;
  const { full } = words.number;
  return element(
    "p.legend",
    full(signed ? -reach : 0),
    ramp(colours, 5),
    full(reach),
    matrix.data.some((value, p) => value === -Infinity || unseen(p)) && [
      element("span.swatch.unseen", { "aria-hidden": "true" }),
      ...words.say("page.legend.unseen"),
    ],
  );
}

/** A large matrix as text: one text node, whatever its size. @param {MatrixView} view */
function asText({ words, matrix: { data, cols }, rows, cols: heads }) {
  /** @param {Name} name */
  const clean = ({ text, mark }) => plainLabel(text, 40) + mark;
  /** @param {number} row */
  const numbers = (row) => Array.from(data.subarray(row * cols, (row + 1) * cols), (value) => words.number.full(value));
  const lines = [["", ...heads.map(clean)], ...rows.map((one, row) => [clean(one), ...numbers(row)])];
  return element("pre.matrix-text", { tabindex: 0 }, lines.map((line) => line.join("\t")).join("\n"));
}

/** The map that makes queries, keys or values. @param {Stage} stage @param {string} name */
function learnedMap(stage, name) {
  const { weight } = /** @type {any} */ (stage.scene.run.projections)[name];
  const make = () => {
    const node = drawing(stage, `weight-${name}`, weight);
    queueMicrotask(() => stage.drawings.get(`weight-${name}`).redraw());
    return node;
  };
  const label = stage.scene.words.say("page.learned", { map: indexed("W", SYMBOLS[name]), size: size(weight) });
  return unfolding(label, make, "details.learned");
}

/** @param {Stage} stage @param {string} name */
export function stepSection(stage, name) {
  const { run, words } = stage.scene;
  const matrix = /** @type {Matrix} */ (name === "input" ? run.input : run.steps.get(name).matrix);
  const letter = SYMBOLS[name];
  return element(
    "section.step",
    { id: `step-${name}`, "data-step": name, "aria-labelledby": `title-${name}` },
    element("h2", { id: `title-${name}`, tabindex: -1 }, words.say(`page.step.${name}`), letter && [" ", symbol(letter)]),
    element("p.say", sentence(stage.scene, name)),
    element("p.formula", formula(stage.scene, name, matrix)),
    drawing(stage, name, matrix),
    run.projections?.[name] && learnedMap(stage, name),
    element("div.printed", { "aria-hidden": "true" }),
  );
}
