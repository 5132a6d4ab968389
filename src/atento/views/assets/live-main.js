// The page of the local server: a text is read by a model, and all views stand over that reading.

import { byId, element } from "./dom.js";
import { plainLabel } from "./labels.js";
import { generation } from "./live-generate.js";
import { headsOff, nextTokens } from "./live-parts.js";
import { liveServer } from "./live-server.js";
import { brandRow, openPage } from "./page-frame.js";
import { recordingApp } from "./recording-app.js";
import { recordingReader } from "./recording.js";
import { tileClient } from "./tiles.js";
import { chooser, labelled, pressable, refill } from "./view-parts.js";
import { wordsOf } from "./words.js";

/** A text of so many characters stands in the address; a longer one is found by its reading's name. */
const SHORT = 300;
// What else an address says is looked at as it is.
const READ_AGAIN = ["file", "reading", "text", "model", "off"];

openPage(async ({ lang, words: dictionaries, record, worker }) => {
  /** @type {{ models: string[], recordings: { id: string, name: string }[] }} */
  const { models, recordings } = record;
  const languages = Object.keys(dictionaries);
  const root = byId("app");
  const [top, side, status] = [element("header"), element("div.live-side"), element("p", { class: "note", role: "status", id: "live-status" })];
  const views = element("div", { id: "reading" });
  const input = element("textarea", { id: "live-text", rows: 3, spellcheck: "false" });
  const tiles = tileClient(worker);
  let words = wordsOf(dictionaries, lang);
  let model = models[0];
  /** @type {any} */
  let [told, app, work] = [null, null, null];
  const server = liveServer(() => words.lang);
  // A recording that was opened has no model to ask.
  const known = () => models.includes(told?.model);

  /** @param {string} text */
  const say = (text) => (status.textContent = text);
  /** @param {any} error */
  const failed = (error) => {
    if (error.name === "AbortError") return;
    say(error.lost ? words.text("live.lost") : error.message);
    status.classList.add("wrong");
  };
  const addressNow = () => {
    const parts = new URLSearchParams(app?.text() ?? "");
    parts.delete("lang");
    if (words.lang !== lang) parts.set("lang", words.lang);
    const file = recordings.find(({ id }) => id === told?.id);
    if (file) parts.set("file", file.name);
    else if (told && told.text.length > SHORT) parts.set("reading", told.id);
    else if (told) {
      parts.set("text", told.text);
      if (told.model !== models[0]) parts.set("model", told.model);
      if (told.off.length) parts.set("off", told.off.map((/** @type {number[]} */ pair) => pair.join(".")).join(","));
    }
    return parts;
  };
  const writeAddress = () => history.replaceState(null, "", `#${addressNow()}`);
  /** What an address asks for and this server has not. @param {string} key @param {string} name */
  const lacks = (key, name) => failed(new Error(words.text(`live.lacks.${key}`, { name: plainLabel(name, 60) })));

  /** One piece of work at a time; the last one that was asked for. @param {(signal: AbortSignal) => Promise<any>} ask @param {string} [place] */
  const show = async (ask, place) => {
    work?.abort();
    const { signal } = (work = new AbortController());
    status.classList.remove("wrong");
    say(words.text("live.reading"));
    try {
      const found = await ask(signal);
      const plan = await server.ask(`readings/${found.id}/record`, null, signal);
      const recording = await recordingReader(plan, server.reading(found.id));
      if (signal.aborted) return;
      const before = place ?? app?.text() ?? "";
      // The way back to what was read.
      if (told && place === undefined) history.pushState(null, "", location.href);
      app?.end();
      app = null;
      told = { ...found, changes: found.off.length > 0 };
      if (known()) Object.assign(input, { value: told.text });
      if (known()) model = told.model;
      app = await recordingApp(views, {
        recording,
        dictionaries,
        tiles,
        lang: words.lang,
        place: before,
        footer: "live.footer",
        above: () => [],
        wrote: writeAddress,
        drawn: drawSide,
      });
      drawTop();
      drawSide();
      writeAddress();
      const { length } = recording.tokens;
      say(words.text(length === 1 ? "live.read.one" : "live.read.done", { count: words.number.count(length), model: told.model }));
    } catch (error) {
      failed(error);
    }
  };
  /** @param {[number, number][]} [off] @param {string} [place] */
  const read = (off = [], place) =>
    show((signal) => server.ask("readings", { text: input.value, model, off }, signal), place);
  /** @param {string} id @param {string} [place] */
  const openHeld = (id, place) => show((signal) => server.ask(`readings/${id}`, null, signal), place);

  const generate = generation(
    server,
    () => ({ text: told.text, model: told.model, off: told.off, watch: here() }),
    (text) => {
      input.value = text;
      read(told.off);
    },
    failed,
  );
  /** Layer and head that are looked at, by the model's numbers. @returns {[number, number]} */
  const here = () => [app.state.layer, app.recording.layers[app.state.layer].headNumbers[app.state.head]];

  const drawTop = () => {
    const file = recordings.find(({ id }) => id === told?.id)?.id ?? "";
    refill(
      top,
      brandRow(words, languages, speak),
      element("h1", words.text("live.title")),
      element("p.note", words.text("live.say")),
      labelled("live-text", words.text("live.text"), input),
      element(
        "div.choices",
        chooser("live-model", words.text("live.model"), models.map((name) => [name, name]), model, (name) => (model = name)),
        pressable(words.text("live.read"), () => read(), { id: "live-read", class: "start" }),
        ...(recordings.length
          ? [chooser("live-file", words.text("live.file"), [["", "–"], ...recordings.map(({ id, name }) => [id, name])], file, (id) => id && openHeld(id))]
          : []),
      ),
      status,
    );
  };
  const drawSide = () => {
    if (!told || !known()) return side.replaceChildren();
    // Until it is there, what stands keeps the focus.
    if (!app) return;
    refill(side, nextTokens(words, told), headsOff(words, told.off, here(), (off) => read(off)), ...(told.next.length ? [generate.node] : []));
    generate.redraw(words);
  };
  /** @param {string} code */
  const speak = (code) => {
    words = wordsOf(dictionaries, code);
    document.documentElement.lang = code;
    drawTop();
    say("");
    if (app) app.change({ lang: code });
    else writeAddress();
  };
  input.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) read();
  });

  /** What an address says is read, and looked at as it says. */
  const follow = async () => {
    const place = location.hash.slice(1);
    const said = Object.fromEntries(new URLSearchParams(place));
    const same = READ_AGAIN.every((name) => (said[name] ?? null) === addressNow().get(name));
    if (told && same) return app.look(place, { ...app.defaults, lang: words.lang });
    if (languages.includes(said.lang) && said.lang !== words.lang) speak(said.lang);
    if (models.includes(said.model)) model = said.model;
    const off = /** @type {[number, number][]} */ ((said.off ?? "").split(",").map((pair) => pair.split(".").map(Number)));
    const file = recordings.find(({ name }) => name === said.file);
    if (said.file && !file) return lacks("file", said.file);
    if (file) return openHeld(file.id, place);
    if (said.reading) return openHeld(encodeURIComponent(said.reading), place);
    if (!said.text) return recordings.length && !told ? openHeld(recordings[0].id, place) : undefined;
    input.value = said.text;
    if (said.model && !models.includes(said.model)) return lacks("model", said.model);
    return read(off.filter((pair) => pair.length === 2 && pair.every((at) => Number.isInteger(at) && at >= 0)), place);
  };
  root.replaceChildren(top, element("div.live", side, views));
  root.hidden = false;
  drawTop();
  addEventListener("hashchange", follow);
  await follow();
});
