// The equation in one line: each part leads to its step, and the present step is marked.

import { element, symbol } from "./dom.js";

/** Whether scores are divided by √d, as the paper has it. @param {HeadInput} head */
export const usualScale = ({ scale, queries }) => Math.abs(scale * Math.sqrt(queries.cols) - 1) < 1e-9;

/** @param {Scene} scene @param {(step: string) => void} go @returns {{ node: HTMLElement, mark: (step: string) => void }} */
export function equationLine({ words, run: { head, steps, input } }, go) {
  /** @type {HTMLElement[]} */
  const links = [];
  /** @param {string} step @param {...(Node|string)} content */
  const part = (step, ...content) => {
    /** @param {Event} event */
    const onclick = (event) => {
      event.preventDefault();
      go(step);
    };
    const attributes = { href: `#step-${step}`, "data-step": step, "aria-label": words.text(`page.step.${step}`), onclick };
    links.push(element("a", attributes, content));
    return links[links.length - 1];
  };
  /** @type {(Node|string)[]} */
  let inner = [
    part("queries", symbol("Q")),
    part("scores", " · "),
    part("keys", symbol("K"), "ᵀ"),
    part("scaled", usualScale(head) ? ` / √${head.queries.cols}` : ` × ${words.number.full(head.scale)}`),
  ];
  if (steps.has("capped")) inner = [part("capped", "softcap("), ...inner, ")"];
  for (const [step, term] of [["biased", "bias"], ["masked", "mask"]])
    if (steps.has(step)) inner.push(" + ", part(step, words.text(`page.term.${term}`)));
  const node = element(
    "nav.equation",
    { "aria-label": words.text("page.equation") },
    element("p.path", part("tokens", words.text("page.step.tokens")), input && [" → ", part("input", symbol("X"))], " → "),
    element(
      "p.math",
      [part("output", words.text("page.term.output")), " = ", part("weights", "softmax"), "("],
      inner,
      [") ", part("values", symbol("V"))],
    ),
  );
  /** @param {string} step */
  const mark = (step) => {
    for (const link of links) {
      if (link.dataset.step === step) link.setAttribute("aria-current", "step");
      else link.removeAttribute("aria-current");
    }
  };
  return { node, mark };
}
