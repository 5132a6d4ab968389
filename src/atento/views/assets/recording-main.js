// The page of a recording: header, tabs, and the view that is chosen.

import { arcsView } from "./arcs.js";
import { compareView, incomparable } from "./compare.js";
import { element, tokenNode } from "./dom.js";
import { headsView } from "./heads-grid.js";
import { hosted, hostLink } from "./host.js";
import { plainLabel } from "./labels.js";
import { mapView } from "./map.js";
import { patchesView } from "./patches.js";
import { pairView } from "./query-key.js";
import { recordingReader } from "./recording.js";
import { tileClient } from "./tiles.js";
import { chooser, named, pressable, unfolding } from "./view-parts.js";
import { wordsOf } from "./words.js";

const VIEWS = {
  heads: headsView,
  map: mapView,
  arcs: arcsView,
  pair: pairView,
  compare: compareView,
  patches: patchesView,
};
const REMADE = ["view", "layer", "head", "lang"]; // what else changes is drawn by the view as it is

const darkTheme = matchMedia("(prefers-color-scheme: dark)");
const printing = matchMedia("print");

/** Whatever goes wrong is said in words. @param {unknown} error */
function failure(error) {
  const notice = document.getElementById("failure");
  notice.hidden = false;
  notice.classList.add("now");
  document.getElementById("failure-detail").textContent = String(
    error instanceof Error ? error.message : error,
  );
}

/** What an address says; what means nothing is left out. @param {string} text @param {any[]} layers @param {string[]} languages */
function fromHash(text, layers, languages) {
  const said = new URLSearchParams(text);
  /** @type {Record<string, any>} */
  const state = {};
  const one = (name, choices) => choices.includes(said.get(name)) && (state[name] = said.get(name));
  const number = (name, least, most, whole) => {
    const value = said.get(name) ? Number(said.get(name)) : NaN;
    if (value >= least && value <= most && (!whole || Number.isInteger(value))) state[name] = value;
  };
  one("view", Object.keys(VIEWS));
  one("pool", ["mean", "max"]);
  one("lang", languages);
  if (["0", "1"].includes(said.get("log"))) state.log = said.get("log") === "1";
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

const rounded = (value) => (typeof value === "number" ? Math.round(value * 1000) / 1000 : value);

/** As text of an address. @param {Record<string, any>} state @param {Record<string, any>} usual left out */
function hashText(state, usual) {
  const said = Object.entries(state).filter(([name, value]) => value !== null && value !== usual[name]);
  return new URLSearchParams(
    said.map(([name, value]) => [name, String(typeof value === "boolean" ? Number(value) : rounded(value))]),
  ).toString();
}

async function open() {
  const {
    lang,
    words: dictionaries,
    record,
    worker,
  } = JSON.parse(document.getElementById("data").textContent);
  document.getElementById("data").remove(); // megabytes that are read by now
  const app = document.getElementById("app");
  const recording = await recordingReader(record);
  const { layers } = recording;
  const languages = Object.keys(dictionaries);
  const defaults = {
    view: "heads",
    layer: 0,
    head: 0,
    row: null,
    col: null,
    pool: "max",
    log: true,
    lang,
    zoom: null,
    x: null,
    y: null,
  };
  const state = { ...defaults, ...fromHash(location.hash.slice(1), layers, languages) };
  const tiles = tileClient(worker);
  /** @type {any} */
  let view = null;
  let turn = 0;

  /** Why a view cannot be had, or null. @param {string} name */
  const lacking = (name) => {
    const layer = layers[state.layer];
    if (name === "patches" && !layer.patches) return "recording.needs.patches";
    if (name === "compare") return incomparable(recording, state.layer, state.head);
    return name !== "heads" && layer.query === null ? "recording.needs.qk" : null;
  };

  const header = (words) => {
    const layer = layers[state.layer];
    const heads = layers.reduce((sum, { heads: count }) => sum + count, 0);
    const names = recording.tokens
      .slice(0, 12)
      .map(({ text }) => plainLabel(text, 24))
      .join(" ");
    const start = recording.tokens.length > 12 ? `${names} …` : names;
    document.title = [start, words.text("recording.title")].filter(Boolean).join(" · ");
    const flags = languages.map((code) =>
      pressable({ en: "English", es: "Español" }[code], () => change({ lang: code }), {
        lang: code,
        id: `lang-${code}`,
        "aria-pressed": String(code === state.lang),
      }),
    );
    const facts = {
      layers: String(layers.length),
      heads: String(heads),
      queries: words.number.count(layer.queries),
      keys: words.number.count(layer.keys),
    };
    const skipped = () =>
      element(
        "ul",
        {},
        ...recording.skipped.map(([name, reason]) =>
          element(
            "li",
            {},
            tokenNode({ text: name, mark: "" }, 80),
            ": ",
            tokenNode({ text: reason, mark: "" }, 400),
          ),
        ),
      );
    return element(
      "header",
      {},
      element(
        "div",
        { class: "top" },
        element("p", { class: "brand", translate: "no" }, "atento"),
        element(
          "div",
          { class: "languages", role: "group", "aria-label": words.text("page.language") },
          ...flags,
        ),
      ),
      element("h1", {}, ...words.say("recording.title")),
      start ? element("p", { class: "lead" }, element("bdi", {}, start)) : null,
      element("p", { class: "note" }, ...words.say("recording.facts", facts)),
      recording.skipped.length
        ? unfolding(words.text("recording.skipped", { count: String(recording.skipped.length) }), skipped)
        : null,
      element(
        "div",
        { class: "choices" },
        chooser(
          "layer",
          words.text("page.layer"),
          layers.map(({ name }, at) => [at, `${at} · ${plainLabel(name, 60)}`]),
          state.layer,
          (at) => change({ layer: Number(at) }),
        ),
        chooser(
          "head",
          words.text("page.head"),
          layer.headNumbers.map((number, at) => [
            at,
            `${number} · ${named(words, "role", layer.summary[at].role)}`,
          ]),
          state.head,
          (at) => change({ head: Number(at) }),
        ),
      ),
    );
  };

  const tabs = (words) => {
    const offered = Object.keys(VIEWS).filter((name) => name === state.view || !lacking(name));
    const list = element(
      "div",
      { class: "tabs", role: "tablist", "aria-label": words.text("recording.views") },
      ...offered.map((name) =>
        pressable(words.text(`recording.view.${name}`), () => change({ view: name }), {
          id: `tab-${name}`,
          role: "tab",
          "aria-selected": String(name === state.view),
          "aria-controls": "view",
          tabindex: name === state.view ? 0 : -1,
        }),
      ),
    );
    list.addEventListener("keydown", ({ key }) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
      if (!step) return;
      const name = offered[(offered.indexOf(state.view) + step + offered.length) % offered.length];
      change({ view: name }).then(() => document.getElementById(`tab-${name}`).focus());
    });
    return list;
  };

  const draw = async () => {
    const mine = ++turn;
    if (view !== null || state.view !== "heads") {
      await Promise.all([
        recording.ready(state.layer),
        layers.length && recording.other?.layers[state.layer] && recording.other.ready(state.layer),
      ]);
      if (mine !== turn) return;
    }
    const focused = document.activeElement?.id;
    const words = wordsOf(dictionaries, state.lang);
    document.documentElement.lang = state.lang;
    view?.destroy();
    const panel = element("div", { id: "view", role: "tabpanel", "aria-labelledby": `tab-${state.view}` });
    const stage = {
      recording,
      words,
      state,
      tiles,
      change,
      theme: () => (darkTheme.matches && !printing.matches ? "dark" : "light"),
      width: () => panel.clientWidth,
    };
    const why = lacking(state.view);
    view = why
      ? { node: element("p", { class: "say" }, ...words.say(why)), redraw: () => {}, destroy: () => {} }
      : VIEWS[state.view](stage);
    panel.append(view.node);
    app.replaceChildren(
      header(words),
      tabs(words),
      element("main", {}, panel),
      element("footer", {}, element("p", {}, ...words.say("recording.footer"))),
    );
    app.hidden = false;
    view.redraw();
    if (focused) document.getElementById(focused)?.focus();
  };

  let waiting = 0;
  let tell = () => {};
  const write = () => {
    if (hosted) tell();
    else history.replaceState(null, "", `#${hashText(state, defaults)}`);
  };
  /** @param {Record<string, any>} wanted */
  const change = async (wanted) => {
    const before = { ...state };
    Object.assign(state, wanted);
    const layer = layers[state.layer];
    state.head = Math.min(state.head, layer.heads - 1);
    if (layer.queries !== layers[before.layer].queries || layer.keys !== layers[before.layer].keys)
      Object.assign(state, { row: null, col: null, zoom: null, x: null, y: null });
    clearTimeout(waiting);
    waiting = setTimeout(write, 250);
    if (REMADE.some((name) => state[name] !== before[name])) await draw();
    else view.redraw();
  };

  await draw();
  const again = () => view.redraw();
  let resizing = 0;
  addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(again, 80);
  });
  addEventListener("hashchange", () =>
    change({ ...defaults, lang: state.lang, ...fromHash(location.hash.slice(1), layers, languages) }).catch(failure),
  );
  for (const query of [darkTheme, printing]) query.addEventListener("change", again);
  document.getElementById("failure").hidden = true;
  tell = hostLink(
    () => Object.fromEntries(Object.entries(state).map(([name, value]) => [name, rounded(value)])),
    (wanted) => {
      const blank = Object.entries(wanted).filter(([name, value]) => value === null && defaults[name] === null);
      const text = hashText({ ...state, ...wanted }, {});
      return change({ ...fromHash(text, layers, languages), ...Object.fromEntries(blank) }).catch(failure);
    },
  );
}

addEventListener("error", (event) => failure(event.error ?? event.message));
open().catch(failure);
