// A text that a model goes on with, token by token: each new token with the row of attention that chose it.

import { byId, element, tokenNode } from "./dom.js";
import { pageTheme } from "./page-frame.js";
import { labelled, pressable, weightColour } from "./view-parts.js";

// So many tokens, from the end, are written out.
const SHOWN = 400;
const OPTIONS = {
  tokens: { min: 1, max: 4096, step: 1, value: 20 },
  temperature: { min: 0, max: 10, step: 0.1, value: 0 },
  top_k: { min: 0, max: 1e6, step: 1, value: 0 },
  seed: { min: 0, max: 2 ** 53 - 1, step: 1, value: 0 },
};

/**
 * @param {ReturnType<typeof import("./live-server.js").liveServer>} server
 * @param {() => any} asked the text, the model, the heads that are off, and the head to watch
 * @param {(text: string) => void} done with the whole text
 * @param {(error: unknown) => void} failed
 */
export function generation(server, asked, done, failed) {
  const inputs = Object.fromEntries(
    Object.entries(OPTIONS).map(([name, rest]) => [name, element("input", { id: `live-${name}`, type: "number", ...rest })]),
  );
  const canvas = element("canvas", { "aria-hidden": "true" });
  const written = element("p.written");
  const live = element("p", { class: "note", role: "status" });
  const node = element("section.generate");
  /** @type {AbortController|null} */
  let running = null;
  /** @type {Words} */
  let words;
  /** @type {{ tokens: string[], rows: number[][], watch: string[] }} */
  let grown = { tokens: [], rows: [], watch: [] };
  let frame = 0;

  /** All rows so far, one below the other, and the newest one under the tokens that it looked at. */
  const draw = () => {
    frame = 0;
    const { tokens, rows } = grown;
    const colour = weightColour(pageTheme(), true);
    const newest = rows.at(-1) ?? [];
    const first = Math.max(0, tokens.length - SHOWN);
    written.replaceChildren(
      first ? "… " : "",
      ...tokens.slice(first).map((text, at) => {
        const token = tokenNode({ text, mark: "" }, 40);
        const weight = newest[first + at];
        if (weight) token.style.boxShadow = `inset 0 -0.32em rgb(${colour(weight)})`;
        if (first + at >= newest.length) token.classList.add("new");
        return element("span", token);
      }),
    );
    if (!rows.length) return void (canvas.hidden = true);
    canvas.hidden = false;
    const image = new ImageData(newest.length, rows.length);
    rows.forEach((row, y) => row.forEach((weight, x) => image.data.set([...colour(weight), 255], 4 * (y * image.width + x))));
    Object.assign(canvas, { width: image.width, height: image.height });
    canvas.getContext("2d").putImageData(image, 0, 0);
    canvas.style.maxWidth = `${image.width * 14}px`;
  };
  const later = () => (frame ||= requestAnimationFrame(draw));
  const tell = () => {
    const { tokens, rows, watch } = grown;
    const [layer, head] = watch;
    const newest = rows.at(-1) ?? [];
    const at = newest.reduce((best, weight, place, row) => (weight > row[best] ? place : best), 0);
    const parts = { count: String(rows.length), layer, head, query: tokenNode({ text: tokens[newest.length - 1] ?? "", mark: "" }) };
    const key = tokenNode({ text: tokens[at] ?? "", mark: "" });
    live.replaceChildren(...(rows.length ? words.say(rows.length === 1 ? "live.generate.one" : "live.generate.told", { ...parts, key, weight: words.number.full(newest[at]) }) : []));
  };

  /** A number that is none that the model can be asked for. */
  const wrong = () =>
    Object.entries(OPTIONS).find(([name, { min, max, step }]) => {
      const { value } = inputs[name];
      return !value || !(Number(value) >= min && Number(value) <= max) || (step === 1 && Number(value) % 1);
    });

  const start = async () => {
    const [name, ends] = wrong() ?? [];
    if (name && ends) {
      inputs[name].focus();
      const facts = { name: words.text(`live.option.${name}`), least: words.number.count(ends.min), most: words.number.count(ends.max) };
      return failed(new Error(words.text(ends.step === 1 ? "live.option.whole" : "live.option.number", facts)));
    }
    const { watch, ...request } = asked();
    const options = Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, Number(input.value)]));
    grown = { tokens: [], rows: [], watch: watch.map(String) };
    const own = (running = new AbortController());
    /** @type {string|null} */
    let text = null;
    button();
    try {
      const body = { ...request, ...options, layer: watch[0], head: watch[1] };
      await server.lines("generate", body, own.signal, (event) => {
        if (event.error) throw new Error(event.error);
        if (event.tokens) grown.tokens.push(...event.tokens);
        if (event.text !== undefined) return void (text = event.text);
        if (!event.token) return;
        grown.tokens.push(event.token);
        grown.rows.push(event.weights);
        later();
        tell();
      });
    } catch (error) {
      if (!own.signal.aborted) failed(error);
      else text = request.text + grown.tokens.slice(grown.rows[0]?.length ?? Infinity).join("");
    }
    running = null;
    button();
    if (text !== null) done(text);
  };
  const button = () => {
    const old = byId("live-generate");
    const had = old === document.activeElement;
    const made = pressable(words.text(running ? "live.stop" : "live.generate"), () => (running ? running.abort() : start()), {
      id: "live-generate",
      class: "start",
    });
    old?.replaceWith(made);
    if (had) made.focus();
    return made;
  };
  /** In these words. @param {Words} spoken */
  const redraw = (spoken) => {
    words = spoken;
    const fields = Object.entries(inputs).map(([name, input]) => labelled(input.id, words.text(`live.option.${name}`), input));
    node.replaceChildren(
      element("h2", words.text("live.generate")),
      element("p.note", words.text("live.generate.say")),
      element("div.choices", ...fields, button()),
      written,
      canvas,
      live,
    );
    draw();
    tell();
  };
  return { node, redraw, stop: () => running?.abort() };
}
