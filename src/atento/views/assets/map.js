// The view of the map: the picture, what is pointed at, and what all maps have around them.

import { element, tokenNode } from "./dom.js";
import { EITHER_SIGN, mapPane } from "./map-pane.js";
import { chooser, plainTable, pressable } from "./view-parts.js";
import { parts } from "./weights.js";

const IN_LIST = 10;

/** What all maps have above them: pooling, colours, zoom. @param {ViewStage} stage @param {() => any} pane */
export function mapTools(stage, pane) {
  const { words, state, change } = stage;
  const say = words.text;
  return element(
    "div",
    { class: "choices" },
    chooser(
      "pool",
      say("recording.pool"),
      [
        ["mean", say("recording.pool.mean")],
        ["max", say("recording.pool.max")],
      ],
      state.pool,
      (pool) => change({ pool }),
    ),
    chooser(
      "log",
      say("recording.colours"),
      [
        ["1", say("recording.colours.log")],
        ["0", say("recording.colours.linear")],
      ],
      state.log ? "1" : "0",
      (log) => change({ log: log === "1" }),
    ),
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
  const { words, state, recording } = stage;
  const table = element("div", { class: "strongest" });
  /** @type {{row: number, col: number, weight: number}[]} */
  let list = [];
  let waiting = 0;
  const names = [recording.queryTokens(state.layer), recording.keyTokens(state.layer)];
  const refresh = () => {
    list = pane().strongestInView(IN_LIST);
    const rows = list.map((one) => [
      pressable(words.number.full(one.weight), () => pane().choose(one), { class: "go" }),
      tokenNode(names[0][one.row]),
      tokenNode(names[1][one.col]),
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
    node: element(
      "details",
      { class: "as-text", open: true },
      element("summary", {}, words.text("recording.map.strongest")),
      table,
    ),
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
  const node = element("p", { class: "legend" });
  let shown = "";
  const redraw = () => {
    const high = state.log ? "1" : words.number.full(reach());
    const now = `${high} ${state.log} ${stage.theme()}`;
    if (now === shown) return;
    shown = now;
    const grade = EITHER_SIGN.grades(stage.theme());
    const ramp = element("span", { class: "ramp", "aria-hidden": "true" });
    for (let k = signed ? -4 : 0; k <= 4; k++) {
      const step = element("span");
      step.style.background = `rgb(${grade(k / 4).join(" ")})`;
      ramp.append(step);
    }
    const low = signed ? `−${high}` : state.log ? "2⁻¹⁷" : "0";
    node.replaceChildren(
      low,
      ramp,
      high,
      element("span", { class: "swatch unseen" }),
      words.text("recording.map.none"),
    );
  };
  return { node, redraw };
}

/** @param {ViewStage} stage */
export function mapView(stage) {
  const { words, state, recording } = stage;
  const head = recording.head(state.layer, state.head);
  const readout = element("p", { class: "caption readout", "aria-live": "polite" });
  /** @type {{row: number, col: number}|null} */
  let hovered = null;
  const label = words.text("recording.map.label", { layer: String(state.layer), head: String(head.number) });
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
  const names = [recording.queryTokens(state.layer), recording.keyTokens(state.layer)];
  let told = "";
  const tell = () => {
    const place =
      hovered ?? (state.row != null && state.col != null ? { row: state.row, col: state.col } : null);
    if (!place || place.row >= head.Tq || place.col >= head.Tk) {
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
    readout.replaceChildren(
      ...words.say(sees ? "recording.map.pair" : "recording.map.unseen", {
        query: tokenNode(names[0][place.row]),
        key: tokenNode(names[1][place.col]),
        weight: element("b", {}, full(weight)),
        dot: full(dot),
        lse: full(lse),
      }),
      ...(cell
        ? [
            " ",
            ...words.say("recording.map.cell", {
              side: String(cell.side),
              mean: full(cell.mean),
              max: full(cell.max),
            }),
          ]
        : []),
    );
  };
  const tools = mapTools(stage, () => pane);
  tools.append(list.button);
  return {
    node: element(
      "div",
      {},
      element("p", { class: "say" }, ...words.say("recording.map.say")),
      tools,
      readout,
      pane.node,
      legend.node,
      list.node,
    ),
    redraw: pane.redraw,
    destroy: () => {
      list.stop();
      pane.destroy();
    },
  };
}
