// The page of a training that was watched: loss, curves, a film, and the same in tables.

import { decodeTyped } from "./decode.js";
import { byId, element } from "./dom.js";
import { hostLink } from "./host.js";
import { namesOf, plainLabel } from "./labels.js";
import { brandRow, fail, pageTheme, startOf, whenLooksChange } from "./page-frame.js";
import { chooser, eachFrame, labelled, looks, named, plainTable, pressable, refill, sharp, spoken, unfolding } from "./view-parts.js";
import { curvePanel, roleInk } from "./watch-curves.js";
import { filmView } from "./watch-film.js";
import { wordsOf } from "./words.js";

const FRAME = 250; // milliseconds of each picture
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const MOST_COLUMNS = 48;

/** What Python wrote, with its arrays read. @param {any} record @returns {Promise<Watched>} */
async function readWatched(record) {
  /** @param {number} place */
  const read = (place) => decodeTyped(record.arrays[place]);
  const [numbers, loss, ...maps] = await Promise.all([record.numbers, record.loss, ...record.maps].map(read));
  const count = record.layers.length * record.heads.length;
  /** Of one statistic and head, at all steps. @param {string} statistic @param {number} head @returns {number[]} */
  const course = (statistic, head) => {
    const name = record.statistics.indexOf(statistic);
    return record.steps.map((/** @type {any} */ _, /** @type {number} */ at) => numbers.data[(at * record.statistics.length + name) * count + head]);
  };
  const known = new Map();
  /** @param {string} statistic @param {number} head */
  const values = (statistic, head) => {
    const id = `${statistic} ${head}`;
    if (!known.has(id)) known.set(id, course(statistic, head));
    return known.get(id);
  };
  return { ...record, count, values, loss: Array.from(loss.data), maps: maps.map((map) => ({ ...map, frames: record.frames })) };
}

async function openWatched() {
  const source = byId("data");
  const { lang, words: dictionaries, record } = JSON.parse(source.textContent);
  source.remove();
  const watched = await readWatched(record);
  const { steps, layers, heads, count } = watched;
  const root = byId("app");
  /** @type {any} */
  const state = { at: steps.length - 1, head: null, prompt: 0, log: false, pool: "max", strength: "linear", table: "induction", lang };
  const first = watched.formed.findIndex(({ role }) => role === "induction");
  if (first >= 0) state.head = first;
  let playing = 0;
  /** @type {any[]} */
  let parts = [];
  let tell = () => {};

  const draw = () => {
    const words = wordsOf(dictionaries, state.lang);
    const focused = document.activeElement?.id;
    document.documentElement.lang = state.lang;
    document.title = words.text("watch.title");
    stop();
    const stage = { words, watched, state, theme: pageTheme, change, point };
    const readout = spoken("p.watch-readout");
    const bar = element("div.choices.watch-bar");
    const legend = element("ul.watch-legend");
    const film = filmView(stage);
    const filmTitle = element("h2");
    const panels = [
      curvePanel(stage, "loss", { values: () => watched.loss, count: 1, most: Math.max(...watched.loss, ...watched.log.map(([, loss]) => loss), 0.1) }),
      ...watched.statistics
        .filter((name) => Array.from({ length: count }, (_, head) => watched.values(name, head)).flat().some(Number.isFinite))
        .map((name) => {
          const all = Array.from({ length: count }, (_, head) => watched.values(name, head)).flat().filter(Number.isFinite);
          const most = name === "entropy" ? Math.max(...all, 0.1) : 1;
          return curvePanel(stage, name, { values: (head) => watched.values(name, head), count, most, threshold: watched.thresholds[name] });
        }),
    ];
    /** @param {number} head */
    const nameOf = (head) => ({ layer: plainLabel(layers[Math.floor(head / heads.length)], 80), head: String(heads[head % heads.length]) });

    /** What the crosshair says. @param {{at: number, head: number|null}|null} place @param {string} name */
    function point(place, name) {
      readout.replaceChildren(...said(place ?? { at: state.at, head: state.head }, name));
    }
    /** @param {StepAndHead} place @param {string} name */
    const said = ({ at, head }, name) => {
      const loss = words.say("watch.readout.loss", { step: words.number.count(steps[at]), loss: words.number.full(watched.loss[at]) });
      if (head === null) return loss;
      const facts = watched.statistics
        .filter((other) => Number.isFinite(watched.values(other, head)[at]))
        .map((other) => `${named(words, "number", other)} ${words.number.cell(watched.values(other, head)[at], 2)}`);
      const mine = watched.statistics.includes(name) ? facts.filter((text) => text.startsWith(`${named(words, "number", name)} `)) : facts;
      const role = named(words, "role", watched.roles[at][head]);
      return [...words.say("watch.readout", { ...nameOf(head), role, numbers: mine.join(", ") || "–" }), " ", ...loss];
    };

    const slider = element("input", { id: "watch-step", type: "range", min: 0, max: steps.length - 1, step: 1, value: state.at });
    slider.addEventListener("input", () => (stop(), change({ at: Number(slider.value) })));
    const output = element("output", { for: "watch-step" });
    const play = pressable("", () => (calm.matches ? change({ at: (state.at + 1) % steps.length }) : playing ? stop() : start()), { id: "watch-play" });
    const playWord = () => words.text(calm.matches ? "watch.next" : playing ? "watch.stop" : "watch.play");
    const pools = ["mean", "max"].map((name) => [name, words.text(`recording.pool.${name}`)]);
    const prompts = watched.maps.map((_, at) => [at, `${at + 1} · ${startOf(namesOf(watched.prompts[at]))}`.slice(0, 60)]);
    const scales = ["linear", "log"].map((name) => [name, words.text(`recording.colours.${name}`)]);
    bar.append(play, labelled("watch-step", words.text("watch.step"), slider, output));
    const choices = element(
      "div.choices",
      prompts.length > 1 && chooser("watch-prompt", words.text("watch.prompt"), prompts, state.prompt, (at) => change({ prompt: Number(at) })),
      watched.maps.some(({ shape }) => shape[1] > 1) &&
        chooser("watch-pool", words.text("recording.pool"), pools, state.pool, (pool) => change({ pool })),
      chooser("watch-colours", words.text("recording.colours"), scales, state.strength, (strength) => change({ strength })),
    );
    const axis = element(
      "div.choices",
      chooser("watch-axis", words.text("watch.axis"), scales, state.log ? "log" : "linear", (name) => change({ log: name === "log" })),
    );

    const redraw = () => {
      slider.value = String(state.at);
      const step = words.number.count(steps[state.at]);
      slider.setAttribute("aria-valuetext", step);
      output.textContent = words.text("watch.of", { step, total: words.number.count(watched.total) });
      play.textContent = playWord();
      readout.ariaLive = playing ? "off" : "polite"; // a film is not read out
      filmTitle.textContent = words.text("watch.film", { step });
      for (const { redraw: again } of panels) again();
      film.redraw();
      drawLegend();
    };
    const drawLegend = () => {
      const there = [...new Set(watched.formed.map(({ role }) => role))];
      /** @param {string} role */
      const entry = (role) => {
        const canvas = element("canvas", { "aria-hidden": "true" });
        const context = sharp(canvas, 26, 8);
        context.fillStyle = roleInk(role, pageTheme(), looks());
        context.fillRect(0, 2, 26, 4);
        return element("li", canvas, named(words, "role", role));
      };
      legend.replaceChildren(...there.map(entry));
    };

    const formedTable = () => {
      const columns = ["layer", "head", "role"].map((name) => named(words, "number", name));
      const lines = watched.formed.map(({ layer, head, role, number, value, step }) => [
        element("bdi", plainLabel(layer, 80)),
        String(head),
        named(words, "role", role),
        number === null ? "–" : `${named(words, "number", number)} ${value === null ? "–" : words.number.cell(value, 2)}`,
        step === null ? "–" : words.number.count(step),
      ]);
      return plainTable([...columns, words.text("watch.decides"), words.text("watch.formed.at")], lines, words.text("watch.formed"));
    };
    const numbersTable = () => {
      const holder = element("div");
      const shown = Math.min(count, MOST_COLUMNS);
      const options = watched.statistics.map((name) => [name, named(words, "number", name)]);
      const fill = () => {
        const columns = Array.from({ length: shown }, (_, head) => `${Math.floor(head / heads.length)}·${heads[head % heads.length]}`);
        /** @param {string} name @param {number} head @param {number} at */
        const value = (name, head, at) => {
          const number = watched.values(name, head)[at];
          return Number.isFinite(number) ? words.number.cell(number, 3) : "–";
        };
        const lines = steps.map((step, at) => [
          words.number.count(step),
          words.number.cell(watched.loss[at], 3),
          ...columns.map((_, head) => value(state.table, head, at)),
        ]);
        refill(
          holder,
          chooser("watch-table", words.text("watch.statistic"), options, state.table, (name) => {
            state.table = name;
            fill();
          }),
          plainTable([words.text("watch.step"), words.text("watch.loss"), ...columns], lines, words.text("watch.numbers")),
          ...(shown < count ? [element("p.note", words.text("watch.more", { shown: String(shown), count: String(count) }))] : []),
        );
      };
      fill();
      return holder;
    };

    const facts = {
      looks: words.number.count(steps.length),
      step: words.number.count(steps[steps.length - 1]),
      total: words.number.count(watched.total),
      layers: String(layers.length),
      heads: String(count),
      prompts: String(watched.prompts.length),
    };
    root.replaceChildren(
      element(
        "header",
        brandRow(words, Object.keys(dictionaries), (code) => ((state.lang = code), draw())),
        element("h1", words.say("watch.title")),
        element("p.note", words.say("watch.facts", facts)),
      ),
      element(
        "main",
        bar,
        element("h2", words.text("watch.curves")),
        element("p.say", words.say("watch.curves.say")),
        axis,
        legend,
        readout,
        element("div.curves", panels.map(({ node }) => node)),
        unfolding(words.text("watch.formed"), formedTable),
        unfolding(words.text("watch.numbers"), numbersTable),
        filmTitle,
        element("p.say", words.say(watched.maps.length ? "watch.film.say" : "watch.film.none")),
        choices,
        film.node,
      ),
      element("footer", element("p", words.say("watch.footer"))),
    );
    root.hidden = false;
    parts = [redraw, point];
    redraw();
    point(null, "");
    if (focused) document.getElementById(focused)?.focus();
  };

  const paint = eachFrame(() => parts[0]());
  /** @param {Record<string, any>} wanted @param {string} [name] of the panel that was used */
  function change(wanted, name = "") {
    Object.assign(state, wanted);
    paint.ask();
    parts[1](null, name);
    tell();
  }
  /** @param {any} place @param {string} name */
  function point(place, name) {
    parts[1](place, name);
  }
  const start = () => {
    if (state.at === steps.length - 1) state.at = 0;
    playing = setInterval(() => {
      if (state.at + 1 >= steps.length - 1) stop();
      change({ at: Math.min(state.at + 1, steps.length - 1) });
    }, FRAME);
    paint.ask();
  };
  const stop = () => {
    clearInterval(playing);
    playing = 0;
    if (parts.length) paint.ask();
  };

  draw();
  whenLooksChange(() => parts[0]());
  calm.addEventListener("change", () => (stop(), parts[0]()));
  byId("failure").hidden = true;
  const seen = () => ({ at: state.at, head: state.head });
  tell = hostLink(seen, ({ at, head }) => change({ ...(at in steps && { at }), ...(head >= 0 && head < count && { head }) }));
}

addEventListener("error", (event) => fail(event.error ?? event.message));
openWatched().catch(fail);
