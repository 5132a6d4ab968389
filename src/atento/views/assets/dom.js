// Elements and text nodes: the only way in which anything reaches the page.

import { plainLabel, shorten, visiblePieces } from "./labels.js";

/**
 * `element("p.note", { id: "why" }, "text", node, [more])`: tag and classes, attributes where the next is a plain
 * object, and children. Strings become text nodes, lists are flattened; null and false are left out.
 * @param {string} kind @param {...any} rest @returns {any}
 */
export function element(kind, ...rest) {
  const [tag, ...classes] = kind.split(".");
  const node = document.createElement(tag);
  node.classList.add(...classes);
  const attributes = rest[0]?.constructor === Object ? rest.shift() : {};
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...rest.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A node that the page has. @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/** A token of ten thousand letters is cut even where it is shown in full. */
const LONGEST_TITLE = 1000;

/** A token as a reader may see it: isolated, hidden characters in boxes, cut when long. @param {Name} name @param {number} [length] */
export function tokenNode({ text, mark }, length = 24) {
  const short = shorten(text, length);
  return element(
    "bdi.token",
    { title: short === text ? null : plainLabel(text, LONGEST_TITLE) },
    visiblePieces(short).map((piece) => (piece.box ? element("span.hidden-char", piece.text) : piece.text)),
    mark && element("span.mark", mark),
  );
}

/** A letter of mathematics. @param {string} text */
export const symbol = (text) => element("i.symbol", { translate: "no" }, text);
