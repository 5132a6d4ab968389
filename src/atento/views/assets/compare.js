// Two recordings side by side: one place, two maps, and the signed difference.

import { element, tokenNode } from "./dom.js";
import { mapsAround } from "./map.js";
import { parts } from "./weights.js";

/** Why two layers cannot be compared, or null. @param {Recording} recording @param {number} layer @param {number} head */
export function incomparable({ other, layers }, layer, head) {
  if (!other) return "recording.compare.alone";
  const [mine, theirs] = [layers[layer], other.layers[layer]];
  if (!theirs || head >= theirs.heads) return "recording.compare.missing";
  if (mine.queries !== theirs.queries || mine.keys !== theirs.keys) return "recording.compare.shapes";
  return mine.query === null || theirs.query === null ? "recording.needs.qk" : null;
}

/** @param {ViewStage} stage @returns {View} */
export function compareView(stage) {
  const { words, state, head, tokens } = stage;
  const { full } = words.number;
  const other = /** @type {Recording} */ (stage.recording.other);
  const theirs = other.head(state.layer, state.head);
  const theirTokens = { query: other.queryTokens(state.layer), key: other.keyTokens(state.layer) };
  const [first, second, difference] = ["first", "second", "difference"].map((name) => words.text(`recording.compare.${name}`));
  const maps = [
    { name: first, heads: [head] },
    { name: second, heads: [theirs], tokens: theirTokens },
    { name: difference, heads: [head, theirs] },
  ];
  return mapsAround(stage, "recording.compare.say", maps, "recording.compare.difference", (row, col) => {
    const [mine, their] = [head, theirs].map((one) => parts(one, row, col).weight);
    const pair = { query: tokenNode(tokens.query[row]), key: tokenNode(tokens.key[col]) };
    const numbers = { first: full(mine), second: full(their), difference: element("b", full(mine - their)) };
    return words.say("recording.compare.pair", { ...pair, ...numbers });
  });
}
