// The steps of the equation as sections: what happens, the formula with this run's sizes, the matrix.

import { colourScale, paint } from "./colours.js";
import { element, symbol } from "./dom.js";
import { plainLabel } from "./labels.js";
import { matrixCanvas } from "./matrix-canvas.js";
import { matrixTable } from "./matrix-table.js";
import { PAIRED } from "./written-arithmetic.js";

/** From so many cells on, a canvas: the page must not grow with them. */
export const CANVAS_FROM = 400;

const SYMBOLS = { queries: "Q", keys: "K", values: "V", input: "X" };

/**
 * What sections need of the page beside the scene.
 * @typedef {{ scene: import("./written-arithmetic.js").Scene, drawings: Map<string, import("./matrix-table.js").Drawing>,
 *   point: (selection: import("./written-arithmetic.js").Selection|null) => void,
 *   choose: (selection: import("./written-arithmetic.js").Selection) => void, close: () => void,
 *   theme: () => "light"|"dark", width: () => number }} Stage
 */

/** @param {string} letter @param {string} sub */
function indexed(letter, sub) {
  return element("span", { class: "symbol", translate: "no" }, symbol(letter), element("sub", {}, sub));
}

/** @param {import("./attention.js").Matrix} m */
const size = (m) => `${m.rows}×${m.cols}`;

/** The formula of a step with this run's numbers. @param {Stage} stage @param {string} name */
function formula({ scene }, name) {
  const { run, words } = scene;
  const n = words.number.full;
  const step = run.steps.get(name);
  const before = step?.previous ? words.text(`page.term.${step.previous}`) : "";
  const own = words.text(`page.term.${name}`);
  const { head } = run;
  const shapes = (...list) => element("span", { class: "shapes" }, ...list);
  switch (name) {
    case "input":
      return [symbol("X"), shapes(size(run.input))];
    case "queries":
    case "keys":
    case "values": {
      const letter = SYMBOLS[name];
      const map = run.projections?.[name];
      if (!map) return [symbol(letter), shapes(size(step.matrix))];
      return [
        symbol(letter),
        " = ",
        symbol("X"),
        " ",
        indexed("W", letter),
        " + ",
        indexed("b", letter),
        shapes(`(${size(run.input)}) · (${size(map.weight)}) → ${size(step.matrix)}`),
      ];
    }
    case "scores":
      return [
        `${own} = `,
        symbol("Q"),
        " ",
        symbol("K"),
        "ᵀ",
        shapes(`(${size(head.queries)}) · (${head.keys.cols}×${head.keys.rows}) → ${size(step.matrix)}`),
      ];
    case "scaled": {
      const usual = Math.abs(head.scale * Math.sqrt(head.queries.cols) - 1) < 1e-9;
      return [
        `${own} = ${before} × ${n(head.scale)}`,
        usual ? shapes(`1/√${head.queries.cols} = ${n(head.scale)}`) : null,
      ];
    }
    case "capped":
      return [`${own} = ${n(head.softcap)} · tanh(${before} / ${n(head.softcap)})`];
    case "biased":
      return [`${own} = ${before} + ${words.text("page.term.bias")}`];
    case "masked":
      return [`${own} = `, ...words.say("page.formula.masked", { before })];
    case "weights":
      return [
        `${own} = softmax(${before})`,
        head.sink == null ? null : shapes(...words.say("page.formula.sink", { sink: n(head.sink) })),
      ];
    case "output":
      return [
        `${own} = ${before} · `,
        symbol("V"),
        shapes(
          `(${size(run.steps.get("weights").matrix)}) · (${size(head.values)}) → ${size(step.matrix)}`,
        ),
      ];
    default:
      return [];
  }
}

/** The sentence of a step, which may depend on how the run was. @param {Stage} stage @param {string} name */
function sentence({ scene }, name) {
  const { run, words } = scene;
  const given = !run.projections;
  const parts = { cap: words.number.full(run.head.softcap ?? 0), sizeX: String(run.input?.cols ?? "") };
  let key = `page.say.${name}`;
  if (given && SYMBOLS[name]) key += ".given";
  const result = [...words.say(key, parts)];
  if ((name === "keys" || name === "values") && run.group > 1) {
    result.push(" ", ...words.say("page.say.shared", { count: words.number.count(run.group) }));
  }
  if (name === "weights" && run.head.sink != null) result.push(" ", ...words.say("page.say.sink"));
  return result;
}

/** @param {Stage} stage @param {string} name of a step, "input" or "weight-…" @param {import("./attention.js").Matrix} matrix */
function drawing(stage, name, matrix) {
  const { scene } = stage;
  const { words, run } = scene;
  const tokenLabels = (tokens) => tokens.map((name) => ({ ...name, token: true }));
  const numbers = (count) =>
    Array.from({ length: count }, (_, i) => ({ text: String(i), mark: "", token: false }));
  const ofKeys = name === "keys" || name === "values";
  const paired = PAIRED.includes(name);
  const learned = name.startsWith("weight-");
  const mask = run.head.mask;
  const view = {
    name,
    title: words.text("page.matrix.title", {
      name: words.text(`page.step.${name}`),
      rows: words.number.count(matrix.rows),
      cols: words.number.count(matrix.cols),
    }),
    matrix,
    rows: learned ? numbers(matrix.rows) : tokenLabels(ofKeys ? scene.keyTokens : scene.tokens),
    cols: paired ? tokenLabels(scene.keyTokens) : numbers(matrix.cols),
    rowAxis: words.text(learned ? "page.axis.feature" : "page.axis.query"),
    colAxis: words.text(paired ? "page.axis.key" : "page.axis.feature"),
    colours: colourScale(matrix.data),
    words,
    unseenAt: name === "weights" && mask ? (row, col) => !mask[row * matrix.cols + col] : () => false,
    width: stage.width,
    point: (cell) => stage.point(cell && { step: name, ...cell }),
    choose: (row, col) => stage.choose({ step: name, row, col }),
    close: stage.close,
  };
  const large = matrix.rows * matrix.cols > CANVAS_FROM;
  const drawn = large ? matrixCanvas(view, stage.theme) : matrixTable(view);
  stage.drawings.set(name, drawn);
  const parts = [drawn.node, legend(view)];
  if (large) parts.push(asText(view));
  return element("div", { class: "matrix-block" }, ...parts);
}

/** From which number to which the colours reach. */
function legend(view) {
  const { colours, words, matrix } = view;
  if (!matrix.data.length) return "";
  const places = colours.signed ? [-1, -0.5, 0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1];
  const ramp = element("span", { class: "ramp", "aria-hidden": "true" });
  for (const place of places) {
    const swatch = element("span");
    paint(swatch, colours, place * (colours.reach || 1));
    ramp.append(swatch);
  }
  const [from, to] = [colours.signed ? -colours.reach : 0, colours.reach];
  const parts = [words.number.full(from), ramp, words.number.full(to)];
  const unseen =
    matrix.data.includes(-Infinity) ||
    (view.name === "weights" &&
      matrix.data.some((_, p) => view.unseenAt(Math.floor(p / matrix.cols), p % matrix.cols)));
  if (unseen)
    parts.push(
      element("span", { class: "swatch unseen", "aria-hidden": "true" }),
      ...words.say("page.legend.unseen"),
    );
  return element("p", { class: "legend" }, ...parts);
}

/** A large matrix as text, made when asked for: one text node, whatever its size. */
function asText(view) {
  const { words, matrix } = view;
  const details = element(
    "details",
    { class: "as-text" },
    element("summary", {}, ...words.say("page.astext")),
  );
  details.addEventListener("toggle", () => {
    if (!details.open || details.childElementCount > 1) return;
    const clean = (label) => plainLabel(label.text, 40) + label.mark;
    const lines = [["", ...view.cols.map(clean)].join("\t")];
    view.rows.forEach((label, row) => {
      const numbers = matrix.data.subarray(row * matrix.cols, (row + 1) * matrix.cols);
      lines.push([clean(label), ...Array.from(numbers, (value) => words.number.full(value))].join("\t"));
    });
    details.append(element("pre", { tabindex: 0, class: "matrix-text" }, lines.join("\n")));
  });
  return details;
}

/** The map that makes queries, keys or values, drawn when asked for. @param {Stage} stage @param {string} name */
function learnedMap(stage, name) {
  const { words, run } = stage.scene;
  const matrix = run.projections[name].weight;
  const details = element(
    "details",
    { class: "learned" },
    element(
      "summary",
      {},
      ...words.say("page.learned", { map: indexed("W", SYMBOLS[name]), size: size(matrix) }),
    ),
  );
  details.addEventListener("toggle", () => {
    if (!details.open || details.childElementCount > 1) return;
    details.append(drawing(stage, `weight-${name}`, matrix));
    stage.drawings.get(`weight-${name}`).redraw();
  });
  return details;
}

/** @param {Stage} stage @param {string} name */
export function stepSection(stage, name) {
  const { scene } = stage;
  const matrix = name === "input" ? scene.run.input : scene.run.steps.get(name).matrix;
  const letter = SYMBOLS[name];
  return element(
    "section",
    { id: `step-${name}`, class: "step", "data-step": name, "aria-labelledby": `title-${name}` },
    element(
      "h2",
      { id: `title-${name}`, tabindex: -1 },
      ...scene.words.say(`page.step.${name}`),
      letter ? " " : null,
      letter ? symbol(letter) : null,
    ),
    element("p", { class: "say" }, ...sentence(stage, name)),
    element("p", { class: "formula" }, ...formula(stage, name)),
    drawing(stage, name, matrix),
    scene.run.projections?.[name] ? learnedMap(stage, name) : null,
    element("div", { class: "printed", "aria-hidden": "true" }),
  );
}
