// One pair: how its query and its key, feature by feature, make the weight.

import { colourScale } from "./colours.js";
import { element, tokenNode } from "./dom.js";
import { walkedByKeys } from "./grid-keys.js";
import { chooser, eachFrame, fill, labelled, lead, looks, pictureBox, plainTable, pressable, refill, sharp, spoken, unfolding, within } from "./view-parts.js";
import { parts, strongest } from "./weights.js";

// Of so many pairs the strongest are sought; of more, those of the query.
const SEARCHED = 2 ** 21;
const STRONGEST = 50;
const GUTTER = 34;
/** The features that make up so much of the score carry it. */
const MOST = 0.8;

/** @param {ViewStage} stage @returns {View} */
export function pairView(stage) {
  const { head, words, state } = stage;
  const { full, count } = words.number;
  /** @type {Words["text"]} */
  const say = (key, given) => words.text(`recording.pair.${key}`, given);
  const tokens = { row: stage.tokens.query, col: stage.tokens.key };
  const { box, canvas } = pictureBox("pair-box", say("keys"));
  const readout = spoken("p.note.caption");
  const [title, chain, carried, text, places] = ["p.headline", "ol.chain", "p.note", "div", "div.choices"].map((kind) => element(kind));
  const node = element("div", lead(words, "pair"), places, title, chain, carried, box, readout, text);
  /** @type {any} */
  let made = null;
  /** @type {Pair[]|null} */
  let pairs = null;
  let bySize = true;
  let feature = -1;
  /** @type {number[]} the features from left to right */
  let order = [];

  /** @param {"row"|"col"} name */
  const place = (name) => within(state[name] ?? tokens[name].length - 1, tokens[name].length);
  /** To the next of the strongest pairs. @param {1|-1} way */
  const jump = (way) => {
    const [i, j] = [place("row"), place("col")];
    const few = head.Tq * head.Tk <= SEARCHED;
    if (!few || !pairs) pairs = strongest(head, few ? [0, head.Tq] : [i, i + 1], [0, head.Tk], STRONGEST);
    if (!pairs.length) return;
    const at = pairs.findIndex((pair) => pair.row === i && pair.col === j);
    const { row, col } = pairs[at < 0 || state.row === null ? 0 : (at + way + pairs.length) % pairs.length];
    stage.change({ row, col });
  };
  /** @param {"row"|"col"} name */
  const chooseToken = (name) => {
    const { length } = tokens[name];
    const onchange = () => stage.change({ [name]: within(input.value, length) });
    const input = element("input", { id: `pair-${name}`, type: "number", min: 0, max: length - 1, value: place(name), onchange });
    return labelled(input.id, say(name), input);
  };
  const orders = ["size", "number"].map((name) => [name, say(`by.${name}`)]);
  /** @param {string} value */
  const sorted = (value) => {
    bySize = value === "size";
    redraw();
  };

  const redraw = () => {
    made = parts(head, place("row"), place("col"));
    refill(
      places,
      chooseToken("row"),
      chooseToken("col"),
      pressable(say("stronger"), () => jump(-1), { id: "pair-stronger" }),
      pressable(say("weaker"), () => jump(1), { id: "pair-weaker" }),
      chooser("pair-order", say("by"), orders, bySize ? "size" : "number", sorted),
    );
    const names = { query: tokenNode(tokens.row[place("row")], 200), key: tokenNode(tokens.col[place("col")], 200) };
    title.replaceChildren(...words.say("recording.pair.title", names));
    order = Array.from(made.products, (_, at) => at);
    if (bySize) order.sort((a, b) => Math.abs(made.products[b]) - Math.abs(made.products[a]));
    feature = -1;
    readout.textContent = "";
    writeChain();
    writeCarried();
    text.replaceChildren(unfolding(words.text("recording.table"), table));
    frame.ask();
  };

  /** Every step from the dot product to the weight, with its number. */
  const writeChain = () => {
    const { dot, scaled, capped, bias, score, lse, weight, sees } = made;
    const { scale, softcap } = head;
    /** @param {number} value */
    const p = (value) => (value < 0 ? `(${full(value)})` : full(value));
    /** @type {[string, string, number][]} */
    const steps = [
      ["dot", "Σ q·k", dot],
      ["scaled", `${full(dot)} × ${p(scale)}`, scaled],
    ];
    if (softcap) steps.push(["capped", `${full(softcap)} · tanh(${full(scaled)} / ${full(softcap)})`, capped]);
    if (head.bias) steps.push(["biased", `${full(capped)} + ${p(bias)}`, score]);
    if (!sees || lse === -Infinity) steps.push(["unseen", "exp(−∞)", weight]);
    else steps.push(["lse", `${full(score)} − ${p(lse)}`, score - lse], ["weight", `exp(${full(score - lse)})`, weight]);
    chain.replaceChildren(
      ...steps.map(([name, formula, value], at) => {
        const result = element(at === steps.length - 1 ? "b.result" : "b", full(value));
        return element("li", element("span", say(name)), element("span", `${formula} = `, result));
      }),
    );
  };
  /** How few features carry the score: the products of its sign, from the largest. */
  const writeCarried = () => {
    const signed = made.products.map((/** @type {number} */ product) => product * Math.sign(made.dot));
    const best = [...order].sort((a, b) => signed[b] - signed[a]).filter((at) => signed[at] > 0);
    let sum = 0;
    let many = 0;
    while (many < best.length && sum < MOST * Math.abs(made.dot)) sum += signed[best[many++]];
    carried.textContent = say("carried", {
      count: count(many),
      all: count(signed.length),
      sum: full(sum * Math.sign(made.dot)),
      dot: full(made.dot),
      features: best.slice(0, Math.min(many, 12)).join(", ") + (many > 12 ? ", …" : ""),
    });
  };
  /** @param {number} at @returns {number[]} */
  const factors = (at) => [head.query[place("row") * head.d + at], head.key[place("col") * head.d + at], made.products[at]];
  const lines = () => order.map((at) => [String(at), ...factors(at).map(full)]);
  const table = () => plainTable([say("feature"), "q", "k", "q·k"], lines(), words.text("recording.table"));

  const draw = () => {
    if (!made) return;
    const look = looks();
    const theme = stage.theme();
    const [left, width] = [GUTTER * look.unit, box.clientWidth];
    const highs = [44, 44, 96].map((high) => high * look.unit);
    const context = sharp(canvas, width, highs[0] + highs[1] + highs[2] + 26 * look.unit);
    const wide = (width - left) / order.length;
    let top = 0;
    context.font = look.font;
    ["q", "k", "q·k"].forEach((name, line) => {
      const values = order.map((at) => factors(at)[line]);
      const colours = colourScale(values);
      const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
      const scale = (highs[line] - 10 * look.unit) / (high - low || 1);
      const zero = top + 5 * look.unit + high * scale;
      context.fillStyle = look.soft;
      context.fillText(name, 0, zero);
      fill(context, look.rule, left, zero, width - left, 1);
      values.forEach((value, at) => {
        const share = Math.sign(value) * (0.5 + 0.5 * Math.abs(value / colours.reach)) * colours.reach;
        const ink = order[at] === feature ? look.accent : `rgb(${colours.rgb(share, theme)})`;
        fill(context, ink, left + at * wide, zero, Math.max(1, wide - 1), -value * scale);
      });
      top += highs[line];
    });
    context.fillStyle = look.soft;
    context.textAlign = "center";
    const every = Math.ceil((24 * look.unit) / wide);
    for (let at = 0; at < order.length; at += every)
      context.fillText(String(order[at]), left + (at + 0.5) * wide, top + 14 * look.unit);
  };
  const frame = eachFrame(draw);
  /** @param {number} at */
  const show = (at) => {
    if (!made || !(at in order)) return;
    feature = order[at];
    const [q, k, product] = factors(feature).map(full);
    readout.textContent = say("readout", { feature: String(feature), q, k, product });
    frame.ask();
  };
  /** @param {MouseEvent} event */
  const point = ({ clientX }) => {
    const area = canvas.getBoundingClientRect();
    const left = GUTTER * looks().unit;
    show(Math.floor(((clientX - area.left - left) / (area.width - left)) * order.length));
  };
  box.addEventListener("pointermove", point);
  box.addEventListener("click", point);
  const features = () => ({ rows: 1, cols: order.length });
  walkedByKeys(box, features, () => ({ row: 0, col: order.indexOf(feature) }), ({ col }) => show(col));
  if (state.row === null || state.col === null) queueMicrotask(() => jump(1));
  return { node, redraw, destroy: frame.stop };
}
