// Under the form of the live page: what comes next, before and after heads were switched off, and these heads.

import { element, tokenNode } from "./dom.js";
import { group, plainTable, pressable } from "./view-parts.js";

/** @param {string} text */
const plainToken = (text) => tokenNode({ text, mark: "" }, 40);

/** @param {Words} words @param {Told} told */
export function nextTokens(words, { next, model, changes }) {
  /** @type {Words["text"]} */
  const say = (key, parts) => words.text(`live.next.${key}`, parts);
  const title = element("h2", words.text("live.next"));
  if (!next.length) return element("section", title, element("p.note", say("none", { model: plainToken(model) })));
  const { full } = words.number;
  const most = Math.max(...next.flatMap(({ probability, before = 0 }) => [probability, before]));
  /** @param {number} value @param {string} name */
  const bar = (value, name) => {
    const made = element("span", { class: `next-bar ${name}`, "aria-hidden": "true" });
    made.style.width = `${(100 * value) / most}%`;
    return made;
  };
  const lines = next.map(({ token, probability, before }) => {
    const change = probability - before;
    const bars = element("div.next-bars", changes ? bar(before, "before") : null, bar(probability, "after"));
    const numbers = changes ? [full(before), full(probability), (change > 0 ? "+" : "") + full(change)] : [full(probability)];
    return [plainToken(token), ...numbers, bars];
  });
  const heads = changes ? ["token", "before", "after", "change"] : ["token", "probability"];
  const table = plainTable([...heads.map((key) => say(key)), ""], lines, words.text("live.next"));
  return element("section.next", title, element("p.note", say(changes ? "changed" : "say")), table);
}

/**
 * The head that is looked at, to be switched off or on, and a list of those that are off.
 * @param {Words} words @param {[number, number][]} off @param {[number, number]} here
 * @param {(off: [number, number][]) => void} change
 */
export function headsOff(words, off, here, change) {
  /** @param {HeadOf} a @param {HeadOf} b */
  const same = (a, b) => a[0] === b[0] && a[1] === b[1];
  const is = off.some((one) => same(one, here));
  /** @param {HeadOf} one */
  const without = (one) => off.filter((other) => !same(one, other));
  /** @param {string} key @param {HeadOf} pair */
  const say = (key, [layer, head]) => words.text(`live.off.${key}`, { layer: String(layer), head: String(head) });
  const toggle = pressable(say("this", here), () => change(is ? without(here) : [...off, here]), {
    id: "live-off",
    "aria-pressed": String(is),
  });
  const list = group(words.text("live.off.list"), "choices off-list");
  if (off.length) list.append(`${words.text("live.off.list")}:`);
  for (const one of off) {
    const attributes = { id: `live-on-${one.join("-")}`, "aria-label": say("on", one) };
    list.append(pressable(`${one.join("·")} ×`, () => change(without(one)), attributes));
  }
  if (off.length > 1) list.append(pressable(words.text("live.off.none"), () => change([]), { id: "live-all-on" }));
  return element("section", element("h2", words.text("live.off")), element("div.choices", toggle), list);
}
