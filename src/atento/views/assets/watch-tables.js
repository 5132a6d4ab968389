// What was watched of a training, in tables.

import { element } from "./dom.js";
import { plainLabel } from "./labels.js";
import { chooser, named, plainTable, refill } from "./view-parts.js";

const MOST_COLUMNS = 48;

/** What each head became, by which number and when. @param {WatchedStage} stage */
export function formedTable({ words, watched }) {
  const { count, cell } = words.number;
  const columns = ["layer", "head", "role"].map((name) => named(words, "number", name));
  const lines = watched.formed.map(({ layer, head, role, number, value, step }) => [
    element("bdi", plainLabel(layer, 80)),
    String(head),
    named(words, "role", role),
    number === null ? "–" : `${named(words, "number", number)} ${value === null ? "–" : cell(value, 2)}`,
    step === null ? "–" : count(step),
  ]);
  return plainTable([...columns, words.text("watch.decides"), words.text("watch.formed.at")], lines, words.text("watch.formed"));
}

/** One number of all heads at every step, and which. @param {WatchedStage} stage */
export function numbersTable({ words, watched, state }) {
  const { steps, loss, names, courses } = watched;
  const { count, cell } = words.number;
  const holder = element("div");
  const shown = names.slice(0, MOST_COLUMNS);
  const columns = shown.map(({ layer, head }) => `${layer}·${head}`);
  const options = watched.statistics.map((name) => [name, named(words, "number", name)]);
  const more = { shown: String(shown.length), count: String(names.length) };
  /** @param {string} name of the number */
  const show = (name) => {
    state.table = name;
    const values = courses[name].slice(0, MOST_COLUMNS);
    const lines = steps.map((step, at) => [
      count(step),
      cell(loss[at], 3),
      ...values.map((course) => (Number.isFinite(course[at]) ? cell(course[at], 3) : "–")),
    ]);
    refill(
      holder,
      chooser("watch-table", words.text("watch.statistic"), options, name, show),
      plainTable([words.text("watch.step"), words.text("watch.loss"), ...columns], lines, words.text("watch.numbers")),
      ...(shown.length < names.length ? [element("p.note", words.text("watch.more", more))] : []),
    );
  };
  show(state.table);
  return holder;
}
