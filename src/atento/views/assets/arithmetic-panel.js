// The panel that shows the arithmetic of the cell that is pointed at: docked, or a sheet on phones.

import { element } from "./dom.js";
import { pressable, spoken } from "./view-parts.js";
import { arithmeticNodes, headline } from "./written-arithmetic.js";

/** @param {() => void} onClose */
export function arithmeticPanel(onClose) {
  const title = element("h2", { id: "panel-title" });
  const content = spoken("div.panel-content");
  content.tabIndex = -1;
  const close = pressable("×", onClose, { class: "close" });
  const node = element("aside", { id: "panel", "aria-labelledby": "panel-title", hidden: true }, element("div.panel-head", title, close), content);
  let shownFor = "";
  let all = false;

  /** @param {Scene} scene @param {Picked|null} selection */
  const show = (scene, selection) => {
    const key = JSON.stringify(selection);
    if (key !== shownFor) all = false;
    shownFor = key;
    node.hidden = !selection;
    if (!selection) return;
    title.replaceChildren(...scene.words.say(`page.step.${selection.step}`));
    close.setAttribute("aria-label", scene.words.text("page.panel.close"));
    const showAll = () => {
      all = true;
      show(scene, selection);
      // The button that had the focus is gone.
      content.focus();
    };
    const nodes = arithmeticNodes(scene, selection, all, showAll);
    content.replaceChildren(element("p.headline", headline(scene, selection)), ...nodes);
  };
  return { node, show };
}
