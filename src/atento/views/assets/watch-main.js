// The page of a training that was watched: loss, curves, a film, and the same in tables.

import { byId, element } from "./dom.js";
import { hostLink } from "./host.js";
import { namesOf, plainLabel } from "./labels.js";
import { brandRow, openPage, pageTheme, startOf, whenLooksChange } from "./page-frame.js";
import { among, chooser, eachFrame, fill, labelled, looks, named, pressable, sharp, silentCanvas, spoken, unfolding } from "./view-parts.js";
import { curvePanel, roleInk } from "./watch-curves.js";
import { filmView } from "./watch-film.js";
import { readWatched } from "./watch-record.js";
import { formedTable, numbersTable } from "./watch-tables.js";
import { wordsOf } from "./words.js";

// Milliseconds of each picture.
const FRAME = 250;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** A panel for the loss, and one for each number that there is. @param {WatchedStage} stage */
function panelsOf(stage) {
  const { loss, log, statistics, courses, thresholds } = stage.watched;
  const losses = [...loss, ...log.map(([, value]) => value)];
  const panels = [curvePanel(stage, "loss", { courses: [loss], most: Math.max(...losses, 0.1) })];
  for (const name of statistics) {
    const values = courses[name].flat().filter(Number.isFinite);
    const most = name === "entropy" ? Math.max(...values, 0.1) : 1;
    if (values.length) panels.push(curvePanel(stage, name, { courses: courses[name], most, threshold: thresholds[name] }));
  }
  return panels;
}

/** What is so at a step, of one head or of all. @param {WatchedStage} stage @param {StepAndHead} place @param {string} panel whose number is told alone */
function readoutOf({ words, watched }, { at, head }, panel) {
  const { steps, loss, statistics, courses, names, roles } = watched;
  const { count, full, cell } = words.number;
  const now = words.say("watch.readout.loss", { step: count(steps[at]), loss: full(loss[at]) });
  if (head === null) return now;
  const which = statistics.includes(panel) ? [panel] : statistics;
  const numbers = which
    .filter((name) => Number.isFinite(courses[name][head][at]))
    .map((name) => `${named(words, "number", name)} ${cell(courses[name][head][at], 2)}`);
  const { name, head: number } = names[head];
  const parts = { layer: plainLabel(name, 80), head: String(number), role: named(words, "role", roles[at][head]) };
  return [...words.say("watch.readout", { ...parts, numbers: numbers.join(", ") || "–" }), " ", ...now];
}

/** Which colour is which role. @param {WatchedStage} stage */
function legendEntries({ words, watched }) {
  /** @param {string} role */
  const entry = (role) => {
    const canvas = silentCanvas();
    fill(sharp(canvas, 26, 8), roleInk(role, pageTheme(), looks()), 0, 2, 26, 4);
    return element("li", canvas, named(words, "role", role));
  };
  return [...new Set(watched.formed.map(({ role }) => role))].map(entry);
}

/** How the film is shown, and how the steps stand along the curves. @param {WatchedStage} stage */
function choosers({ words, watched, state, change }) {
  const { maps, prompts } = watched;
  const pools = ["mean", "max"].map((name) => [name, words.text(`recording.pool.${name}`)]);
  const scales = ["linear", "log"].map((name) => [name, words.text(`recording.colours.${name}`)]);
  const texts = maps.map((_, at) => [at, `${at + 1} · ${startOf(namesOf(prompts[at]))}`.slice(0, 60)]);
  const film = element(
    "div.choices",
    texts.length > 1 && chooser("watch-prompt", words.text("watch.prompt"), texts, state.prompt, (at) => change({ prompt: Number(at) })),
    maps.some(({ shape }) => shape[1] > 1) &&
      chooser("watch-pool", words.text("recording.pool"), pools, state.pool, (pool) => change({ pool })),
    chooser("watch-colours", words.text("recording.colours"), scales, state.strength, (strength) => change({ strength })),
  );
  const axis = chooser("watch-axis", words.text("watch.axis"), scales, state.axis, (name) => change({ axis: name }));
  return { film, axis: element("div.choices", axis) };
}

/** What was watched, in numbers. @param {WatchedStage} stage */
function facts({ words: { number }, watched: { steps, total, layers, names, prompts } }) {
  return {
    looks: number.count(steps.length),
    step: number.count(steps[steps.length - 1]),
    total: number.count(total),
    layers: String(layers.length),
    heads: String(names.length),
    prompts: String(prompts.length),
  };
}

openPage(async ({ lang, words: dictionaries, record }) => {
  const watched = await readWatched(record);
  const { steps, formed, names } = watched;
  const last = steps.length - 1;
  const root = byId("app");
  const induction = formed.findIndex(({ role }) => role === "induction");
  /** @type {any} */
  const state = {
    ...{ at: last, head: induction < 0 ? null : induction, lang },
    ...{ prompt: 0, axis: "linear", pool: "max", strength: "linear", table: "induction" },
  };
  let playing = 0;
  /** @type {{ redraw: () => void, point: WatchedStage["point"] }} */
  let drawn;
  let tell = () => {};

  const draw = () => {
    const words = wordsOf(dictionaries, state.lang);
    const { count } = words.number;
    const focused = document.activeElement?.id;
    document.documentElement.lang = state.lang;
    document.title = words.text("watch.title");
    stop();
    /** @type {WatchedStage} */
    const stage = { words, watched, state, theme: pageTheme, change, point: (place, name) => drawn.point(place, name) };
    const readout = spoken("p.watch-readout");
    const legend = element("ul.watch-legend");
    const film = filmView(stage);
    const filmTitle = element("h2");
    const panels = panelsOf(stage);
    const choices = choosers(stage);
    const oninput = () => {
      stop();
      change({ at: Number(slider.value) });
    };
    const slider = element("input", { id: "watch-step", type: "range", min: 0, max: last, step: 1, value: state.at, oninput });
    const output = element("output", { for: "watch-step" });
    const press = () => (calm.matches ? change({ at: (state.at + 1) % steps.length }) : playing ? stop() : start());
    const play = pressable("", press, { id: "watch-play" });

    /** @type {WatchedStage["point"]} */
    const point = (place, name) => readout.replaceChildren(...readoutOf(stage, place ?? state, name));
    const redraw = () => {
      slider.value = String(state.at);
      const step = count(steps[state.at]);
      slider.setAttribute("aria-valuetext", step);
      output.textContent = words.text("watch.of", { step, total: count(watched.total) });
      play.textContent = words.text(calm.matches ? "watch.next" : playing ? "watch.stop" : "watch.play");
      // A film is not read out.
      readout.ariaLive = playing ? "off" : "polite";
      filmTitle.textContent = words.text("watch.film", { step });
      for (const panel of [...panels, film]) panel.redraw();
      legend.replaceChildren(...legendEntries(stage));
    };
    /** @param {string} code */
    const speak = (code) => {
      state.lang = code;
      draw();
    };
    root.replaceChildren(
      element(
        "header",
        brandRow(words, Object.keys(dictionaries), speak),
        element("h1", words.say("watch.title")),
        element("p.note", words.say("watch.facts", facts(stage))),
      ),
      element(
        "main",
        element("div.choices.watch-bar", play, labelled("watch-step", words.text("watch.step"), slider, output)),
        element("h2", words.text("watch.curves")),
        element("p.say", words.say("watch.curves.say")),
        choices.axis,
        legend,
        readout,
        element("div.curves", panels.map(({ node }) => node)),
        unfolding(words.text("watch.formed"), () => formedTable(stage)),
        unfolding(words.text("watch.numbers"), () => numbersTable(stage)),
        filmTitle,
        element("p.say", words.say(watched.maps.length ? "watch.film.say" : "watch.film.none")),
        choices.film,
        film.node,
      ),
      element("footer", element("p", words.say("watch.footer"))),
    );
    root.hidden = false;
    drawn = { redraw, point };
    redraw();
    point(null, "");
    if (focused) byId(focused)?.focus();
  };

  const paint = eachFrame(() => drawn.redraw());
  /** @type {WatchedStage["change"]} */
  const change = (wanted, name = "") => {
    Object.assign(state, wanted);
    paint.ask();
    drawn.point(null, name);
    tell();
  };
  const start = () => {
    if (state.at === last) state.at = 0;
    playing = setInterval(() => {
      if (state.at + 1 >= last) stop();
      change({ at: Math.min(state.at + 1, last) });
    }, FRAME);
    paint.ask();
  };
  const stop = () => {
    clearInterval(playing);
    playing = 0;
    if (drawn) paint.ask();
  };

  draw();
  const again = () => drawn.redraw();
  whenLooksChange(again);
  calm.addEventListener("change", () => {
    stop();
    again();
  });
  const seen = () => ({ at: state.at, head: state.head });
  tell = hostLink(seen, ({ at, head }) =>
    change({ ...(among(at, steps.length) && { at }), ...(among(head, names.length) && { head }) }),
  );
});
