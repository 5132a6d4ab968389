// The page: reads the record, draws the steps, and joins what is pointed at to its arithmetic.

import { arithmeticPanel } from "./arithmetic-panel.js";
import { element } from "./dom.js";
import { equationLine } from "./equation.js";
import { hostLink } from "./host.js";
import { namesOf, plainLabel } from "./labels.js";
import { pageHeader } from "./page-header.js";
import { recordReader } from "./record.js";
import { CANVAS_FROM, stepSection } from "./steps.js";
import { tokensSection } from "./tokens-section.js";
import { wordsOf } from "./words.js";
import { arithmeticNodes, headline, known, PAIRED } from "./written-arithmetic.js";

const darkScheme = matchMedia("(prefers-color-scheme: dark)");
const onPaper = matchMedia("print");

/** Whatever goes wrong is said in words, not with an empty page. @param {unknown} error */
function fail(error) {
  const notice = document.getElementById("failure");
  notice.hidden = false;
  notice.classList.add("now");
  document.getElementById("failure-detail").textContent = String(
    error instanceof Error ? error.message : error,
  );
}

/** Queries, keys and values stand side by side where there is room. */
function threeBeside(sections, run) {
  const node = element("div", { class: "trio" }, ...sections);
  const cols = Math.max(run.head.queries.cols, run.head.values.cols);
  const large =
    Math.max(...["queries", "keys", "values"].map((name) => run.steps.get(name).matrix.data.length)) >
    CANVAS_FROM;
  node.style.setProperty("--need", cols <= 8 && !large ? `${4.2 + cols * 3.45}rem` : "100%");
  return node;
}

/** The cell to start with: the link that the reason names, or else the largest weight. */
function firstCell(record, run) {
  const { query, key } = record.reason;
  if (query !== null && key !== null) return { step: "weights", row: query, col: key };
  const { cols, data } = run.steps.get("weights").matrix;
  if (!data.length) return null;
  const place = data.reduce((best, value, p) => (value > data[best] ? p : best), 0);
  return { step: "weights", row: Math.floor(place / cols), col: place % cols };
}

async function start() {
  const { lang, words: dictionaries, record } = JSON.parse(document.getElementById("data").textContent);
  const app = document.getElementById("app");
  const read = await recordReader(record);
  const tokens = namesOf(record.tokens);
  const keyTokens = record.keyTokens ? namesOf(record.keyTokens) : tokens;
  const state = { layer: record.layer, head: record.head, lang, languages: Object.keys(dictionaries) };
  /** @type {import("./written-arithmetic.js").Selection|null} */
  let chosen = null;
  /** @type {import("./written-arithmetic.js").Selection|null} */
  let pointed = null;
  /** @type {any} */
  let drawn = null;
  /** Tells the page around. */
  let tell = () => {};

  const theme = () => (darkScheme.matches && !onPaper.matches ? "dark" : "light");

  /** The cell that is shown: pointed at, or else chosen. Everything that hangs on it. */
  const follow = () => {
    const { scene, drawings, panel, tokensPart } = drawn;
    const selection = pointed ?? chosen;
    panel.show(scene, selection);
    document.body.classList.toggle("with-panel", selection !== null);
    const marks = new Map();
    /** @param {string} step @param {import("./matrix-table.js").Mark} mark */
    const add = (step, mark) => marks.set(step, [...(marks.get(step) ?? []), mark]);
    let queryRow = null;
    if (selection) {
      const { step, row, col } = selection;
      add(step, { row, col: null, kind: "along" });
      add(step, { row: null, col, kind: "along" });
      for (const source of known(scene, selection).sources)
        add(source.step, { row: source.row, col: source.col, kind: "source" });
      add(step, { row, col, kind: "here" });
      if (PAIRED.includes(step) || step === "output" || step === "queries") queryRow = row;
    }
    for (const [name, drawing] of drawings) drawing.mark(marks.get(name) ?? []);
    tokensPart.tint(queryRow);
  };

  /** On paper, the arithmetic of the chosen cell stands with its matrix. */
  const print = () => {
    for (const node of app.querySelectorAll(".printed")) node.replaceChildren();
    const place = chosen && document.querySelector(`#step-${chosen.step} > .printed`);
    if (place)
      place.append(
        element("p", { class: "headline" }, ...headline(drawn.scene, chosen)),
        ...arithmeticNodes(drawn.scene, chosen, false, () => {}),
      );
  };

  const choose = (selection) => {
    document.body.classList.remove("quiet");
    chosen = selection;
    pointed = null;
    follow();
    print();
    tell();
    // On a phone the panel is a sheet over the page: the cell must not be under it.
    const sheet = drawn.panel.node.getBoundingClientRect();
    const box = drawn.drawings.get(selection.step).box(selection.row, selection.col);
    if (box.bottom > sheet.top && box.left < sheet.right && box.right > sheet.left) {
      window.scrollBy(0, box.bottom - sheet.top + 12);
    }
  };
  const close = () => {
    chosen = null;
    pointed = null;
    follow();
    print();
    tell();
  };

  const go = (step) => {
    const title = document.getElementById(`title-${step}`);
    title.closest("section").scrollIntoView();
    title.focus({ preventScroll: true });
    drawn.equation.mark(step);
  };

  const draw = () => {
    const words = wordsOf(dictionaries, state.lang);
    const run = read(state.layer, state.head);
    const scene = { words, run, tokens, keyTokens };
    document.documentElement.lang = state.lang;
    document.title = `${tokens
      .slice(0, 12)
      .map(({ text }) => plainLabel(text, 24))
      .join(" ")}${tokens.length > 12 ? " …" : ""} · ${words.text("page.title")}`;
    const drawings = new Map();
    const main = element("main");
    const stage = {
      scene,
      drawings,
      choose,
      close,
      theme,
      point: (selection) => {
        pointed = selection;
        follow();
      },
      width: () => main.clientWidth,
    };
    const panel = arithmeticPanel(close);
    const tokensPart = tokensSection(stage);
    const equation = equationLine(scene, go);
    const names = [...(run.input ? ["input"] : []), ...run.steps.keys()];
    const projected = ["queries", "keys", "values"];
    const beside = names.filter((name) => projected.includes(name)).map((name) => stepSection(stage, name));
    for (const name of names) {
      if (name === "queries") main.append(threeBeside(beside, run));
      if (!projected.includes(name)) main.append(stepSection(stage, name));
    }
    main.prepend(tokensPart.section);
    app.replaceChildren(
      pageHeader(record, scene, state, change),
      equation.node,
      element("div", { class: "columns" }, main, panel.node),
      element("footer", {}, element("p", {}, ...words.say("page.footer"))),
    );
    app.hidden = false;
    if (drawn) drawn.observer.disconnect();
    else chosen = firstCell(record, run);
    const observer = new IntersectionObserver(
      (entries) => {
        for (const entry of entries)
          if (entry.isIntersecting) equation.mark(entry.target.id.replace("step-", ""));
      },
      { rootMargin: "-30% 0px -60% 0px" },
    );
    for (const section of main.querySelectorAll(".step")) observer.observe(section);
    drawn = { scene, drawings, panel, tokensPart, equation, observer };
    if (chosen && !drawings.has(chosen.step)) chosen = null;
    for (const drawing of drawings.values()) drawing.redraw();
    if (chosen) drawings.get(chosen.step)?.focus(chosen.row, chosen.col, false);
    follow();
    print();
  };

  /** @param {Partial<{layer: number, head: number, lang: string}>} wanted */
  const change = (wanted) => {
    const focused = document.activeElement?.id;
    Object.assign(state, wanted);
    state.head = Math.min(state.head, record.layers[state.layer].heads - 1);
    draw();
    if (focused) document.getElementById(focused)?.focus();
    tell();
  };

  /** What the page around wants to be looked at; what is not there stays as it is. @param {Record<string, any>} wanted */
  const look = (wanted) => {
    const found = {};
    const among = (value, count) => Number.isInteger(value) && value >= 0 && value < count;
    if (among(wanted.layer, record.layers.length)) found.layer = wanted.layer;
    if (among(wanted.head, record.layers[found.layer ?? state.layer].heads)) found.head = wanted.head;
    if (state.languages.includes(wanted.lang)) found.lang = wanted.lang;
    if (Object.entries(found).some(([name, value]) => state[name] !== value)) change(found);
    const { step, row, col } = { ...chosen, ...wanted };
    const matrix = drawn.drawings.has(step) && drawn.scene.run.steps.get(step)?.matrix;
    if (step === null) chosen = null;
    else if (matrix && among(row, matrix.rows) && among(col, matrix.cols)) {
      chosen = { step, row, col };
      drawn.drawings.get(step).focus(row, col, false);
    }
    follow();
    print();
  };

  const redraw = () => {
    for (const drawing of drawn.drawings.values()) drawing.redraw();
    follow();
  };
  document.body.classList.add("quiet"); // on a phone, no panel before somebody asks
  draw();
  let waiting = 0;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(redraw, 120);
  });
  darkScheme.addEventListener("change", redraw);
  onPaper.addEventListener("change", redraw);
  document.getElementById("failure").hidden = true;
  tell = hostLink(() => {
    const { layer, head, lang } = state;
    return { layer, head, lang, ...(chosen ?? { step: null, row: null, col: null }) };
  }, look);
}

window.addEventListener("error", (event) => fail(event.error ?? event.message));
start().catch(fail);
