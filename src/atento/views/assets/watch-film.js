// A film of maps: all heads at one step of the training, as small pictures.

import { cellsPicture } from "./colours.js";
import { element } from "./dom.js";
import { walkedByKeys } from "./grid-keys.js";
import { plainLabel } from "./labels.js";
import { group, named, pressable, silentCanvas, weightColour, within } from "./view-parts.js";

/** A weight from a byte. */
const WEIGHTS = Float32Array.from({ length: 256 }, (_, u) => u && 2 ** ((u - 255) / 12));

/** @param {WatchedStage} stage */
export function filmView(stage) {
  const { words, watched, state } = stage;
  const { layers, heads } = watched;
  const list = group(words.text("watch.film.heads"), "heads");
  const cards = layers.flatMap((layer, l) => heads.map((number, h) => card(layer, number, l * heads.length + h)));

  /** @param {string} layer @param {number} number @param {number} head */
  function card(layer, number, head) {
    const canvas = silentCanvas({ width: 1, height: 1 });
    const role = element("span.head-role");
    const node = pressable([canvas, element("span.head-name", String(number)), role], () => stage.change({ head }), {
      class: "head-card",
      tabindex: -1,
    });
    return { node, canvas, role, layer: plainLabel(layer, 80), number };
  }
  layers.forEach((layer, l) => {
    const row = element("div.head-row", cards.slice(l * heads.length, (l + 1) * heads.length).map(({ node }) => node));
    row.style.setProperty("--most", String(heads.length > 8 ? heads.length : 1.5 * Math.max(2, heads.length)));
    list.append(element("h3", { "aria-level": 3 }, `${l} `, element("bdi", plainLabel(layer, 80))), row);
  });

  const redraw = () => {
    const film = watched.maps[state.prompt];
    const colour = weightColour(stage.theme(), state.strength === "log");
    const shown = film?.frames.findLastIndex((at) => at <= state.at) ?? -1;
    cards.forEach((one, head) => {
      const role = named(words, "role", watched.roles[state.at][head]);
      one.role.textContent = role;
      const chosen = head === state.head;
      one.node.tabIndex = head === (state.head ?? 0) ? 0 : -1;
      one.node[chosen ? "setAttribute" : "removeAttribute"]("aria-current", "true");
      const title = words.text("watch.card", { layer: one.layer, head: String(one.number), role });
      Object.assign(one.node, { ariaLabel: title, title });
      if (shown < 0) return;
      const [, pools, L, H, rows, cols] = film.shape;
      const pool = pools > 1 && state.pool === "max" ? 1 : 0;
      const start = ((shown * pools + pool) * L * H + head) * rows * cols;
      Object.assign(one.canvas, { width: cols, height: rows });
      const picture = cellsPicture(rows, cols, (p) => colour(WEIGHTS[film.data[start + p]]));
      one.canvas.getContext("2d").drawImage(picture, 0, 0);
    });
  };
  walkedByKeys(
    list,
    () => ({ rows: layers.length, cols: heads.length }),
    () => ({ row: Math.floor((state.head ?? 0) / heads.length), col: (state.head ?? 0) % heads.length }),
    ({ row, col }) => {
      const head = within(row, layers.length) * heads.length + within(col, heads.length);
      stage.change({ head });
      cards[head].node.focus();
    },
  );
  return { node: list, redraw };
}
