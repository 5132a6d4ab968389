// A recording as one looks at it: facts, tabs, and the view that is chosen. Static and live pages mount it.

import { arcsView } from "./arcs.js";
import { compareView, incomparable } from "./compare.js";
import { byId, element, tokenNode } from "./dom.js";
import { headsView } from "./heads-grid.js";
import { plainLabel } from "./labels.js";
import { mapView } from "./map.js";
import { fail, pageTheme, startOf, whenLooksChange } from "./page-frame.js";
import { patchesView } from "./patches.js";
import { pairView } from "./query-key.js";
import { chooser, named, pressable, unfolding } from "./view-parts.js";
import { wordsOf } from "./words.js";

/** @type {Record<string, (stage: ViewStage) => View>} */
const VIEWS = { heads: headsView, map: mapView, arcs: arcsView, pair: pairView, compare: compareView, patches: patchesView };
// What else changes is drawn by the view as it is.
const REMADE = ["view", "layer", "head", "lang"];

/** What an address says; what means nothing is left out. @param {string} text @param {any[]} layers @param {string[]} languages */
export function fromHash(text, layers, languages) {
  const said = new URLSearchParams(text);
  /** @type {Record<string, any>} */
  const state = {};
  /** @param {string} name @param {string[]} choices */
  const one = (name, choices) => choices.includes(said.get(name) ?? "") && (state[name] = said.get(name));
  /** @type {(...asked: any[]) => void} */
  const number = (name, least, most, whole) => {
    const value = said.get(name) ? Number(said.get(name)) : NaN;
    if (value >= least && value <= most && (!whole || Number.isInteger(value))) state[name] = value;
  };
  one("view", Object.keys(VIEWS));
  one("pool", ["mean", "max"]);
  one("lang", languages);
  if (["0", "1"].includes(said.get("log") ?? "")) state.log = said.get("log") === "1";
  number("layer", 0, layers.length - 1, true);
  const layer = layers[state.layer ?? 0];
  number("head", 0, layer.heads - 1, true);
  number("row", 0, layer.queries - 1, true);
  number("col", 0, layer.keys - 1, true);
  number("zoom", -8, 40, false);
  number("x", 0, layer.keys, false);
  number("y", 0, layer.queries, false);
  return state;
}

/** @param {any} value */
const rounded = (value) => (typeof value === "number" ? Math.round(value * 1000) / 1000 : value);

/** As text of an address. @param {Record<string, any>} state @param {Record<string, any>} usual left out */
export function hashText(state, usual) {
  const said = Object.entries(state).filter(([name, value]) => value !== null && value !== usual[name]);
  const plain = said.map(([name, value]) => [name, String(typeof value === "boolean" ? Number(value) : rounded(value))]);
  return new URLSearchParams(plain).toString();
}

/** Draws a recording within a node, now and whenever its state changes. @param {HTMLElement} root @param {AppGiven} given */
export async function recordingApp(root, { recording, dictionaries, tiles, lang, place, footer, above, wrote, drawn }) {
  const { layers } = recording;
  const languages = Object.keys(dictionaries);
  const unset = { row: null, col: null, zoom: null, x: null, y: null };
  /** @type {any} */
  const defaults = { view: "heads", layer: 0, head: 0, pool: "max", log: true, lang, ...unset };
  /** @type {any} */
  const state = { ...defaults, ...fromHash(place, layers, languages) };
  const ended = new AbortController();
  /** @type {any} */
  let view = null;
  let turn = 0;
  let waiting = 0;

  /** Why a view cannot be had, or null. @param {string} name */
  const lacking = (name) => {
    const layer = layers[state.layer];
    if (name === "patches" && !layer.patches) return "recording.needs.patches";
    if (name === "compare") return incomparable(recording, state.layer, state.head);
    return name !== "heads" && layer.query === null ? "recording.needs.qk" : null;
  };

  /** @param {Words} words */
  const header = (words) => {
    const layer = layers[state.layer];
    const start = startOf(recording.tokens);
    document.title = [start, words.text("recording.title")].filter(Boolean).join(" · ");
    const facts = {
      layers: String(layers.length),
      heads: String(layers.reduce((sum, { heads }) => sum + heads, 0)),
      queries: words.number.count(layer.queries),
      keys: words.number.count(layer.keys),
    };
    /** @param {string} name @param {any[][]} options */
    const choice = (name, options) =>
      chooser(name, words.text(`page.${name}`), options, state[name], (at) => change({ [name]: Number(at) }));
    /** @param {string} text @param {number} length */
    const plain = (text, length) => tokenNode({ text, mark: "" }, length);
    const skipped = () =>
      element("ul", recording.skipped.map(([name, why]) => element("li", plain(name, 80), ": ", plain(why, 400))));
    return element(
      "header",
      above(words, change),
      start && element("p.lead", element("bdi", start)),
      element("p.note", words.say("recording.facts", facts)),
      recording.skipped.length > 0 &&
        unfolding(words.text("recording.skipped", { count: String(recording.skipped.length) }), skipped),
      element(
        "div.choices",
        choice("layer", layers.map(({ name }, at) => [at, `${at} · ${plainLabel(name, 60)}`])),
        choice("head", layer.headNumbers.map((number, at) => [at, `${number} · ${named(words, "role", layer.summary[at].role)}`])),
      ),
    );
  };

  /** @param {Words} words */
  const tabs = (words) => {
    const offered = Object.keys(VIEWS).filter((name) => name === state.view || !lacking(name));
    const list = element(
      "div",
      { class: "tabs", role: "tablist", "aria-label": words.text("recording.views") },
      ...offered.map((name) =>
        pressable(words.text(`recording.view.${name}`), () => change({ view: name }), {
          ...{ id: `tab-${name}`, role: "tab", "aria-controls": "view" },
          ...{ "aria-selected": String(name === state.view), tabindex: name === state.view ? 0 : -1 },
        }),
      ),
    );
    list.addEventListener("keydown", (/** @type {KeyboardEvent} */ { key }) => {
      const step = key === "ArrowLeft" ? -1 : Number(key === "ArrowRight");
      if (!step) return;
      const name = offered[(offered.indexOf(state.view) + step + offered.length) % offered.length];
      change({ view: name }).then(() => byId(`tab-${name}`).focus());
    });
    return list;
  };

  const draw = async () => {
    const mine = ++turn;
    if (view !== null || state.view !== "heads") {
      await Promise.all([
        recording.ready(state.layer, state.head),
        recording.other?.layers[state.layer] && recording.other.ready(state.layer, state.head),
      ]);
      if (mine !== turn) return;
    }
    const focused = document.activeElement?.id;
    const words = wordsOf(dictionaries, state.lang);
    document.documentElement.lang = state.lang;
    view?.destroy();
    const panel = element("div", { id: "view", role: "tabpanel", "aria-labelledby": `tab-${state.view}` });
    const { layer } = state;
    /** @type {ViewStage} */
    const stage = {
      recording,
      layer: layers[layer],
      head: recording.head(layer, state.head),
      tokens: { query: recording.queryTokens(layer), key: recording.keyTokens(layer) },
      words,
      state,
      tiles,
      change,
      theme: pageTheme,
      width: () => panel.clientWidth,
    };
    const why = lacking(state.view);
    view = why
      ? { node: element("p.say", words.say(why)), redraw: () => {}, destroy: () => {} }
      : VIEWS[state.view](stage);
    panel.append(view.node);
    root.replaceChildren(header(words), element("main", tabs(words), panel), element("footer", element("p", words.say(footer))));
    root.hidden = false;
    drawn?.(words);
    view.redraw();
    if (focused) document.getElementById(focused)?.focus();
  };

  const text = () => hashText(state, defaults);
  /** @param {Record<string, any>} wanted */
  const change = async (wanted) => {
    const before = { ...state };
    Object.assign(state, wanted);
    const layer = layers[state.layer];
    state.head = Math.min(state.head, layer.heads - 1);
    if (layer.queries !== layers[before.layer].queries || layer.keys !== layers[before.layer].keys)
      Object.assign(state, unset);
    clearTimeout(waiting);
    waiting = setTimeout(() => wrote(text()), 250);
    if (REMADE.some((name) => state[name] !== before[name])) await draw();
    else view.redraw();
  };

  recording.heard = () => draw().catch(fail);
  await draw();
  const again = () => view.redraw();
  const { signal } = ended;
  whenLooksChange(again, signal);
  const end = () => {
    ended.abort();
    turn++;
    clearTimeout(waiting);
    view?.destroy();
  };
  /** What is looked at from now on, as an address says it. @param {string} said @param {Record<string, any>} [usual] */
  const look = (said, usual = {}) => change({ ...usual, ...fromHash(said, layers, languages) });
  /** What is looked at, as plain values. */
  const seen = () => Object.fromEntries(Object.entries(state).map(([name, value]) => [name, rounded(value)]));
  return { recording, state, defaults, change, look, end, text, seen };
}
