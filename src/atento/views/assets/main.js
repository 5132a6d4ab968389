// The page: reads the record, draws the steps, and joins what is pointed at to its arithmetic.

import { explain } from "./arithmetic.js";
import { arithmeticPanel } from "./arithmetic-panel.js";
import { byId, element } from "./dom.js";
import { equationLine } from "./equation.js";
import { hostLink } from "./host.js";
import { namesOf } from "./labels.js";
import { openPage, pageTheme, startOf, whenLooksChange } from "./page-frame.js";
import { pageHeader } from "./page-header.js";
import { recordReader } from "./record.js";
import { CANVAS_FROM, stepSection } from "./steps.js";
import { tokensSection } from "./tokens-section.js";
import { among } from "./view-parts.js";
import { wordsOf } from "./words.js";
import { arithmeticNodes, headline, PAIRED } from "./written-arithmetic.js";

const PROJECTED = ["queries", "keys", "values"];

/** Queries, keys and values stand side by side where there is room. @param {Node[]} sections @param {Run} run */
function threeBeside(sections, { steps, head }) {
  const node = element("div.trio", sections);
  const cols = Math.max(head.queries.cols, head.values.cols);
  const small = PROJECTED.every((name) => steps.get(name).matrix.data.length <= CANVAS_FROM);
  node.style.setProperty("--need", cols <= 8 && small ? `${4.2 + cols * 3.45}rem` : "100%");
  return node;
}

openPage(async ({ lang, words: dictionaries, record }) => {
  const app = byId("app");
  const read = await recordReader(record);
  const tokens = namesOf(record.tokens);
  const keyTokens = record.keyTokens ? namesOf(record.keyTokens) : tokens;
  /** @type {Record<string, any>} */
  const state = { layer: record.layer, head: record.head, lang, languages: Object.keys(dictionaries) };
  /** @type {Picked|null} */
  let chosen = record.first && { step: "weights", row: record.first[0], col: record.first[1] };
  /** @type {any} */
  let drawn = null;
  // The page around.
  let tell = () => {};

  /** The cell that is shown, pointed at or chosen, and everything that hangs on it. @param {Picked|null} selection */
  const follow = (selection) => {
    const { scene, drawings, panel, tokensPart } = drawn;
    panel.show(scene, selection);
    document.body.classList.toggle("with-panel", selection !== null);
    const marks = /** @type {Known<Mark[]>} */ (new Map([...drawings.keys()].map((name) => [name, []])));
    if (selection) {
      const { step, row, col } = selection;
      marks.get(step).push({ row, col: null, kind: "along" }, { row: null, col, kind: "along" });
      for (const source of explain(scene.run, step, row, col).sources) marks.get(source.step)?.push({ ...source, kind: "source" });
      marks.get(step).push({ row, col, kind: "here" });
    }
    for (const [name, drawing] of drawings) drawing.mark(marks.get(name));
    tokensPart.tint(selection && [...PAIRED, "output", "queries"].includes(selection.step) ? selection.row : null);
  };
  /** What is chosen stays: marked, and on paper with its arithmetic beside the matrix. @param {Picked|null} selection */
  const keep = (selection) => {
    chosen = selection;
    follow(chosen);
    for (const node of app.querySelectorAll(".printed")) node.replaceChildren();
    if (selection)
      app
        .querySelector(`#step-${selection.step} > .printed`)
        ?.append(element("p.headline", headline(drawn.scene, selection)), ...arithmeticNodes(drawn.scene, selection, false, () => {}));
    tell();
  };
  const close = () => keep(null);
  /** @param {Picked} selection */
  const choose = (selection) => {
    document.body.classList.remove("quiet");
    keep(selection);
    // On a phone the panel is a sheet over the page: the cell must not be under it.
    const sheet = drawn.panel.node.getBoundingClientRect();
    const box = drawn.drawings.get(selection.step).box(selection.row, selection.col);
    if (box.bottom > sheet.top && box.left < sheet.right && box.right > sheet.left) scrollBy(0, box.bottom - sheet.top + 12);
  };
  /** @param {string} step */
  const go = (step) => {
    const title = byId(`title-${step}`);
    title.closest("section").scrollIntoView();
    title.focus({ preventScroll: true });
    drawn.equation.mark(step);
  };
  const redraw = () => {
    for (const drawing of drawn.drawings.values()) drawing.redraw();
    follow(chosen);
  };

  const draw = () => {
    const words = wordsOf(dictionaries, state.lang);
    const run = read(state.layer, state.head);
    const scene = { words, run, tokens, keyTokens };
    document.documentElement.lang = state.lang;
    document.title = `${startOf(tokens)} · ${words.text("page.title")}`;
    const drawings = /** @type {Known<Drawing>} */ (new Map());
    const main = element("main");
    /** @param {Picked|null} selection */
    const point = (selection) => follow(selection ?? chosen);
    const stage = { scene, drawings, choose, close, theme: pageTheme, point, width: () => main.clientWidth };
    const panel = arithmeticPanel(close);
    const tokensPart = tokensSection(stage);
    const equation = equationLine(scene, go);
    const others = [...run.steps.keys()].filter((name) => !PROJECTED.includes(name));
    main.append(
      tokensPart.section,
      ...(run.input ? [stepSection(stage, "input")] : []),
      threeBeside(PROJECTED.map((name) => stepSection(stage, name)), run),
      ...others.map((name) => stepSection(stage, name)),
    );
    app.replaceChildren(
      pageHeader(record, scene, state, change),
      equation.node,
      element("div.columns", main, panel.node),
      element("footer", element("p", words.say("page.footer"))),
    );
    app.hidden = false;
    drawn?.observer.disconnect();
    const observer = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) if (isIntersecting) equation.mark(/** @type {any} */ (target).dataset.step);
      },
      { rootMargin: "-30% 0px -60% 0px" },
    );
    for (const section of main.querySelectorAll(".step")) observer.observe(section);
    drawn = { scene, drawings, panel, tokensPart, equation, observer };
    if (chosen && !drawings.has(chosen.step)) chosen = null;
    redraw();
    if (chosen) drawings.get(chosen.step).focus(chosen.row, chosen.col);
    keep(chosen);
  };

  /** @param {Record<string, any>} wanted of layer, head and lang */
  const change = (wanted) => {
    const focused = document.activeElement?.id ?? "";
    Object.assign(state, wanted);
    state.head = Math.min(state.head, record.layers[state.layer].heads - 1);
    draw();
    byId(focused)?.focus();
  };
  /** What the page around wants to be looked at; what is not there stays as it is. @param {Record<string, any>} wanted */
  const look = (wanted) => {
    /** @type {Record<string, any>} */
    const found = {};
    if (among(wanted.layer, record.layers.length)) found.layer = wanted.layer;
    if (among(wanted.head, record.layers[found.layer ?? state.layer].heads)) found.head = wanted.head;
    if (state.languages.includes(wanted.lang)) found.lang = wanted.lang;
    if (Object.entries(found).some(([name, value]) => state[name] !== value)) change(found);
    const { step, row, col } = /** @type {any} */ ({ ...chosen, ...wanted });
    const drawing = drawn.drawings.get(step);
    const matrix = drawing && drawn.scene.run.steps.get(step)?.matrix;
    if (step === null) return keep(null);
    if (!matrix || !among(row, matrix.rows) || !among(col, matrix.cols)) return keep(chosen);
    drawing.focus(row, col);
    keep({ step, row, col });
  };

  // On a phone, no panel before somebody asks.
  document.body.classList.add("quiet");
  draw();
  whenLooksChange(redraw);
  tell = hostLink(() => {
    const { layer, head } = state;
    return { layer, head, lang: state.lang, ...(chosen ?? { step: null, row: null, col: null }) };
  }, look);
});
