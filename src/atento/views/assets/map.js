// The view of the map: the picture, what is pointed at, and what all maps have around them.

import { UNIT } from "./colours.js";
import { element, tokenNode } from "./dom.js";
import { mapPane } from "./map-pane.js";
import { chooser, plainTable, pressable, spoken } from "./view-parts.js";
import { parts } from "./weights.js";

const IN_LIST = 10;

/** Whether cells are pooled by their mean or their maximum. @param {ViewStage} stage */
export function poolChooser({ words, state, change }) {
  const pools = ["mean", "max"].map((name) => [name, words.text(`recording.pool.${name}`)]);
  return chooser("pool", words.text("recording.pool"), pools, state.pool, (pool) => change({ pool }));
}

/** Whether colours are of weights or of their logarithms. @param {ViewStage} stage */
export function colourChooser({ words, state, change }) {
  const kinds = [["1", words.text("recording.colours.log")], ["0", words.text("recording.colours.linear")]];
  return chooser("log", words.text("recording.colours"), kinds, state.log ? "1" : "0", (log) => change({ log: log === "1" }));
}

/** What all maps have above them: pooling, colours, zoom. @param {ViewStage} stage @param {() => any} pane */
export function mapTools(stage, pane) {
  const { words, change } = stage;
  const say = words.text;
  return element(
    "div.choices",
    poolChooser(stage),
    colourChooser(stage),
    element(
      "span",
      { class: "buttons", role: "group", "aria-label": say("recording.map.zoom") },
      pressable("−", () => pane().zoomBy(1), { "aria-label": say("recording.map.out") }),
      pressable("+", () => pane().zoomBy(-1), { "aria-label": say("recording.map.in") }),
      pressable(say("recording.map.whole"), () => change({ zoom: null, x: null, y: null })),
    ),
  );
}

/**
 * The strongest in view: a button that goes from one to the next, and a table of them.
 * @param {ViewStage} stage @param {() => any} pane @param {string} column
 */
export function strongestList(stage, pane, column) {
  const { words, state } = stage;
  const table = element("div.strongest");
  /** @type {Pair[]} */
  let list = [];
  let waiting = 0;
  const refresh = () => {
    list = pane().strongestInView(IN_LIST);
    const rows = list.map((one) => [
      pressable(words.number.full(one.weight), () => pane().choose(one), { class: "go" }),
      tokenNode(pane().names[0][one.row]),
      tokenNode(pane().names[1][one.col]),
    ]);
    const heads = [words.text(column), words.text("recording.query"), words.text("recording.key")];
    table.replaceChildren(plainTable(heads, rows, words.text("recording.map.strongest")));
  };
  const next = () => {
    refresh();
    const at = list.findIndex(({ row, col }) => row === state.row && col === state.col);
    if (list.length) pane().choose(list[(at + 1) % list.length]);
  };
  return {
    button: pressable(words.text("recording.map.next"), next),
    node: element("details.as-text", { open: true }, element("summary", words.text("recording.map.strongest")), table),
    later: () => {
      clearTimeout(waiting);
      waiting = setTimeout(refresh, 300);
    },
    stop: () => clearTimeout(waiting),
  };
}

/** Colours from 0 to the strongest. @param {ViewStage} stage @param {() => number} reach @param {boolean} signed */
export function mapLegend(stage, reach, signed) {
  const { words, state } = stage;
  const node = element("p.legend");
  let shown = "";
  const redraw = () => {
    const high = state.log ? "1" : words.number.full(reach());
    const now = `${high} ${state.log} ${stage.theme()}`;
    if (now === shown) return;
    shown = now;
    const grade = UNIT.grades(stage.theme());
    const ramp = element("span", { class: "ramp", "aria-hidden": "true" });
    for (let k = signed ? -4 : 0; k <= 4; k++) {
      const step = element("span");
      step.style.background = `rgb(${grade(k / 4)?.join(" ")})`;
      ramp.append(step);
    }
    const low = signed ? `−${high}` : state.log ? "2⁻¹⁷" : "0";
    node.replaceChildren(low, ramp, high, element("span.swatch.unseen"), words.text("recording.map.none"));
  };
  return { node, redraw };
}

/** @param {ViewStage} stage */
export function mapView(stage) {
  const { words, state, recording } = stage;
  const head = recording.head(state.layer, state.head);
  const readout = spoken("p.caption.readout");
  /** @type {Cell|null} */
  let hovered = null;
  const label = words.text("recording.map.label", { layer: String(state.layer), head: String(head.number) });
  /** @param {Cell|null} place */
  const point = (place) => {
    hovered = place;
    tell();
  };
  const drawn = () => {
    tell();
    legend.redraw();
    list.later();
  };
  const pane = mapPane(stage, [head], label, point, drawn);
  const legend = mapLegend(stage, pane.reach, false);
  const list = strongestList(stage, () => pane, "recording.weight");
  let told = "";
  const tell = () => {
    const place = hovered ?? { row: state.row, col: state.col };
    if (place.row == null || place.col == null || place.row >= head.Tq || place.col >= head.Tk) {
      if (told !== "ask") readout.replaceChildren(...words.say("recording.map.ask"));
      told = "ask";
      return;
    }
    const cell = pane.cellAt(place);
    const now = JSON.stringify([place, cell]);
    if (now === told) return;
    told = now;
    const { weight, dot, lse, sees } = parts(head, place.row, place.col);
    const { full } = words.number;
    const tokens = { query: tokenNode(pane.names[0][place.row]), key: tokenNode(pane.names[1][place.col]) };
    const numbers = { weight: element("b", full(weight)), dot: full(dot), lse: full(lse) };
    readout.replaceChildren(...words.say(sees ? "recording.map.pair" : "recording.map.unseen", { ...tokens, ...numbers }));
    if (!cell) return;
    const { side, mean, max } = cell;
    readout.append(" ", ...words.say("recording.map.cell", { side: String(side), mean: full(mean), max: full(max) }));
  };
  const tools = mapTools(stage, () => pane);
  tools.append(list.button);
  return {
    node: element("div", element("p.say", words.say("recording.map.say")), tools, readout, pane.node, legend.node, list.node),
    redraw: pane.redraw,
    destroy: () => {
      list.stop();
      pane.destroy();
    },
  };
}
