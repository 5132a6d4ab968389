// Tokens left and right, lines for weights: where a token looks, and who looks at it.

import { element, tokenNode } from "./dom.js";
import { nextCell } from "./grid-keys.js";
import { plainLabel } from "./labels.js";
import { chooser, eachFrame, group, labelled, lead, looks, pictureBox, plainTable, pressable, refill, sharp, within } from "./view-parts.js";
import { row, strongest, weight } from "./weights.js";

/** Heads are told apart by all kinds of eyes, on light and on dark paper. */
const HEAD_COLOURS = {
  light: ["#1890f0", "#780000", "#a89000", "#f06090", "#0000a8", "#480048"],
  dark: ["#a8f0f0", "#f0a800", "#d84848", "#c018f0", "#7878a8", "#f0f0a8"],
};
const FLOOR = 0.01; // a row has at most 100 weights above it: memory and lines are bounded
const ALL_PAIRS = 2 ** 24; // up to here every row is computed; beyond, those in view
const SLICE = 8; // ms of work between two frames
const SHADES = 6;
const LISTED = 8;

/** What was chosen, kept while the page is drawn anew. @type {WeakMap<object, {least: number, one: boolean, heads: Set<number>[]}>} */
const arcChoices = new WeakMap();

/** A token of one side. @typedef {{ side: "query"|"key", at: number }} Place */

/** @param {import("./view-parts.js").ViewStage} stage @returns {import("./view-parts.js").View} */
export function arcsView(stage) {
  const { recording, words, state } = stage;
  const say = (key, parts) => words.text(`recording.arcs.${key}`, parts);
  const layer = recording.layers[state.layer];
  const chosen = arcChoices.get(recording) ?? { least: 0.1, one: false, heads: [] };
  arcChoices.set(recording, chosen);
  const also = (chosen.heads[state.layer] ??= new Set());
  const own = layer.kind !== "cross"; // queries and keys are the same tokens
  const tokens = { query: recording.queryTokens(state.layer), key: recording.keyTokens(state.layer) };
  const first = { query: own ? layer.firstQuery : 0, key: 0 };
  const lines = Math.max(tokens.key.length, first.query + tokens.query.length);
  /** @type {Record<string, string[]>} */
  const labels = { query: [], key: [] };
  /** @type {Place|null} */
  let pinned = tokens.query.length ? { side: "query", at: within(state.row, tokens.query.length) } : null;
  /** @type {Place|null} */
  let hover = null;
  /** @type {{ head: any, links: number[][], next: number }[]} */
  let heads = [];
  let [top, width, height, room, step] = [0, 0, 0, 0, 20];
  let timer = 0;

  const { box, canvas } = pictureBox("arcs-box", say("keys"));
  const tall = element("div", {}, canvas);
  const side = element("div", { class: "arcs-side" });
  const live = element("p", { class: "visually-hidden", "aria-live": "polite" });
  const chips = group(say("heads"), "choices head-chips");
  const output = element("output");
  const slider = element("input", { id: "arcs-least", type: "range", min: Math.log10(FLOOR), max: 0, step: 0.02, value: Math.log10(chosen.least) });
  const columns = [["", say("two")], ["1", say("one")]];
  const layout = chooser("arcs-columns", say("tokens"), columns, chosen.one ? "1" : "", (value) => {
    chosen.one = value === "1";
    frame.ask();
  });
  box.append(tall);
  slider.addEventListener("input", () => {
    chosen.least = 10 ** Number(slider.value);
    frame.ask();
  });
  const node = element(
    "div",
    {},
    lead(words, "arcs"),
    chips,
    element("div", { class: "choices" }, labelled("arcs-least", say("least"), slider, output), own ? layout : null),
    element("div", { class: "arcs-columns" }, box, side),
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
    refill(
      chips,
      say("heads"),
      ...layer.headNumbers.map((number, index) => {
        const at = heads.findIndex(({ head }) => head.index === index);
        const toggle = () => {
          also[also.has(index) ? "delete" : "add"](index);
          load();
        };
        const chip = pressable(String(number), toggle, {
          id: `arcs-head-${index}`,
          class: "head-chip",
          "aria-label": say("head", { head: String(number) }),
          "aria-pressed": at < 0 ? "false" : "true",
          disabled: index === state.head || (at < 0 && heads.length === colours.length),
        });
        chip.style.setProperty("--chip", at < 0 ? "transparent" : colours[at]);
        return chip;
      }),
    );
  };

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
      const links = []; // key, weight, key, weight, …
      row(next.one.head, next.i).forEach((value, key) => value >= FLOOR && links.push(key, value));
      next.one.links[next.i] = links;
    }
    frame.ask();
  };

  /** The same token on the other side. @param {Place} place @returns {Place} */
  const twinOf = ({ side: name, at }) => {
    const other = name === "query" ? "key" : "query";
    return { side: other, at: at + first[name] - first[other] };
  };
  let listed = "";

  const y = (name, at) => (at + first[name] + 0.5) * step - top;
  const draw = () => {
    const look = looks();
    const one = own && chosen.one;
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
      const aside = (nth - (heads.length - 1) / 2) * 2.5 * look.unit; // heads that agree lie side by side
      drawLinks(context, links, colours[nth], focus, one, look.unit, aside);
    });
    for (const name of one ? ["key"] : ["query", "key"]) {
      const left = one || name === "query";
      const [from, to] = inView(name);
      context.textAlign = left ? "right" : "left";
      for (let at = from; at < to; at++) {
        const here = focus && at === (one ? focus.at + first[focus.side] : focus.side === name ? focus.at : -1);
        if (focus && focus.side !== name)
          heads.forEach(({ head }, nth) => {
            context.globalAlpha = 0.5 * (name === "key" ? weight(head, focus.at, at) : weight(head, at, focus.at)) || 0;
            context.fillStyle = colours[nth];
            const wide = room / heads.length;
            context.fillRect((left ? 0 : width - room) + nth * wide, y(name, at) - step / 2, wide, step - 1);
          });
        context.globalAlpha = 1;
        context.fillStyle = here ? look.accent : look.ink;
        context.font = (here ? "bold " : "") + look.font;
        labels[name][at] ??= `\u2068${plainLabel(tokens[name][at].text, 24)}${tokens[name][at].mark}\u2069`;
        context.fillText(labels[name][at], left ? room - 8 : width - room + 8, y(name, at), room - 10);
      }
    }
    if (!timer && missing()) timer = setTimeout(work);
  };

  const drawLinks = (context, links, ink, focus, one, unit, aside) => {
    const faint = new Path2D();
    const paths = Array.from({ length: SHADES }, () => new Path2D());
    const twin = one && focus ? twinOf(focus) : null;
    const reach = within(((width - room) / height) * 100, 200) / 100 || 0.6; // wide arcs where there is room
    links.forEach((pairs, i) => {
      const from = y("query", i) + aside;
      for (let p = 0; p < pairs.length; p += 2) {
        const to = y("key", pairs[p]) + aside;
        if (pairs[p + 1] < chosen.least || Math.max(from, to) < 0 || Math.min(from, to) > height) continue;
        const ends = { query: i, key: pairs[p] };
        const near = !focus || ends[focus.side] === focus.at || (twin && ends[twin.side] === twin.at);
        const path = near ? paths[Math.min(SHADES - 1, Math.floor(pairs[p + 1] * SHADES))] : faint;
        path.moveTo(room, from);
        if (one) {
          const bulge = Math.min(width - 4, room + Math.max(step, Math.abs(to - from) * reach));
          path.bezierCurveTo(bulge, from, bulge, to, room, to);
        } else path.lineTo(width - room, to);
      }
    });
    const least = focus ? 0.5 : 0.15;
    context.strokeStyle = ink;
    [faint, ...paths].forEach((path, shade) => {
      context.globalAlpha = shade ? least + ((1 - least) * shade) / SHADES : 0.08;
      context.lineWidth = (0.7 + (2.3 * shade) / SHADES) * unit;
      context.stroke(path);
    });
    context.globalAlpha = 1;
  };

  /** The strongest links of the token, and of the same token on the other side, in words. @param {Place|null} focus */
  const list = (focus) => {
    const both = focus ? [focus, ...(own ? [twinOf(focus)] : [])] : [];
    if (focus?.side === "key") both.reverse();
    const parts = both.flatMap((place) => (tokens[place.side][place.at] ? listOf(place) : []));
    side.replaceChildren(...parts);
    if (!hover) live.textContent = parts.map((part) => part.textContent).join(" ");
  };
  const listOf = ({ side: name, at }) => {
    const outward = name === "query";
    const found = heads.flatMap(({ head }) =>
      strongest(head, outward ? [at, at + 1] : [0, head.Tq], outward ? [0, head.Tk] : [at, at + 1], LISTED).map(
        (link) => ({ ...link, head }),
      ),
    );
    found.sort((a, b) => b.weight - a.weight);
    const many = heads.length > 1;
    const cells = found.slice(0, LISTED).map(({ head, row: query, col, weight: value }) => {
      const open = () => stage.change({ view: "pair", head: head.index, row: query, col });
      const token = tokenNode(outward ? tokens.key[col] : tokens.query[query]);
      return [pressable(token, open), ...(many ? [String(head.number)] : []), words.number.full(value)];
    });
    const heading = ["arcs.token", ...(many ? ["number.head"] : []), "weight"].map((key) => words.text(`recording.${key}`));
    const title = element("h3", {}, ...words.say(`recording.arcs.${name}`, { token: tokenNode(tokens[name][at]) }));
    return [title, plainTable(heading, cells, title.textContent)];
  };

  const frame = eachFrame(draw);
  /** @param {MouseEvent} event @returns {Place|null} */
  const placeAt = (event) => {
    const area = box.getBoundingClientRect();
    const name = !(own && chosen.one) && event.clientX - area.left > area.width / 2 ? "key" : "query";
    const at = Math.floor((event.clientY - area.top + box.scrollTop) / step) - first[name];
    return tokens[name][at] ? { side: name, at } : null;
  };
  const point = (place) => {
    if (place?.side === hover?.side && place?.at === hover?.at) return;
    hover = place;
    frame.ask();
  };
  const axis = (name) => (name === "query" ? "row" : "col");
  const pin = (place) => {
    pinned = place;
    hover = null;
    if (place) stage.change({ [axis(place.side)]: place.at });
    frame.ask();
  };
  box.addEventListener("scroll", frame.ask);
  box.addEventListener("pointermove", (event) => event.pointerType !== "touch" && point(placeAt(event)));
  box.addEventListener("pointerleave", () => point(null));
  box.addEventListener("click", (event) => pin(placeAt(event)));
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return pin(null);
    if (event.key === "Enter") return side.querySelector("button")?.click();
    const from = pinned ?? { side: "query", at: 0 };
    const next = nextCell(event, { row: from.at, col: from.side === "key" ? 1 : 0 }, { rows: lines, cols: 2 });
    if (!next) return;
    event.preventDefault();
    const name = next.col && !(own && chosen.one) ? "key" : "query";
    const at = Math.min(next.row, tokens[name].length - 1);
    pin({ side: name, at });
    if (y(name, at) < step || y(name, at) > height - step) box.scrollTop += y(name, at) - height / 2;
  });
  load();
  const redraw = () => {
    listed = "";
    if (pinned) pinned.at = within(state[axis(pinned.side)] ?? pinned.at, tokens[pinned.side].length);
    drawChips();
    frame.ask();
  };
  const destroy = () => {
    frame.stop();
    clearTimeout(timer);
  };
  return { node, redraw, destroy };
}
