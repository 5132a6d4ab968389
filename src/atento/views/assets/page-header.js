// The top of the page: what it is, why this head, and the choices of layer, head and language.

import { element, tokenNode } from "./dom.js";

/** Layers, heads and features are counted as Python counts them. @param {number} index */
export const ordinal = (index) => String(index);

/** Why the head is shown that the page opens with. @param {any} record @param {import("./written-arithmetic.js").Scene} scene */
function reasonNodes(record, scene) {
  const { words } = scene;
  const { reason } = record;
  const parts = {
    layer: ordinal(record.layer),
    head: ordinal(record.head),
    among: words.number.count(reason.among),
  };
  const cross = scene.keyTokens !== scene.tokens;
  const link = reason.query !== null && reason.key !== null;
  const telling = reason.kind === "telling";
  const why = !telling ? reason.kind : !link ? "none" : cross ? "telling.cross" : "telling";
  const nodes = words.say(`page.reason.${why}`, parts);
  if (link) {
    nodes.push(
      " ",
      ...words.say(`page.reason.link.${cross ? "cross" : telling ? "such" : "beyond"}`, {
        query: tokenNode(scene.tokens[reason.query]),
        key: tokenNode(scene.keyTokens[reason.key]),
        weight: reason.weight === null ? "?" : words.number.full(reason.weight),
      }),
    );
  }
  return nodes;
}

/**
 * @param {any} record @param {import("./written-arithmetic.js").Scene} scene
 * @param {{ layer: number, head: number, lang: string, languages: string[] }} state
 * @param {(change: Partial<{layer: number, head: number, lang: string}>) => void} change
 */
export function pageHeader(record, scene, state, change) {
  const { words } = scene;
  const layer = record.layers[state.layer];
  /** @param {string} id @param {string} label @param {number} count @param {number} chosen @param {(value: number) => void} pick */
  const choice = (id, label, count, chosen, pick) =>
    element(
      "label",
      { for: id, class: "choice" },
      words.text(label),
      " ",
      element(
        "select",
        { id, disabled: count < 2, onchange: (event) => pick(Number(event.target.value)) },
        ...Array.from({ length: count }, (_, i) =>
          element("option", { value: i, selected: i === chosen }, ordinal(i)),
        ),
      ),
    );
  const languages = element(
    "div",
    { class: "languages", role: "group", "aria-label": words.text("page.language") },
    ...state.languages.map((lang) =>
      element(
        "button",
        {
          type: "button",
          lang,
          id: `lang-${lang}`,
          "aria-pressed": lang === state.lang ? "true" : "false",
          onclick: () => change({ lang }),
        },
        { en: "English", es: "Español" }[lang],
      ),
    ),
  );
  const first = state.layer === record.layer && state.head === record.head;
  return element(
    "header",
    {},
    element(
      "div",
      { class: "top" },
      element("p", { class: "brand", translate: "no" }, "atento"),
      languages,
    ),
    element("h1", {}, ...words.say("page.title")),
    element("p", { class: "lead" }, ...words.say("page.lead")),
    element(
      "div",
      { class: "choices" },
      choice("layer", "page.layer", record.layers.length, state.layer, (value) => change({ layer: value })),
      choice("head", "page.head", layer.heads, state.head, (value) => change({ head: value })),
      record.model
        ? element(
            "p",
            { class: "model" },
            ...words.say("page.model", { model: tokenNode({ text: record.model, mark: "" }, 80) }),
          )
        : null,
    ),
    element(
      "p",
      { id: "reason", class: "reason" },
      ...(first
        ? reasonNodes(record, scene)
        : words.say("page.reason.yours", {
            layer: ordinal(state.layer),
            head: ordinal(state.head),
            first: words.text("page.reason.first", {
              layer: ordinal(record.layer),
              head: ordinal(record.head),
            }),
          })),
    ),
  );
}
