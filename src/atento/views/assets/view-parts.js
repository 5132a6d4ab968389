// What the views of a recording share: choices, tables, sharp canvases, the colour of a weight.

import { colourScale } from "./colours.js";
import { element } from "./dom.js";
import { plainLabel } from "./labels.js";

/**
 * What a view is given, and what it gives back.
 * @typedef {{ recording: import("./recording.js").Recording, words: import("./words.js").Words, state: any,
 *   tiles: import("./tiles.js").Tiles, theme: () => "light"|"dark", width: () => number,
 *   change: (partial: Record<string, any>) => void }} ViewStage
 * @typedef {{ node: HTMLElement, redraw: () => void, destroy: () => void }} View
 */

const UNIT = colourScale([1]);
const OCTAVES = 17; // colours by the logarithm reach from 2⁻¹⁷ to 1
export const NO_NUMBER = [163, 42, 163];

/** The colour of a weight from 0 to 1. @param {"light"|"dark"} theme @param {boolean} log */
export function weightColour(theme, log) {
  const grade = UNIT.grades(theme);
  return (weight) => grade(log ? Math.max(0, 1 + Math.log2(weight) / OCTAVES) : weight) ?? NO_NUMBER;
}

/** A place on an axis, whatever was in the page's address. @param {any} value @param {number} length */
export const within = (value, length) => Math.max(0, Math.min(length - 1, Math.trunc(value) || 0));

/** A word that the page knows, or the name itself. @param {import("./words.js").Words} words @param {string} kind @param {string} name */
export function named(words, kind, name) {
  const key = `recording.${kind}.${name.replaceAll(" ", "_")}`;
  const text = words.text(key);
  return text === key ? plainLabel(name, 40) : text;
}

/** @param {string} id @param {string} label @param {Node} field @param {...Node} after */
export function labelled(id, label, field, ...after) {
  return element("label", { for: id, class: "choice" }, `${label} `, field, " ", ...after);
}

/** @param {string} id @param {string} label @param {any[][]} options @param {any} chosen @param {(value: string) => void} pick */
export function chooser(id, label, options, chosen, pick) {
  const entries = options.map(([value, text]) => element("option", { value, selected: value === chosen }, text));
  return labelled(id, label, element("select", { id, onchange: (event) => pick(event.target.value) }, ...entries));
}

/** @param {string|Node} content @param {() => void} onclick @param {Record<string, any>} [attributes] */
export function pressable(content, onclick, attributes = {}) {
  return element("button", { type: "button", onclick, ...attributes }, content);
}

/** A canvas that is walked with keys. @param {string} name of its class @param {string} label */
export function pictureBox(name, label) {
  const canvas = element("canvas", { "aria-hidden": "true" });
  return { canvas, box: element("div", { class: name, tabindex: 0, role: "application", "aria-label": label }, canvas) };
}

/** @param {(string|Node)[]} heads @param {any[][]} rows @param {string} label */
export function plainTable(heads, rows, label) {
  const title = (cell) => element("th", { scope: "col" }, cell);
  const line = (cells) =>
    element("tr", {}, ...cells.map((cell, at) => element(at ? "td" : "th", { scope: at ? null : "row" }, cell)));
  const head = element("thead", {}, element("tr", {}, ...heads.map(title)));
  const table = element("table", { class: "plain" }, head, element("tbody", {}, ...rows.map(line)));
  return element("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": label }, table);
}

/** The numbers of a picture, made when they are asked for. @param {string} label @param {() => Node} make */
export function unfolding(label, make) {
  const details = element("details", {}, element("summary", {}, label));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(make());
  });
  return details;
}

/** New children, the focus where it was. @param {HTMLElement} node @param {...(Node|string)} children */
export function refill(node, ...children) {
  const focused = document.activeElement?.id;
  node.replaceChildren(...children);
  document.getElementById(focused)?.focus();
}

/** Controls or pictures that belong together. @param {string} label @param {string} [name] of the class */
export const group = (label, name = "choices") => element("div", { class: name, role: "group", "aria-label": label });

/** What the view is about. @param {import("./words.js").Words} words @param {string} view */
export const lead = (words, view) => element("p", { class: "say" }, ...words.say(`recording.${view}.say`));

/** A cleared canvas of so many CSS pixels, as sharp as the screen. @param {HTMLCanvasElement} canvas @param {number} width @param {number} height */
export function sharp(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.textBaseline = "middle";
  return context;
}

/** Colours of the theme, and how large the page writes against 16 pixels. */
export function looks() {
  const style = getComputedStyle(document.documentElement);
  const colours = ["ink", "soft", "paper", "rule", "accent"].map((name) => [name, style.getPropertyValue(`--${name}`)]);
  const unit = parseFloat(style.fontSize) / 16 || 1;
  return { ...Object.fromEntries(colours), unit, font: `${Math.round(13 * unit)}px system-ui, sans-serif` };
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
