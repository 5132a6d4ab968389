// Two recordings side by side: one place, two maps, and the signed difference.

import { element, tokenNode } from "./dom.js";
import { mapPane } from "./map-pane.js";
import { mapLegend, mapTools, strongestList } from "./map.js";
import { parts } from "./weights.js";

/** Why two layers cannot be compared, or null. @param {import("./recording.js").Recording} recording @param {number} layer @param {number} head */
export function incomparable(recording, layer, head) {
  const { other } = recording;
  if (!other) return "recording.compare.alone";
  const [mine, theirs] = [recording.layers[layer], other.layers[layer]];
  if (!theirs || head >= theirs.heads) return "recording.compare.missing";
  if (mine.queries !== theirs.queries || mine.keys !== theirs.keys) return "recording.compare.shapes";
  if (mine.query === null || theirs.query === null) return "recording.needs.qk";
  return null;
}

/** @param {import("./view-parts.js").ViewStage} stage */
export function compareView(stage) {
  const { words, state, recording } = stage;
  const why = incomparable(recording, state.layer, state.head);
  if (why)
    return { node: element("p", { class: "say" }, ...words.say(why)), redraw: () => {}, destroy: () => {} };
  const mine = recording.head(state.layer, state.head);
  const theirs = recording.other.head(state.layer, state.head);
  const readout = element("p", { class: "caption readout", "aria-live": "polite" });
  /** @type {{row: number, col: number}|null} */
  let hovered = null;
  const titles = ["recording.compare.first", "recording.compare.second", "recording.compare.difference"].map(
    (name) => words.text(name),
  );
  const point = (place) => {
    hovered = place;
    tell();
  };
  const drawn = () => {
    tell();
    legend.redraw();
    list.later();
  };
  const panes = [[mine], [theirs], [mine, theirs]].map((heads, at) =>
    mapPane(
      { ...stage, recording: at === 1 ? recording.other : recording },
      heads,
      titles[at],
      point,
      at === 2 ? drawn : () => {},
    ),
  );
  const last = () => panes[2];
  const legend = mapLegend(stage, () => last().reach(), true);
  const list = strongestList(stage, last, "recording.compare.difference");
  const names = [recording.queryTokens(state.layer), recording.keyTokens(state.layer)];
  let told = "";
  const tell = () => {
    const place =
      hovered ?? (state.row != null && state.col != null ? { row: state.row, col: state.col } : null);
    const now = JSON.stringify(place);
    if (now === told) return;
    told = now;
    if (!place || place.row >= mine.Tq || place.col >= mine.Tk)
      return readout.replaceChildren(...words.say("recording.map.ask"));
    const [a, b] = [mine, theirs].map((head) => parts(head, place.row, place.col).weight);
    const { full } = words.number;
    readout.replaceChildren(
      ...words.say("recording.compare.pair", {
        query: tokenNode(names[0][place.row]),
        key: tokenNode(names[1][place.col]),
        first: full(a),
        second: full(b),
        difference: element("b", {}, full(a - b)),
      }),
    );
  };
  const tools = mapTools(stage, last);
  tools.append(list.button);
  const figures = panes.map((pane, at) =>
    element("figure", {}, element("figcaption", {}, titles[at]), pane.node),
  );
  return {
    node: element(
      "div",
      {},
      element("p", { class: "say" }, ...words.say("recording.compare.say")),
      tools,
      readout,
      element("div", { class: "beside" }, ...figures),
      legend.node,
      list.node,
    ),
    redraw: () => panes.forEach((pane) => pane.redraw()),
    destroy: () => {
      list.stop();
      for (const pane of panes) pane.destroy();
    },
  };
}
