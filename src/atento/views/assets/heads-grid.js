// All heads at once: a small map of each, sorted and sifted; each opens its map.

import { cellsPicture } from "./colours.js";
import { element } from "./dom.js";
import { walkedByKeys } from "./grid-keys.js";
import { plainLabel } from "./labels.js";
import { poolChooser } from "./map.js";
import { chooser, group, kept, labelled, lead, named, plainTable, pressable, refill, silentCanvas, unfolding, weightColour } from "./view-parts.js";

const TABLE_ROWS = 100;

/** @param {ViewStage} stage @returns {View} */
export function headsView(stage) {
  const { recording, words, state } = stage;
  const { full, count, cell } = words.number;
  /** @type {Words["text"]} */
  const say = (key, parts) => words.text(`recording.heads.${key}`, parts);
  /** @param {number} layer */
  const layerName = (layer) => plainLabel(recording.layers[layer].name, 80);
  const cards = recording.layers.flatMap(({ summary }, layer) => summary.map((row, index) => card(row, layer, index)));
  const names = Object.keys(Object.assign({}, ...cards.map(({ row }) => row))).filter((name) =>
    cards.some(({ row }) => Number.isFinite(row[name]) && name !== "head"),
  );
  const roles = [...new Set(cards.map(({ row }) => row.role))];
  const chosen = kept(recording, "heads", { sort: "layer", back: false, role: "", least: -Infinity });
  const controls = element("div.choices");
  const status = element("p.note", { role: "status" });
  const list = group(words.text("recording.heads"), "heads");
  const text = unfolding(words.text("recording.table"), () => table(TABLE_ROWS));
  let shown = cards;
  let current = cards.find(({ layer, index }) => layer === state.layer && index === state.head) ?? cards[0];
  current.node.setAttribute("aria-current", "true");

  const observer = new IntersectionObserver((entries) => {
    const seen = new Map(entries.map(({ target, isIntersecting }) => [target, isIntersecting]));
    for (const one of cards) one.visible = seen.get(one.node) ?? one.visible;
    redraw();
  });
  for (const one of cards) observer.observe(one.node);

  /** @typedef {ReturnType<typeof card>} Card @param {any} row @param {number} layer @param {number} index */
  function card(row, layer, index) {
    const canvas = silentCanvas({ width: 1, height: 1 });
    const name = element("span.head-name");
    const role = named(words, "role", row.role);
    const title = say("card", { layer: layerName(layer), head: String(row.head), role });
    const open = () => stage.change({ view: "map", layer, head: index });
    const node = pressable([canvas, name, element("span.head-role", role)], open, { class: "head-card", tabindex: -1, "aria-label": title, title });
    return { node, canvas, name, row, layer, index, visible: false, drawn: "" };
  }
  const redraw = () => {
    const look = `${state.pool} ${state.log} ${stage.theme()}`;
    const colour = weightColour(stage.theme(), state.log);
    for (const one of cards) {
      if (!one.visible || one.drawn === look) continue;
      one.drawn = look;
      const small = recording.head(one.layer, one.index).small(state.pool);
      if (!small) continue;
      const { rows, cols, data } = small;
      Object.assign(one.canvas, { width: cols, height: rows });
      one.canvas.getContext("2d").drawImage(cellsPicture(rows, cols, (p) => colour(data[p])), 0, 0);
    }
  };

  /** @param {Card} one @param {boolean} really */
  const focus = (one, really) => {
    current.node.tabIndex = -1;
    current = one;
    current.node.tabIndex = 0;
    if (really) current.node.focus();
  };
  /** Sifted and sorted: layers as they ran, roles by name, numbers from the largest; equal ones stay. */
  const order = () => {
    const { sort, back, role, least } = chosen;
    /** @param {Card} one */
    const rank = ({ row, layer }) =>
      sort === "layer" ? layer : sort === "role" ? roles.indexOf(row.role) : -(row[sort] ?? NaN);
    const kept = cards.filter((one) => (!role || one.row.role === role) && (least === -Infinity || -rank(one) >= least));
    // Without the number: last.
    /** @param {Card} one */
    const none = (one) => Number(Number.isNaN(rank(one)));
    return kept.sort((a, b) => none(a) - none(b) || (back ? rank(b) - rank(a) : rank(a) - rank(b)) || 0);
  };
  const arrange = () => {
    shown = order();
    const { sort } = chosen;
    list.replaceChildren();
    for (const [line, those] of Map.groupBy(shown, ({ layer }) => (sort === "layer" ? layer : -1))) {
      if (line >= 0) list.append(element("h3", { "aria-level": 2 }, `${line} `, element("bdi", layerName(line))));
      for (const { name, row, layer } of those) {
        const value = names.includes(sort) ? `  ${row[sort] === undefined ? "–" : cell(row[sort], 3)}` : "";
        name.textContent = (line < 0 ? `${layer}·` : "") + row.head + value;
      }
      const row = element("div.head-row", those.map(({ node }) => node));
      row.style.setProperty("--most", String(Math.max(12, recording.layers[Math.max(0, line)].heads)));
      list.append(row);
    }
    status.textContent = say("shown", { shown: count(shown.length), count: count(cards.length) });
    if (shown.length) focus(shown.includes(current) ? current : shown[0], false);
    if (text.childElementCount > 1) text.lastElementChild.replaceWith(table(TABLE_ROWS));
  };

  const draw = () => {
    const { sort, role, least } = chosen;
    const sorts = ["layer", "role", ...names].map((name) => [name, named(words, "number", name)]);
    /** @param {string} name */
    const among = (name) => count(cards.filter(({ row }) => row.role === name).length);
    const byRole = roles.map((name) => [name, `${named(words, "role", name)} (${among(name)})`]);
    const values = cards.map(({ row }) => row[sort]).filter(Number.isFinite);
    const from = Math.min(...values);
    const output = element("output", full(Math.max(from, least)));
    const range = { min: from, max: Math.max(...values), value: Math.max(from, least) };
    const oninput = () => {
      chosen.least = Number(slider.value) > from ? Number(slider.value) : -Infinity;
      output.textContent = full(Number(slider.value));
      arrange();
    };
    const slider = element("input", { id: "heads-least", type: "range", step: "any", ...range, oninput });
    refill(
      controls,
      chooser("heads-sort", say("sort"), sorts, sort, (value) => sortBy(value, false)),
      ...(names.includes(sort) ? [labelled("heads-least", say("least"), slider, output)] : []),
      chooser("heads-role", words.text("recording.role"), [["", say("all")], ...byRole], role, (value) => {
        chosen.role = value;
        arrange();
      }),
      poolChooser(stage),
    );
    arrange();
  };
  /** @param {string} sort @param {boolean} back */
  const sortBy = (sort, back) => {
    const inTable = text.contains(document.activeElement);
    Object.assign(chosen, { sort, back, least: -Infinity });
    draw();
    if (inTable) text.querySelector("[aria-sort] button").focus();
  };

  /** The same heads in words; its headings sort them. @param {number} most */
  function table(most) {
    const columns = ["layer", "head", "role", ...names];
    /** @param {string} name */
    const heading = (name) => {
      const back = name === chosen.sort && !chosen.back;
      const word = named(words, "number", name);
      return name === "head" ? word : pressable(word, () => sortBy(name, back));
    };
    const lines = shown.slice(0, most).map(({ row, layer }) => [
      element("bdi", `${layer} ${layerName(layer)}`),
      String(row.head),
      named(words, "role", row.role),
      ...names.map((name) => (row[name] === undefined ? "–" : full(row[name]))),
    ]);
    const made = plainTable(columns.map(heading), lines, words.text("recording.table"));
    made.querySelectorAll("th[scope=col]")[columns.indexOf(chosen.sort)].ariaSort =
      names.includes(chosen.sort) === chosen.back ? "ascending" : "descending";
    if (shown.length > most)
      made.append(pressable(say("more", { count: count(shown.length) }), () => made.replaceWith(table(Infinity))));
    return made;
  }

  /** The nearest head of the next line up or down. @param {number} way */
  const beyond = (way) => {
    const from = current.node.getBoundingClientRect();
    const others = shown.map((one) => {
      const { top, left } = one.node.getBoundingClientRect();
      return { one, lines: (top - from.top) * way, aside: Math.abs(left - from.left) };
    });
    const [nearest] = others.filter(({ lines }) => lines > 1).sort((a, b) => a.lines - b.lines || a.aside - b.aside);
    return nearest?.one ?? current;
  };
  // One row of heads, but that up and down lead to the nearest above and below.
  /** @param {Cell} to */
  const go = ({ row, col }) => shown.length && focus(row === 1 ? shown[col] : beyond(row - 1), true);
  walkedByKeys(list, () => ({ rows: 3, cols: shown.length }), () => ({ row: 1, col: shown.indexOf(current) }), go);
  draw();
  return { node: element("div", lead(words, "heads"), controls, status, list, text), redraw, destroy: () => observer.disconnect() };
}
