// The tokens as chips, tinted by what the chosen query looks at.

import { colourScale, paint } from "./colours.js";
import { element, tokenNode } from "./dom.js";

const MOST_CHIPS = 400;

/** @param {import("./steps.js").Stage} stage */
export function tokensSection(stage) {
  const { scene } = stage;
  const { words, run } = scene;
  const cross = scene.keyTokens !== scene.tokens;
  const chips = (tokens) =>
    tokens.slice(0, MOST_CHIPS).map((name) => element("li", { class: "chip" }, tokenNode(name, 40)));
  const rest = (tokens) =>
    tokens.length > MOST_CHIPS
      ? element(
          "li",
          { class: "note" },
          ...words.say("page.tokens.more", { count: words.number.count(tokens.length - MOST_CHIPS) }),
        )
      : null;
  const keyChips = chips(scene.keyTokens);
  const caption = element("p", { class: "note caption" });
  const section = element(
    "section",
    { id: "step-tokens", class: "step", "data-step": "tokens", "aria-labelledby": "title-tokens" },
    element("h2", { id: "title-tokens", tabindex: -1 }, ...words.say("page.step.tokens")),
    element(
      "p",
      { class: "say" },
      ...words.say(run.projections ? "page.say.tokens" : "page.say.tokens.given"),
    ),
    cross ? element("h3", {}, ...words.say("page.tokens.queries")) : null,
    cross ? element("ol", { class: "chips" }, ...chips(scene.tokens), rest(scene.tokens)) : null,
    cross ? element("h3", {}, ...words.say("page.tokens.keys")) : null,
    element("ol", { class: "chips tinted-chips" }, ...keyChips, rest(scene.keyTokens)),
    caption,
  );
  const weights = run.steps.get("weights").matrix;
  const colours = colourScale(weights.data);
  let tinted = NaN;
  /** @param {number|null} query */
  const tint = (query) => {
    if (query === tinted) return;
    tinted = query;
    keyChips.forEach((chip, key) => {
      chip.classList.toggle("self", !cross && key === query);
      paint(chip, colours, query === null ? null : weights.data[query * weights.cols + key]);
    });
    caption.replaceChildren(
      ...(query === null
        ? []
        : words.say("page.tokens.tint", { query: tokenNode(scene.tokens[query], 24) })),
    );
  };
  return { section, tint };
}
