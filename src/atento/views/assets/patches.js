// What one query looks at in an image: its weights, where the patches lie.

import { colourScale, NO_NUMBER } from "./colours.js";
import { element, tokenNode } from "./dom.js";
import { walkedByKeys } from "./grid-keys.js";
import { colourChooser } from "./map.js";
import { eachFrame, fill, group, lead, looks, outline, pictureBox, plainTable, pressable, refill, sharp, spoken, unfolding, weightColour, whenPointed, within } from "./view-parts.js";
import { row } from "./weights.js";

const LARGEST_PICTURE = 640;
// Tokens outside the image that are offered.
const MOST_OTHERS = 40;

/** @param {ViewStage} stage @returns {View} */
export function patchesView(stage) {
  const { layer, head, tokens, words, state } = stage;
  const { full } = words.number;
  const { rows, cols, before } = layer.patches;
  // Queries are patches, too.
  const own = layer.kind !== "cross" && tokens.query.length === tokens.key.length;
  /** @type {Words["text"]} */
  const say = (key, parts) => words.text(`recording.patches.${key}`, parts);
  const { box, canvas } = pictureBox("patches-box", say(own ? "keys" : "picture"));
  const others = group(say("others"));
  const readout = spoken("p.headline");
  const rest = element("p.note");
  const text = element("div");
  const node = element("div", lead(words, "patches"), others, readout, box, rest, element("div.choices", colourChooser(stage)), text);
  let weights = new Float32Array(0);
  let hover = -1;
  let cell = 1;

  const query = () => within(state.row, tokens.query.length);
  /** @param {number} token */
  const isPatch = (token) => token >= before && token < before + rows * cols;
  /** @param {number} token */
  const spot = (token) => ({ row: Math.floor((token - before) / cols), col: (token - before) % cols });
  /** A token by its name; a patch by its place. @param {Side} side @param {number} token */
  const name = (side, token) => {
    const patch = isPatch(token) && (own || side === "key");
    const { row: line, col } = spot(token);
    return patch ? say("patch", { row: String(line), col: String(col) }) : tokenNode(tokens[side][token]);
  };
  /** @param {Side} side @param {(token: number) => boolean} wanted */
  const some = (side, wanted) => [...tokens[side].keys()].filter(wanted).slice(0, MOST_OTHERS);
  /** @param {number} token */
  const choose = (token) => {
    hover = -1;
    stage.change({ row: token });
  };

  const redraw = () => {
    weights = row(head, query());
    /** @param {number} token */
    const button = (token) => {
      const attributes = { id: `patch-query-${token}`, "aria-pressed": token === query() ? "true" : "false" };
      return pressable(tokenNode(tokens.query[token]), () => choose(token), attributes);
    };
    refill(others, ...some("query", (token) => !own || !isPatch(token)).map(button));
    const special = some("key", (token) => !isPatch(token));
    rest.replaceChildren(...special.flatMap((token) => [tokenNode(tokens.key[token]), ` ${full(weights[token])}  `]));
    text.replaceChildren(unfolding(words.text("recording.table"), table));
    tell();
    frame.ask();
  };
  const tell = () => {
    const most = weights.reduce((best, value, token) => (isPatch(token) && value > weights[best] ? token : best), before);
    const key = hover < 0 ? most : hover;
    const parts = { query: name("query", query()), key: name("key", key), weight: full(weights[key]) };
    readout.replaceChildren(...words.say(`recording.patches.${hover < 0 ? "most" : "here"}`, parts));
  };
  const table = () => {
    /** @param {number} at */
    const start = (at) => before + at * cols;
    /** @param {number} at */
    const line = (at) => [String(at), ...Array.from(weights.subarray(start(at), start(at + 1)), (value) => full(value))];
    const heads = Array.from({ length: cols }, (_, col) => String(col));
    return plainTable(["", ...heads], Array.from({ length: rows }, (_, at) => line(at)), words.text("recording.table"));
  };

  const draw = () => {
    const look = looks();
    const theme = stage.theme();
    cell = Math.max(2, Math.min(stage.width(), LARGEST_PICTURE * look.unit, (window.innerHeight * 0.7 * cols) / rows) / cols);
    const context = sharp(canvas, cell * cols, cell * rows);
    const seen = weights.subarray(before, before + rows * cols);
    const scale = colourScale(seen);
    const colour = state.log ? weightColour(theme, true) : (/** @type {number} */ value) => scale.rgb(value, theme) ?? NO_NUMBER;
    seen.forEach((value, at) => {
      fill(context, `rgb(${colour(value)})`, (at % cols) * cell, Math.floor(at / cols) * cell, cell - 0.5, cell - 0.5);
    });
    for (const [token, ink] of [[hover, look.ink], [own ? query() : -1, look.accent]]) {
      if (!isPatch(token)) continue;
      const { row: line, col } = spot(token);
      outline(context, ink, Math.max(2, cell / 10), col * cell + 1, line * cell + 1, cell - 2.5, cell - 2.5);
    }
  };
  const frame = eachFrame(draw);
  /** @param {number} x @param {number} y */
  const patchAt = (x, y) => {
    const [col, line] = [x, y].map((at) => Math.floor(at / cell));
    return col >= 0 && line >= 0 && col < cols && line < rows ? before + line * cols + col : null;
  };
  /** @param {number|null} token */
  const point = (token) => {
    if ((token ?? -1) === hover) return;
    hover = token ?? -1;
    tell();
    frame.ask();
  };
  const take = own ? choose : point;
  whenPointed(canvas, patchAt, point, (token) => token !== null && take(token));
  const from = () => (own ? query() : hover);
  /** @param {Cell} next */
  const go = (next) => take(isPatch(from()) ? before + next.row * cols + next.col : before);
  walkedByKeys(box, () => layer.patches, () => (isPatch(from()) ? spot(from()) : { row: 0, col: 0 }), go);
  return { node, redraw, destroy: frame.stop };
}
