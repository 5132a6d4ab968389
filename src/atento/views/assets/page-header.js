// The top of the page: what it is, why this head, and the choices of layer, head and language.

import { element, tokenNode } from "./dom.js";
import { brandRow } from "./page-frame.js";
import { chooser } from "./view-parts.js";

/** Why the head is shown that the page opens with. @param {any} record @param {Scene} scene */
function reasonNodes({ reason, layer, head }, { words, tokens, keyTokens }) {
  const parts = { layer: String(layer), head: String(head), among: words.number.count(reason.among) };
  const said = words.say(`page.reason.${reason.why}`, parts);
  if (!reason.link) return said;
  const pair = {
    query: tokenNode(tokens[reason.query]),
    key: tokenNode(keyTokens[reason.key]),
    weight: reason.weight === null ? "?" : words.number.full(reason.weight),
  };
  return [...said, " ", ...words.say(`page.reason.link.${reason.link}`, pair)];
}

/** @param {any} record @param {Scene} scene @param {any} state @param {(change: Record<string, any>) => void} change */
export function pageHeader(record, scene, state, change) {
  const { words } = scene;
  /** Layers and heads are counted as Python counts them. @param {"layer"|"head"} name @param {number} count */
  const choice = (name, count) => {
    const numbers = Array.from({ length: count }, (_, at) => [at, String(at)]);
    const made = chooser(name, words.text(`page.${name}`), numbers, state[name], (value) => change({ [name]: Number(value) }));
    made.querySelector("select").disabled = count < 2;
    return made;
  };
  const first = state.layer === record.layer && state.head === record.head;
  /** @param {any} one */
  const place = ({ layer, head }) => ({ layer: String(layer), head: String(head) });
  const yours = () => words.say("page.reason.yours", { ...place(state), first: words.text("page.reason.first", place(record)) });
  return element(
    "header",
    brandRow(words, state.languages, (lang) => change({ lang })),
    element("h1", words.say("page.title")),
    element("p.lead", words.say("page.lead")),
    element(
      "div.choices",
      choice("layer", record.layers.length),
      choice("head", record.layers[state.layer].heads),
      record.model && element("p.model", words.say("page.model", { model: tokenNode({ text: record.model, mark: "" }, 80) })),
    ),
    element("p.reason", { id: "reason" }, first ? reasonNodes(record, scene) : yours()),
  );
}
