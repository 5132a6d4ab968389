// What pages and views share: choices, tables, sharp canvases, the colour of a weight.

import { NO_NUMBER, paint, strengthOf, UNIT } from "./colours.js";
import { byId, element } from "./dom.js";
import { plainLabel } from "./labels.js";

/** The colour of a weight from 0 to 1. @param {Theme} theme @param {boolean} log */
export function weightColour(theme, log) {
  const grade = UNIT.grades(theme);
  return (/** @type {number} */ weight) => grade(strengthOf(weight, log)) ?? NO_NUMBER;
}

/** A place on an axis, whatever was in the page's address. @param {any} value @param {number} length */
export const within = (value, length) => Math.max(0, Math.min(length - 1, Math.trunc(value) || 0));

/** Whether this is one of so many places. @param {any} value @param {number} length */
export const among = (value, length) => Number.isInteger(value) && value === within(value, length);

/** A word that the page knows, or the name itself. @param {Words} words @param {string} kind @param {string} name */
export function named(words, kind, name) {
  const key = `recording.${kind}.${name.replaceAll(" ", "_")}`;
  const text = words.text(key);
  return text === key ? plainLabel(name, 40) : text;
}

/** @param {string} id @param {string} label @param {Node} field @param {...Node} after */
export const labelled = (id, label, field, ...after) => element("label.choice", { for: id }, `${label} `, field, " ", after);

/** @param {string} id @param {string} label @param {any[][]} options @param {any} chosen @param {(value: string) => void} pick */
export function chooser(id, label, options, chosen, pick) {
  const entries = options.map(([value, text]) => element("option", { value, selected: value === chosen }, text));
  return labelled(id, label, element("select", { id, onchange: (/** @type {any} */ event) => pick(event.target.value) }, entries));
}

/** @param {any} content @param {() => void} onclick @param {Record<string, any>} [attributes] */
export const pressable = (content, onclick, attributes = {}) => element("button", { type: "button", onclick, ...attributes }, content);

/** A canvas: what it shows is said elsewhere. @param {Record<string, any>} [attributes] */
export const silentCanvas = (attributes) => element("canvas", { "aria-hidden": "true", ...attributes });

/** A rectangle in one colour. @param {Context} context @param {string|CanvasPattern} ink @param {[number, number, number, number]} place */
export function fill(context, ink, ...place) {
  context.fillStyle = ink;
  context.fillRect(...place);
}

/** A rectangle's edge. @param {Context} context @param {string} ink @param {number} thick @param {[number, number, number, number]} place */
export function outline(context, ink, thick, ...place) {
  context.strokeStyle = ink;
  context.lineWidth = thick;
  context.strokeRect(...place);
}

/** A canvas that is walked with keys. @param {string} name of its class @param {string} label */
export function pictureBox(name, label) {
  const canvas = silentCanvas();
  return { canvas, box: element(`div.${name}`, { tabindex: 0, role: "application", "aria-label": label }, canvas) };
}

/** What is said aloud when it changes. @param {string} [kind] */
export const spoken = (kind = "p.visually-hidden") => element(kind, { "aria-live": "polite" });

/** @param {(string|Node)[]} heads @param {any[][]} rows @param {string} label */
export function plainTable(heads, rows, label) {
  const titles = heads.map((cell) => (cell === "" ? element("td") : element("th", { scope: "col" }, cell)));
  /** @param {any[]} cells */
  const line = ([first, ...cells]) => element("tr", element("th", { scope: "row" }, first), cells.map((cell) => element("td", cell)));
  const table = element("table.plain", element("thead", element("tr", titles)), element("tbody", rows.map(line)));
  return element("div.table-scroll", { tabindex: 0, role: "region", "aria-label": label }, table);
}

/** So many colours, from the least to the most. @param {Colours} colours @param {number} count @param {boolean} [signed] */
export function ramp(colours, count, signed = colours.signed) {
  const steps = Array.from({ length: count }, (_, at) => {
    const place = at / (count - 1);
    const step = element("span");
    paint(step, colours, (signed ? 2 * place - 1 : place) * (colours.reach || 1));
    return step;
  });
  return element("span.ramp", { "aria-hidden": "true" }, steps);
}

/** What is made when it is asked for. @param {any} label @param {() => Node} make @param {string} [kind] */
export function unfolding(label, make, kind = "details") {
  const details = element(kind, element("summary", label));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(make());
  });
  return details;
}

/** New children, the focus where it was. @param {HTMLElement} node @param {...(Node|string)} children */
export function refill(node, ...children) {
  const focused = document.activeElement?.id;
  node.replaceChildren(...children);
  if (focused) byId(focused)?.focus();
}

/** Controls or pictures that belong together. @param {string} label @param {string} [name] of the class */
export const group = (label, name = "choices") => element("div", { class: name, role: "group", "aria-label": label });

/** What the view is about. @param {Words} words @param {string} view */
export const lead = (words, view) => element("p.say", words.say(`recording.${view}.say`));

/**
 * What of a picture is pointed at (by a mouse or pen, not with a finger), and what is taken by a click.
 * @template T
 * @param {HTMLElement} node @param {(x: number, y: number) => T|null} find what is at a place of the node
 * @param {(found: T|null) => void} point null: at nothing @param {(found: T|null) => void} take
 */
export function whenPointed(node, find, point, take) {
  /** @param {MouseEvent} event */
  const under = ({ clientX, clientY }) => {
    const { left, top } = node.getBoundingClientRect();
    return find(clientX - left, clientY - top);
  };
  node.addEventListener("pointermove", (event) => event.pointerType !== "touch" && point(under(event)));
  node.addEventListener("pointerleave", () => point(null));
  node.addEventListener("click", (event) => take(under(event)));
}

/** A cleared canvas of so many CSS pixels, as sharp as the screen. @param {HTMLCanvasElement} canvas @param {number} width @param {number} height */
export function sharp(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, LARGEST_SIDE / Math.max(width, height));
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  // Whatever was drawn last.
  context.globalAlpha = 1;
  context.textBaseline = "middle";
  return context;
}
// Browsers refuse canvases of more than some 16 million pixels.
const LARGEST_SIDE = 4096;

/** Colours of the theme, how large the page writes against 16 pixels, and its letters for canvases. */
export function looks() {
  const style = getComputedStyle(document.documentElement);
  const colours = ["ink", "soft", "paper", "rule", "accent", "source"].map((name) => [name, style.getPropertyValue(`--${name}`)]);
  const unit = parseFloat(style.fontSize) / 16 || 1;
  /** @param {number} size */
  const letters = (size) => `${Math.round(size * unit)}px system-ui, sans-serif`;
  return { ...Object.fromEntries(colours), unit, font: letters(13), smallFont: letters(12) };
}

/** A label on a canvas, apart from the direction of its letters: it ends there, or goes up from there. @type {WriteLabel} */
export function label(context, text, x, y, align, room, upright = false) {
  context.save();
  context.translate(x, y);
  if (upright) context.rotate(-Math.PI / 2);
  context.textAlign = align;
  context.fillText(`\u2068${text}\u2069`, 0, 0, room);
  context.restore();
}

/** Draw within a rectangle alone. @type {Clip} */
export function clipped(context, x, y, width, height, draw) {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  draw();
  context.restore();
}

/** Stripes where there is no weight, as in tables. @param {Context} context @param {string} ink */
export function hatching(context, ink) {
  const made = new OffscreenCanvas(6, 6);
  const lines = /** @type {OffscreenCanvasRenderingContext2D} */ (made.getContext("2d"));
  lines.strokeStyle = ink;
  lines.globalAlpha = 0.14;
  for (const shift of [-6, 0, 6]) {
    lines.moveTo(shift, 6);
    lines.lineTo(shift + 6, 0);
  }
  lines.stroke();
  return /** @type {CanvasPattern} */ (context.createPattern(made, "repeat"));
}

/** However often it is asked for, once in a frame. @param {() => void} draw */
export function eachFrame(draw) {
  let frame = 0;
  const ask = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      draw();
    });
  };
  return { ask, stop: () => cancelAnimationFrame(frame) };
}

/** @type {WeakMap<object, Record<string, any>>} */
const choices = new WeakMap();

/** What was chosen in a view, kept while the page is drawn anew. @param {object} recording @param {string} view @param {any} usual */
export function kept(recording, view, usual) {
  if (!choices.has(recording)) choices.set(recording, {});
  const own = choices.get(recording) ?? {};
  return (own[view] ??= usual);
}
