// The tokens as chips, tinted by what the chosen query looks at.

import { colourScale, paint } from "./colours.js";
import { element, tokenNode } from "./dom.js";

const MOST_CHIPS = 400;

/** @param {Stage} stage */
export function tokensSection({ scene: { words, run, tokens, keyTokens } }) {
  const cross = keyTokens !== tokens;
  /** @param {Name[]} names */
  const chipsOf = (names) => names.slice(0, MOST_CHIPS).map((name) => element("li.chip", tokenNode(name, 40)));
  /** @param {Name[]} names */
  const rest = ({ length }) =>
    length > MOST_CHIPS && element("li.note", words.say("page.tokens.more", { count: words.number.count(length - MOST_CHIPS) }));
  const chips = chipsOf(keyTokens);
  const caption = element("p.note.caption");
  const section = element(
    "section.step",
    { id: "step-tokens", "data-step": "tokens", "aria-labelledby": "title-tokens" },
    element("h2", { id: "title-tokens", tabindex: -1 }, words.say("page.step.tokens")),
    element("p.say", words.say(run.projections ? "page.say.tokens" : "page.say.tokens.given")),
    cross && [
      element("h3", words.say("page.tokens.queries")),
      element("ol.chips", chipsOf(tokens), rest(tokens)),
      element("h3", words.say("page.tokens.keys")),
    ],
    element("ol.chips.tinted-chips", chips, rest(keyTokens)),
    caption,
  );
  const { cols, data } = run.steps.get("weights").matrix;
  const colours = colourScale(data);
  /** @type {number|null} */
  let tinted = NaN;
  /** @param {number|null} query */
  const tint = (query) => {
    if (query === tinted) return;
    tinted = query;
    chips.forEach((chip, key) => {
      chip.classList.toggle("self", !cross && key === query);
      paint(chip, colours, query === null ? null : data[query * cols + key]);
    });
    caption.replaceChildren(...(query === null ? [] : words.say("page.tokens.tint", { query: tokenNode(tokens[query]) })));
  };
  return { section, tint };
}
