// The panel that shows the arithmetic of the cell that is pointed at: docked, or a sheet on phones.

import { element } from "./dom.js";
import { arithmeticNodes, headline } from "./written-arithmetic.js";

/** @param {() => void} onClose */
export function arithmeticPanel(onClose) {
  const title = element("h2", { id: "panel-title" });
  const content = element("div", { class: "panel-content", tabindex: -1, "aria-live": "polite" });
  const close = element("button", { type: "button", class: "close", onclick: onClose }, "×");
  const head = element("div", { class: "panel-head" }, title, close);
  const node = element(
    "aside",
    { id: "panel", "aria-labelledby": "panel-title", hidden: true },
    head,
    content,
  );
  let shownFor = "";
  let all = false;

  /**
   * @param {import("./written-arithmetic.js").Scene} scene
   * @param {import("./written-arithmetic.js").Selection|null} selection
   */
  const show = (scene, selection) => {
    const key = selection ? `${selection.step},${selection.row},${selection.col}` : "";
    if (key !== shownFor) all = false;
    shownFor = key;
    node.hidden = !selection;
    if (!selection) return;
    title.replaceChildren(...scene.words.say(`page.step.${selection.step}`));
    close.setAttribute("aria-label", scene.words.text("page.panel.close"));
    const showAll = () => {
      all = true;
      show(scene, selection);
      content.focus(); // the button that had the focus is gone
    };
    content.replaceChildren(
      element("p", { class: "headline" }, ...headline(scene, selection)),
      ...arithmeticNodes(scene, selection, all, showAll),
    );
  };
  return { node, show };
}
