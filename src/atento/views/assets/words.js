// The words of the page, in the language that is chosen.

import { numberFormat } from "./numbers.js";

/**
 * @typedef {{ lang: string, say: (key: string, parts?: Record<string, any>) => (Node|string)[],
 *   text: (key: string, parts?: Record<string, any>) => string, number: ReturnType<typeof numberFormat> }} Words
 *
 * @param {Record<string, Record<string, string>>} dictionaries @param {string} lang
 * @returns {Words}
 */
export function wordsOf(dictionaries, lang) {
  const dictionary = dictionaries[lang];
  /** Words around parts: {name} is replaced by a node or a text, each part used once. */
  const say = (key, parts = {}) =>
    (dictionary[key] ?? key)
      .split(/\{(\w+)\}/)
      .map((piece, place) => (place % 2 ? (parts[piece] ?? "") : piece));
  return {
    lang,
    say,
    text: (key, parts) =>
      say(key, parts)
        .map((part) => (typeof part === "string" ? part : part.textContent))
        .join(""),
    number: numberFormat(lang),
  };
}
