// Tokens left and right, lines for weights: where a token looks, and who looks at it.

import { element, tokenNode } from "./dom.js";
import { walkedByKeys } from "./grid-keys.js";
import { labelsOf } from "./labels.js";
import { chooser, eachFrame, fill, group, kept, label, labelled, lead, looks, pictureBox, plainTable, pressable, refill, sharp, spoken, whenPointed, within } from "./view-parts.js";
import { row, strongest, weight } from "./weights.js";

/** Heads are told apart by all kinds of eyes, on light and on dark paper. */
const HEAD_COLOURS = {
  light: ["#1890f0", "#780000", "#a89000", "#f06090", "#0000a8", "#480048"],
  dark: ["#a8f0f0", "#f0a800", "#d84848", "#c018f0", "#7878a8", "#f0f0a8"],
};
// A row has at most 100 weights above it: memory and lines are bounded.
const FLOOR = 0.01;
// Up to here every row is computed; beyond, those in view.
const ALL_PAIRS = 2 ** 24;
// Milliseconds of work between two frames.
const SLICE = 8;
const SHADES = 6;
const LISTED = 8;

/** @type {Record<Side, "row"|"col">} */
const axisOfSide = { query: "row", key: "col" };

/** @param {ViewStage} stage @returns {View} */
export function arcsView(stage) {
  const { recording, layer, tokens, words, state } = stage;
  /** @type {Words["text"]} */
  const say = (key, parts) => words.text(`recording.arcs.${key}`, parts);
  const chosen = kept(recording, "arcs", { least: 0.1, one: false, heads: [] });
  const also = (chosen.heads[state.layer] ??= new Set());
  // Queries and keys are the same tokens.
  const own = layer.kind !== "cross";
  const first = { query: own ? layer.firstQuery : 0, key: 0 };
  const lines = Math.max(tokens.key.length, first.query + tokens.query.length);
  const oneColumn = () => own && chosen.one;
  const labels = { query: labelsOf(tokens.query, 24), key: labelsOf(tokens.key, 24) };
  /** @type {Place|null} */
  let pinned = tokens.query.length ? { side: "query", at: within(state.row, tokens.query.length) } : null;
  /** @type {Place|null} */
  let hover = null;
  /** @type {{ head: Head, links: number[][], next: number }[]} */
  let heads = [];
  let [top, width, height, room, step] = [0, 0, 0, 0, 20];
  let timer = 0;
  let listed = "";

  const { box, canvas } = pictureBox("arcs-box", say("keys"));
  const tall = element("div", canvas);
  const side = element("div.arcs-side");
  const live = spoken();
  const chips = group(say("heads"), "choices head-chips");
  const output = element("output");
  /** @param {any} choice */
  const choose = (choice) => {
    Object.assign(chosen, choice);
    frame.ask();
  };
  const slider = element("input", {
    ...{ id: "arcs-least", type: "range", min: Math.log10(FLOOR), max: 0, step: 0.02, value: Math.log10(chosen.least) },
    oninput: () => choose({ least: 10 ** Number(slider.value) }),
  });
  const columns = [["", say("two")], ["1", say("one")]];
  const layout = chooser("arcs-columns", say("tokens"), columns, chosen.one ? "1" : "", (value) => choose({ one: value === "1" }));
  box.append(tall);
  const node = element(
    "div",
    lead(words, "arcs"),
    chips,
    element("div.choices", labelled("arcs-least", say("least"), slider, output), own && layout),
    element("div.arcs-columns", box, side),
    live,
  );

  const load = () => {
    const those = [...new Set([state.head, ...also])].map((index) => recording.head(state.layer, index));
    heads = those.map((head) => heads.find((one) => one.head === head) ?? { head, links: [], next: 0 });
    drawChips();
    frame.ask();
  };
  const drawChips = () => {
    const colours = HEAD_COLOURS[stage.theme()];
    /** @param {number} number @param {number} index */
    const chip = (number, index) => {
      const at = heads.findIndex(({ head }) => head.index === index);
      const toggle = () => {
        also[also.has(index) ? "delete" : "add"](index);
        load();
      };
      const made = pressable(String(number), toggle, {
        id: `arcs-head-${index}`,
        class: "head-chip",
        "aria-label": say("head", { head: String(number) }),
        "aria-pressed": at < 0 ? "false" : "true",
        disabled: index === state.head || (at < 0 && heads.length === colours.length),
      });
      made.style.setProperty("--chip", at < 0 ? "transparent" : colours[at]);
      return made;
    };
    refill(chips, say("heads"), ...layer.headNumbers.map(chip));
  };

  /** @param {Side} name */
  const inView = (name) => {
    const from = Math.floor(top / step) - first[name];
    return [Math.max(0, from), Math.min(tokens[name].length, Math.ceil((top + height) / step) - first[name])];
  };
  /** A row whose links are still to be found: first those in view. */
  const missing = () => {
    const [from, to] = inView("query");
    for (const one of heads) for (let i = from; i < to; i++) if (!one.links[i]) return { one, i };
    if (tokens.query.length * tokens.key.length > ALL_PAIRS) return null;
    for (const one of heads) {
      while (one.links[one.next]) one.next++;
      if (one.next < tokens.query.length) return { one, i: one.next };
    }
    return null;
  };
  const work = () => {
    const end = performance.now() + SLICE;
    timer = 0;
    for (let next = missing(); next && performance.now() < end; next = missing()) {
      // Key, weight, key, weight, …
      /** @type {number[]} */
      const links = [];
      row(next.one.head, next.i).forEach((value, key) => value >= FLOOR && links.push(key, value));
      next.one.links[next.i] = links;
    }
    frame.ask();
  };

  /** The same token on the other side. @param {Place} place @returns {Place} */
  const twinOf = ({ side: name, at }) => (name === "key" ? { side: "query", at: at - first.query } : { side: "key", at: at + first.query });
  /** @param {Side} name @param {number} at */
  const y = (name, at) => (at + first[name] + 0.5) * step - top;
  /** Whether this is the token in focus; in one column it is on both sides. @param {Place|null} focus @param {Side} name @param {number} at */
  const inFocus = (focus, name, at) =>
    focus !== null && at + first[name] === focus.at + first[focus.side] && (name === focus.side || oneColumn());

  const draw = () => {
    const look = looks();
    const colours = HEAD_COLOURS[stage.theme()];
    step = Math.round(20 * look.unit);
    tall.style.height = `${lines * step}px`;
    width = tall.clientWidth;
    height = Math.min(box.clientHeight, lines * step);
    top = box.scrollTop;
    room = Math.min(170 * look.unit, width * 0.3);
    output.textContent = words.number.cell(chosen.least, 2);
    const context = sharp(canvas, width, height);
    const focus = hover ?? pinned;
    const key = focus ? `${focus.side} ${focus.at} ${heads.map(({ head }) => head.index)}` : "";
    if (key !== listed) list(focus);
    listed = key;
    heads.forEach(({ links }, nth) => {
      // Heads that agree lie side by side.
      const aside = (nth - (heads.length - 1) / 2) * 2.5 * look.unit;
      drawLinks(context, links, colours[nth], focus, look.unit, aside);
    });
    for (const name of /** @type {Side[]} */ (oneColumn() ? ["key"] : ["query", "key"])) drawTokens(context, name, focus, look, colours);
    if (!timer && missing()) timer = setTimeout(work);
  };

  /** The tokens of one side, tinted by what they have to do with the one in focus. @type {DrawTokens} */
  const drawTokens = (context, name, focus, look, colours) => {
    const left = oneColumn() || name === "query";
    const [from, to] = inView(name);
    for (let at = from; at < to; at++) {
      if (focus && focus.side !== name)
        heads.forEach(({ head }, nth) => {
          const wide = room / heads.length;
          context.globalAlpha = 0.5 * (name === "key" ? weight(head, focus.at, at) : weight(head, at, focus.at)) || 0;
          fill(context, colours[nth], (left ? 0 : width - room) + nth * wide, y(name, at) - step / 2, wide, step - 1);
        });
      context.globalAlpha = 1;
      const here = inFocus(focus, name, at);
      context.fillStyle = here ? look.accent : look.ink;
      context.font = (here ? "bold " : "") + look.font;
      label(context, labels[name](at), left ? room - 8 : width - room + 8, y(name, at), left ? "right" : "left", room - 10);
    }
  };

  /** @type {DrawLinks} */
  const drawLinks = (context, links, ink, focus, unit, aside) => {
    // First the faint ones.
    const paths = Array.from({ length: SHADES + 1 }, () => new Path2D());
    const one = oneColumn();
    // Wide arcs where there is room.
    const reach = within(((width - room) / height) * 100, 200) / 100 || 0.6;
    links.forEach((pairs, i) => {
      const from = y("query", i) + aside;
      for (let p = 0; p < pairs.length; p += 2) {
        const [key, value] = [pairs[p], pairs[p + 1]];
        const to = y("key", key) + aside;
        if (value < chosen.least || Math.max(from, to) < 0 || Math.min(from, to) > height) continue;
        const near = !focus || inFocus(focus, "query", i) || inFocus(focus, "key", key);
        const path = paths[near ? Math.min(SHADES, 1 + Math.floor(value * SHADES)) : 0];
        path.moveTo(room, from);
        if (one) {
          const bulge = Math.min(width - 4, room + Math.max(step, Math.abs(to - from) * reach));
          path.bezierCurveTo(bulge, from, bulge, to, room, to);
        } else path.lineTo(width - room, to);
      }
    });
    const faintest = focus ? 0.5 : 0.15;
    context.strokeStyle = ink;
    paths.forEach((path, shade) => {
      context.globalAlpha = shade ? faintest + ((1 - faintest) * shade) / SHADES : 0.08;
      context.lineWidth = (0.7 + (2.3 * shade) / SHADES) * unit;
      context.stroke(path);
    });
    context.globalAlpha = 1;
  };

  /** The strongest links of the token, and of the same token on the other side, in words. @param {Place|null} focus */
  const list = (focus) => {
    const both = focus ? [focus, ...(own ? [twinOf(focus)] : [])] : [];
    if (focus?.side === "key") both.reverse();
    const said = both.flatMap((place) => (tokens[place.side][place.at] ? listOf(place) : []));
    side.replaceChildren(...said);
    if (!hover) live.textContent = said.map((part) => part.textContent).join(" ");
  };
  /** @param {Place} place */
  const listOf = ({ side: name, at }) => {
    const outward = name === "query";
    const found = heads.flatMap(({ head }) => {
      /** @type {Ends[]} */
      const [rows, cols] = outward ? [[at, at + 1], [0, head.Tk]] : [[0, head.Tq], [at, at + 1]];
      return strongest(head, rows, cols, LISTED).map((link) => ({ ...link, head }));
    });
    found.sort((a, b) => b.weight - a.weight);
    const many = heads.length > 1;
    const cells = found.slice(0, LISTED).map(({ head, row: query, col, weight: value }) => {
      const open = () => stage.change({ view: "pair", head: head.index, row: query, col });
      const token = tokenNode(outward ? tokens.key[col] : tokens.query[query]);
      return [pressable(token, open), ...(many ? [String(head.number)] : []), words.number.full(value)];
    });
    const heading = ["arcs.token", ...(many ? ["number.head"] : []), "weight"].map((key) => words.text(`recording.${key}`));
    const title = element("h3", { "aria-level": 2 }, words.say(`recording.arcs.${name}`, { token: tokenNode(tokens[name][at]) }));
    return [title, plainTable(heading, cells, title.textContent)];
  };

  const frame = eachFrame(draw);
  /** @param {number} x @param {number} y @returns {Place|null} */
  const placeAt = (x, y) => {
    const name = !oneColumn() && x > box.offsetWidth / 2 ? "key" : "query";
    const at = Math.floor((y + box.scrollTop) / step) - first[name];
    return tokens[name][at] ? { side: name, at } : null;
  };
  /** @param {Place|null} place */
  const point = (place) => {
    hover = place;
    frame.ask();
  };
  /** @param {Place|null} place */
  const pin = (place) => {
    pinned = place;
    if (place) stage.change({ [axisOfSide[place.side]]: place.at });
    point(null);
  };
  box.addEventListener("scroll", frame.ask);
  whenPointed(box, placeAt, point, pin);
  const here = () => ({ row: pinned?.at ?? 0, col: pinned?.side === "key" ? 1 : 0 });
  /** @param {Cell} next */
  const go = (next) => {
    const name = next.col && !oneColumn() ? "key" : "query";
    const at = Math.min(next.row, tokens[name].length - 1);
    pin({ side: name, at });
    if (y(name, at) < step || y(name, at) > height - step) box.scrollTop += y(name, at) - height / 2;
  };
  const others = { Escape: () => pin(null), Enter: () => side.querySelector("button")?.click() };
  walkedByKeys(box, () => ({ rows: lines, cols: 2 }), here, go, others);
  load();
  const redraw = () => {
    listed = "";
    if (pinned) pinned.at = within(state[axisOfSide[pinned.side]] ?? pinned.at, tokens[pinned.side].length);
    drawChips();
    frame.ask();
  };
  const destroy = () => {
    frame.stop();
    clearTimeout(timer);
  };
  return { node, redraw, destroy };
}
