// How the heads formed, as curves: for each statistic a panel with a line for each head, over the steps.

import { element } from "./dom.js";
import { walkedByKeys } from "./grid-keys.js";
import { named, looks, pictureBox, sharp, whenPointed, within } from "./view-parts.js";

const HEIGHT = 150;
const ROOM = { left: 40, right: 8, top: 8, bottom: 20 };

/** Lines of heads that became something; all others are drawn softly. Told apart in both themes and without colour vision. @type {Record<string, string[]>} */
const INKS = {
  induction: ["#c05000", "#ff9d4d"],
  duplicate: ["#8a6d00", "#e6c229"],
  "previous token": ["#0063a3", "#6db8f0"],
  diagonal: ["#00756b", "#4fd1c0"],
  sink: ["#6b3fa0", "#c3a1f0"],
};

/** @param {string} role @param {Theme} theme @param {any} look */
export const roleInk = (role, theme, look) => INKS[role]?.[theme === "dark" ? 1 : 0] ?? look.soft;

/** Numbers that say how high: three or so between nothing and the most. @param {number} most */
function marksUpTo(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  const step = [0.2, 0.5, 1, 2, 5].map((factor) => factor * power).find((size) => most / size <= 4) ?? power * 5;
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, at) => at * step);
}

/**
 * One panel: lines over the steps.
 * @param {WatchedStage} stage what the page tells its parts @param {string} name of the statistic, or "loss"
 * @param {{ courses: number[][], most: number, threshold?: number }} lines a course for each head
 */
export function curvePanel(stage, name, { courses, most, threshold }) {
  const { words, watched, state } = stage;
  const { steps } = watched;
  const title = name === "loss" ? words.text("watch.loss") : named(words, "number", name);
  const { canvas, box } = pictureBox("curve", words.text("watch.curves.keys", { name: title }));
  const node = element("figure", element("figcaption", title), box);
  let size = { width: 0, place: (/** @type {number} */ at) => at, high: (/** @type {number} */ value) => value };

  const scale = () => {
    const width = Math.max(200, box.clientWidth);
    /** @param {number} step */
    const along = (step) => (state.axis === "log" ? Math.log2(step + 1) : step);
    const [first, last] = [along(steps[0]), along(Math.max(steps[steps.length - 1], 1))];
    const inner = width - ROOM.left - ROOM.right;
    /** @param {number} step */
    const place = (step) => ROOM.left + (inner * (along(step) - first)) / Math.max(1e-9, last - first);
    /** @param {number} value */
    const high = (value) => HEIGHT - ROOM.bottom - ((HEIGHT - ROOM.top - ROOM.bottom) * value) / most;
    size = { width, place, high };
  };
  /** @type {DrawCurve} */
  const line = (context, points, ink, width, alpha) => {
    Object.assign(context, { strokeStyle: ink, lineWidth: width, globalAlpha: alpha, lineJoin: "round" });
    context.beginPath();
    let drawn = false;
    for (const [step, value] of points) {
      if (Number.isFinite(value)) context[drawn ? "lineTo" : "moveTo"](size.place(step), size.high(value));
      drawn = Number.isFinite(value);
    }
    context.stroke();
    context.globalAlpha = 1;
  };
  /** @param {Context} context @param {Look} look */
  const frame = (context, look) => {
    Object.assign(context, { fillStyle: look.soft, strokeStyle: look.rule, lineWidth: 1, font: look.smallFont });
    context.textAlign = "right";
    for (const mark of marksUpTo(most)) {
      const y = Math.round(size.high(mark)) + 0.5;
      context.fillText(words.number.cell(mark, most < 3 ? 1 : 0), ROOM.left - 6, y);
      context.beginPath();
      context.moveTo(ROOM.left, y);
      context.lineTo(size.width - ROOM.right, y);
      context.stroke();
    }
    const last = steps[steps.length - 1];
    let free = -Infinity;
    for (const step of state.axis === "log" ? [0, 1, 10, 100, 1000, 10000, 100000, last] : marksUpTo(Math.max(1, last))) {
      const text = words.number.count(step);
      const half = context.measureText(text).width / 2;
      const x = Math.min(size.place(step), size.width - half - 2);
      if (step > last || x - half < free + 8) continue;
      context.textAlign = "center";
      context.fillText(text, x, HEIGHT - ROOM.bottom / 2 + 2);
      free = x + half;
    }
  };
  /** @param {Context} context @param {Look} look */
  const now = (context, look) => {
    const x = Math.round(size.place(steps[state.at])) + 0.5;
    Object.assign(context, { strokeStyle: look.ink, lineWidth: 1 });
    context.beginPath();
    context.moveTo(x, ROOM.top);
    context.lineTo(x, HEIGHT - ROOM.bottom);
    context.stroke();
  };
  const redraw = () => {
    scale();
    const [look, theme] = [looks(), stage.theme()];
    const context = sharp(canvas, size.width, HEIGHT);
    frame(context, look);
    if (threshold !== undefined) {
      context.setLineDash([4, 4]);
      line(context, [[steps[0], threshold], [steps[steps.length - 1], threshold]], look.soft, 1, 1);
      context.setLineDash([]);
    }
    now(context, look);
    /** @param {number} head */
    const points = (head) => courses[head].map((value, at) => [steps[at], value]);
    if (name === "loss") {
      line(context, watched.log, look.soft, 1.5, 0.8);
      line(context, points(0), look.accent, 2, 1);
      return;
    }
    const soft = courses.length > 24 ? 0.35 : 0.7;
    for (const head of [...courses.keys()].sort((a, b) => rank(a) - rank(b))) {
      const role = watched.formed[head].role;
      line(context, points(head), roleInk(role, theme, look), INKS[role] ? 1.8 : 1, INKS[role] ? 0.9 : soft);
    }
    if (state.head !== null) line(context, points(state.head), look.accent, 3, 1);
  };
  /** @param {number} head */
  const rank = (head) => (INKS[watched.formed[head].role] ? 1 : 0);

  /** @param {number} x */
  const stepAt = (x) =>
    steps.reduce((best, step, at) => (Math.abs(size.place(step) - x) < Math.abs(size.place(steps[best]) - x) ? at : best), 0);
  /** @param {number} x @param {number} y @returns {StepAndHead} */
  const nearest = (x, y) => {
    const at = stepAt(x);
    let [best, far] = [/** @type {number|null} */ (null), 24];
    courses.forEach((course, head) => {
      const away = Math.abs(size.high(course[at]) - y);
      if (away < far && name !== "loss") [best, far] = [head, away];
    });
    return { at, head: best };
  };
  /** @param {StepAndHead|null} place */
  const take = (place) => place && stage.change({ at: place.at, head: place.head ?? state.head }, name);
  whenPointed(box, nearest, (place) => stage.point(place, name), take);
  /** Heads from the largest value at this step to the smallest. */
  const ranked = () =>
    [...courses.keys()].sort((a, b) => (courses[b][state.at] || 0) - (courses[a][state.at] || 0) || a - b);
  walkedByKeys(
    box,
    () => ({ rows: courses.length, cols: steps.length }),
    () => ({ row: state.head === null ? -1 : ranked().indexOf(state.head), col: state.at }),
    ({ row, col }) => {
      const moved = col !== state.at;
      if (name === "loss") return stage.change({ at: col }, name);
      const head = moved && state.head !== null ? state.head : ranked()[within(row, courses.length)];
      return stage.change({ at: col, head }, name);
    },
  );
  box.addEventListener("focus", () => stage.point(state.head === null ? null : { at: state.at, head: state.head }, name));
  return { node, redraw };
}
