// What one query looks at in an image: its weights, where the patches lie.

import { colourScale, NO_NUMBER } from "./colours.js";
import { element, tokenNode } from "./dom.js";
import { walkedByKeys } from "./grid-keys.js";
import { colourChooser } from "./map.js";
import { eachFrame, group, lead, looks, pictureBox, plainTable, pressable, refill, sharp, spoken, unfolding, weightColour, whenPointed, within } from "./view-parts.js";
import { row } from "./weights.js";

const LARGEST_PICTURE = 640;
const MOST_OTHERS = 40; // tokens outside the image that are offered

/** @param {ViewStage} stage @returns {View} */
export function patchesView(stage) {
  const { recording, words, state } = stage;
  const { full } = words.number;
  const layer = recording.layers[state.layer];
  const { rows, cols, before } = layer.patches;
  const tokens = { query: recording.queryTokens(state.layer), key: recording.keyTokens(state.layer) };
  const own = layer.kind !== "cross" && tokens.query.length === tokens.key.length; // queries are patches, too
  /** @type {Words["text"]} */
  const say = (key, parts) => words.text(`recording.patches.${key}`, parts);
  const { box, canvas } = pictureBox("patches-box", say(own ? "keys" : "picture"));
  const others = group(say("others"));
  const readout = spoken("p.headline");
  const rest = element("p.note");
  const text = element("div");
  const node = element("div", lead(words, "patches"), others, readout, box, rest, element("div.choices", colourChooser(stage)), text);
  const head = recording.head(state.layer, state.head);
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
      context.fillStyle = `rgb(${colour(value)})`;
      context.fillRect((at % cols) * cell, Math.floor(at / cols) * cell, cell - 0.5, cell - 0.5);
    });
    context.lineWidth = Math.max(2, cell / 10);
    for (const [token, ink] of [[hover, look.ink], [own ? query() : -1, look.accent]]) {
      if (!isPatch(token)) continue;
      const { row: line, col } = spot(token);
      context.strokeStyle = ink;
      context.strokeRect(col * cell + 1, line * cell + 1, cell - 2.5, cell - 2.5);
    }
  };
  const frame = eachFrame(draw);
  /** @param {MouseEvent|null} event */
  const patchAt = (event) => {
    if (!event) return -1;
    const { clientX, clientY } = event;
    const { left, top } = canvas.getBoundingClientRect();
    const [col, line] = [Math.floor((clientX - left) / cell), Math.floor((clientY - top) / cell)];
    return col >= 0 && line >= 0 && col < cols && line < rows ? before + line * cols + col : -1;
  };
  /** @param {number} token */
  const point = (token) => {
    if (token === hover) return;
    hover = token;
    tell();
    frame.ask();
  };
  const take = own ? choose : point;
  whenPointed(box, (event) => point(patchAt(event)));
  box.addEventListener("click", (/** @type {MouseEvent} */ event) => {
    const token = patchAt(event);
    if (token >= 0) take(token);
  });
  const from = () => (own ? query() : hover);
  /** @param {Cell} next */
  const go = (next) => take(isPatch(from()) ? before + next.row * cols + next.col : before);
  walkedByKeys(box, () => layer.patches, () => (isPatch(from()) ? spot(from()) : { row: 0, col: 0 }), go);
  return { node, redraw, destroy: frame.stop };
}
