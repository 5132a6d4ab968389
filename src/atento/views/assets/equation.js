// The equation in one line: each part leads to its step, and the present step is marked.

import { element, symbol } from "./dom.js";

/**
 * @param {import("./written-arithmetic.js").Scene} scene @param {(step: string) => void} go
 * @returns {{ node: HTMLElement, mark: (step: string) => void }}
 */
export function equationLine(scene, go) {
  const { words, run } = scene;
  const { head, steps } = run;
  /** @type {HTMLElement[]} */
  const links = [];
  /** @param {string} step @param {...(Node|string)} content */
  const part = (step, ...content) => {
    const link = element(
      "a",
      {
        href: `#step-${step}`,
        "data-step": step,
        "aria-label": words.text(`page.step.${step}`),
        onclick: (event) => {
          event.preventDefault();
          go(step);
        },
      },
      ...content,
    );
    links.push(link);
    return link;
  };
  const usual = Math.abs(head.scale * Math.sqrt(head.queries.cols) - 1) < 1e-9;
  /** @type {(Node|string)[]} */
  let inner = [
    part("queries", symbol("Q")),
    part("scores", " · "),
    part("keys", symbol("K"), "ᵀ"),
    part("scaled", usual ? ` / √${head.queries.cols}` : ` × ${words.number.full(head.scale)}`),
  ];
  if (steps.has("capped")) inner = [part("capped", "softcap("), ...inner, ")"];
  if (steps.has("biased")) inner.push(" + ", part("biased", words.text("page.term.bias")));
  if (steps.has("masked")) inner.push(" + ", part("masked", words.text("page.term.mask")));
  const line = [
    part("output", words.text("page.term.output")),
    " = ",
    part("weights", "softmax"),
    "(",
    ...inner,
    ") ",
    part("values", symbol("V")),
  ];
  /** @type {(Node|string)[]} */
  const before = [part("tokens", words.text("page.step.tokens"))];
  if (run.input) before.push(" → ", part("input", symbol("X")));
  const node = element(
    "nav",
    { class: "equation", "aria-label": words.text("page.equation") },
    element("p", { class: "path" }, ...before, " → "),
    element("p", { class: "math" }, ...line),
  );
  return {
    node,
    mark: (step) => {
      for (const link of links) {
        if (link.dataset.step === step) link.setAttribute("aria-current", "step");
        else link.removeAttribute("aria-current");
      }
    },
  };
}
