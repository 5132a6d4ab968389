// The view of the map: the picture, what is pointed at, and what all maps have around them.

import { UNIT } from "./colours.js";
import { element, tokenNode } from "./dom.js";
import { mapPane } from "./map-pane.js";
import { chooser, plainTable, pressable, ramp, spoken } from "./view-parts.js";
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

/** What all maps have above them: pooling, colours, zoom. @param {ViewStage} stage @param {() => any} pane @param {Node} after */
function mapTools(stage, pane, after) {
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
    after,
  );
}

/**
 * The strongest in view: a button that goes from one to the next, and a table of them.
 * @param {ViewStage} stage @param {() => any} pane @param {string} column
 */
function strongestList(stage, pane, column) {
  const { words, state, tokens } = stage;
  const table = element("div.strongest");
  /** @type {Pair[]} */
  let list = [];
  let waiting = 0;
  const refresh = () => {
    list = pane().strongestInView(IN_LIST);
    const rows = list.map((one) => [
      pressable(words.number.full(one.weight), () => pane().choose(one), { class: "go" }),
      tokenNode(tokens.query[one.row]),
      tokenNode(tokens.key[one.col]),
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
function mapLegend({ words, state }, reach, signed) {
  const node = element("p.legend");
  let shown = "";
  const redraw = () => {
    const high = state.log ? "1" : words.number.full(reach());
    const low = signed ? `−${high}` : state.log ? "2⁻¹⁷" : "0";
    if (shown === low + high) return;
    shown = low + high;
    node.replaceChildren(low, ramp(UNIT, signed ? 9 : 5, signed), high, element("span.swatch.unseen"), words.text("recording.map.none"));
  };
  return { node, redraw };
}

/**
 * One map or several of one place, and what stands around them: tools, what is told of a pair, colours, the strongest.
 * @param {ViewStage} stage @param {string} about what the maps show @param {MapGiven[]} maps the strongest are those of the last
 * @param {string} column of the list of the strongest
 * @param {(row: number, col: number, pane: any) => (Node|string)[]} told @returns {View}
 */
export function mapsAround(stage, about, maps, column, told) {
  const { words, state, head } = stage;
  const readout = spoken("p.caption.readout");
  /** @type {Cell|null} */
  let hovered = null;
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
  const panes = maps.map((map, at) => mapPane({ ...stage, ...map }, map.heads, map.name, point, maps[at + 1] ? () => {} : drawn));
  const last = () => panes[panes.length - 1];
  const legend = mapLegend(stage, () => last().reach(), maps.length > 1);
  const list = strongestList(stage, last, column);
  const tell = () => {
    const { row, col } = hovered ?? state;
    const there = row != null && col != null && row < head.Tq && col < head.Tk;
    const said = there ? told(row, col, last()) : words.say("recording.map.ask");
    // What is said again is not read out again.
    if (element("p", said).textContent !== readout.textContent) readout.replaceChildren(...said);
  };
  const figures = panes.map(({ node }, at) => element("figure", element("figcaption", maps[at].name), node));
  const pictures = maps.length > 1 ? element("div.beside", figures) : last().node;
  return {
    node: element("div", element("p.say", words.say(about)), mapTools(stage, last, list.button), readout, pictures, legend.node, list.node),
    redraw: () => panes.forEach((pane) => pane.redraw()),
    destroy: () => {
      list.stop();
      for (const pane of panes) pane.destroy();
    },
  };
}

/** @param {ViewStage} stage */
export function mapView(stage) {
  const { words, state, head, tokens } = stage;
  const { full } = words.number;
  const name = words.text("recording.map.label", { layer: String(state.layer), head: String(head.number) });
  return mapsAround(stage, "recording.map.say", [{ name, heads: [head] }], "recording.weight", (row, col, pane) => {
    const { weight, dot, lse, sees } = parts(head, row, col);
    const pair = { query: tokenNode(tokens.query[row]), key: tokenNode(tokens.key[col]) };
    const numbers = { weight: element("b", full(weight)), dot: full(dot), lse: full(lse) };
    const said = words.say(sees ? "recording.map.pair" : "recording.map.unseen", { ...pair, ...numbers });
    const cell = pane.cellAt({ row, col });
    if (!cell) return said;
    const { side, mean, max } = cell;
    return [...said, " ", ...words.say("recording.map.cell", { side: String(side), mean: full(mean), max: full(max) })];
  });
}
