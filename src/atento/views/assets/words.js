// The words of the page, in the language that is chosen.

import { numberFormat } from "./numbers.js";

/** @param {Record<string, Record<string, string>>} dictionaries @param {string} lang @returns {Words} */
export function wordsOf(dictionaries, lang) {
  /** Words around parts: {name} is replaced by a node or a text, each part used once. */
  /** @type {Words["say"]} */
  const say = (key, parts = {}) =>
    (dictionaries[lang][key] ?? key).split(/\{(\w+)\}/).map((piece, place) => (place % 2 ? (parts[piece] ?? "") : piece));
  /** @type {Words["text"]} */
  const text = (key, parts) =>
    say(key, parts)
      .map((part) => (typeof part === "string" ? part : part.textContent))
      .join("");
  return { lang, say, text, number: numberFormat(lang) };
}
