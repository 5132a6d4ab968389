// Two recordings side by side: one place, two maps, and the signed difference.

import { element, tokenNode } from "./dom.js";
import { mapPane } from "./map-pane.js";
import { mapLegend, mapTools, strongestList } from "./map.js";
import { lead, spoken } from "./view-parts.js";
import { parts } from "./weights.js";

/** Why two layers cannot be compared, or null. @param {Recording} recording @param {number} layer @param {number} head */
export function incomparable({ other, layers }, layer, head) {
  if (!other) return "recording.compare.alone";
  const [mine, theirs] = [layers[layer], other.layers[layer]];
  if (!theirs || head >= theirs.heads) return "recording.compare.missing";
  if (mine.queries !== theirs.queries || mine.keys !== theirs.keys) return "recording.compare.shapes";
  return mine.query === null || theirs.query === null ? "recording.needs.qk" : null;
}

/** @param {ViewStage} stage @returns {View} */
export function compareView(stage) {
  const { words, state, recording } = stage;
  const other = recording.other ?? recording;
  const [mine, theirs] = [recording, other].map((one) => one.head(state.layer, state.head));
  const readout = spoken("p.caption.readout");
  /** @type {Cell|null} */
  let hovered = null;
  const titles = ["first", "second", "difference"].map((name) => words.text(`recording.compare.${name}`));
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
  const panes = [[mine], [theirs], [mine, theirs]].map((heads, at) =>
    mapPane({ ...stage, recording: at === 1 ? other : recording }, heads, titles[at], point, at === 2 ? drawn : () => {}),
  );
  const last = () => panes[2];
  const legend = mapLegend(stage, () => last().reach(), true);
  const list = strongestList(stage, last, "recording.compare.difference");
  let told = "";
  const tell = () => {
    const place = hovered ?? { row: state.row, col: state.col };
    const now = JSON.stringify(place);
    if (now === told) return;
    told = now;
    const { row, col } = place;
    if (row == null || col == null || row >= mine.Tq || col >= mine.Tk)
      return readout.replaceChildren(...words.say("recording.map.ask"));
    const [a, b] = [mine, theirs].map((head) => parts(head, row, col).weight);
    const { full } = words.number;
    const said = {
      query: tokenNode(recording.queryTokens(state.layer)[row]),
      key: tokenNode(recording.keyTokens(state.layer)[col]),
      first: full(a),
      second: full(b),
      difference: element("b", full(a - b)),
    };
    readout.replaceChildren(...words.say("recording.compare.pair", said));
  };
  const tools = mapTools(stage, last);
  tools.append(list.button);
  const figures = panes.map((pane, at) => element("figure", element("figcaption", titles[at]), pane.node));
  return {
    node: element("div", lead(words, "compare"), tools, readout, element("div.beside", figures), legend.node, list.node),
    redraw: () => panes.forEach((pane) => pane.redraw()),
    destroy: () => {
      list.stop();
      for (const pane of panes) pane.destroy();
    },
  };
}
