// Elements and text nodes: the only way in which anything reaches the page.

import { plainLabel, shorten, visiblePieces } from "./labels.js";

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {Record<string, any>} [attributes] null and false are left out
 * @param {...(Node|string|null)} children strings become text nodes
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** A token of ten thousand letters is cut even where it is shown in full. */
const LONGEST_TITLE = 1000;

/**
 * A token as a reader may see it: isolated, with hidden characters in boxes, cut when long.
 * @param {import("./labels.js").Name} name @param {number} [length]
 */
export function tokenNode({ text, mark }, length = 24) {
  const short = shorten(text, length);
  const node = element("bdi", {
    class: "token",
    title: short === text ? null : plainLabel(text, LONGEST_TITLE),
  });
  for (const piece of visiblePieces(short)) {
    node.append(piece.box ? element("span", { class: "hidden-char" }, piece.text) : piece.text);
  }
  if (mark) node.append(element("span", { class: "mark" }, mark));
  return node;
}

/** A letter of mathematics. @param {string} text */
export function symbol(text) {
  return element("i", { class: "symbol", translate: "no" }, text);
}
