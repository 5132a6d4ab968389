// A map that is pointed at, moved and walked: by mouse, fingers and keys.

import { strongestOf } from "./cells.js";
import { element } from "./dom.js";
import { mapPicture } from "./map-picture.js";
import { TILE } from "./tiles.js";
import { eachFrame, within } from "./view-parts.js";

/** @type {Record<string, number>} */
const ZOOMS = { "+": -0.5, "=": -0.5, "-": 0.5 };

/**
 * A map of one head, or of the difference of two. It shows what `stage.state` says and changes it, so
 * that several maps of one state move together.
 * @param {ViewStage} stage @param {Head[]} heads @param {string} name
 * @param {(place: Cell|null) => void} pointed @param {() => void} drawn after each drawing
 */
export function mapPane(stage, heads, name, pointed, drawn) {
  const { words, state, tiles } = stage;
  const [{ Tq, Tk }] = heads;
  const canvas = element("canvas", { "aria-hidden": "true" });
  const attributes = {
    tabindex: 0,
    role: "application",
    "aria-roledescription": words.text("recording.view.map"),
    "aria-label": `${name}. ${words.text("recording.map.keys")}`,
  };
  const node = element("div.map", attributes, canvas);
  const frame = eachFrame(() => {
    picture.draw();
    drawn();
  });
  const picture = mapPicture(stage, heads, canvas, (places) => tiles.want(node, places, region()), frame.ask);
  const { seen, level } = picture;
  /** Which tiles are seen. @returns {Region} */
  const region = () => {
    const { down, across } = seen();
    const side = TILE * 2 ** level();
    /** @param {Axis} axis @returns {Ends} */
    const ends = ({ from, to }) => [Math.floor(from / side), Math.ceil(to / side) - 1];
    return { head: heads[0], level: level(), rows: ends(down), cols: ends(across) };
  };
  const sizes = new ResizeObserver(picture.resized);
  sizes.observe(node);

  /** A place of the canvas. @param {{clientX: number, clientY: number}} event */
  const spot = ({ clientX, clientY }) => {
    const { left, top } = canvas.getBoundingClientRect();
    return [clientX - left, clientY - top];
  };
  /** @param {number} by octaves @param {number[]} [at] a place that stays where it is */
  const zoomBy = (by, at) => {
    const { zoom, per, whole, down, across } = seen();
    const next = Math.max(picture.NEAREST, Math.min(whole, zoom + by));
    /** @param {Axis} axis @param {number} place */
    const moved = (axis, place) => axis.middle + (axis.at(place) - axis.middle) * (1 - 2 ** next / per);
    const [x, y] = at ? [moved(across, at[0]), moved(down, at[1])] : [across.middle, down.middle];
    stage.change({ zoom: next >= whole ? null : next, x, y });
  };
  /** @param {number} dx @param {number} dy */
  const panBy = (dx, dy) => {
    const { per, zoom, down, across } = seen();
    stage.change({ x: across.middle - dx * per, y: down.middle - dy * per, zoom });
  };
  const wholeMap = () => stage.change({ zoom: null, x: null, y: null });
  /** The pair under a place of the canvas. @param {Point} event */
  const pairAt = (event) => {
    const { down, across } = seen();
    const [x, y] = spot(event);
    const [row, col] = [Math.floor(down.at(y)), Math.floor(across.at(x))];
    const inside = x >= across.start && y >= down.start;
    return inside && row >= 0 && col >= 0 && row < Tq && col < Tk ? { row, col } : null;
  };
  /** Choose a pair, and bring it into view. @param {Cell} pair */
  const choose = ({ row, col }) => {
    const { per, zoom, down, across } = seen();
    /** @param {number} at @param {Axis} axis */
    const far = (at, axis) => Math.abs(at + 0.5 - axis.middle) > (axis.size / 2) * per - Math.min(0.5, per);
    const moved = { row, col };
    if (far(col, across)) Object.assign(moved, { x: col + 0.5, zoom });
    if (far(row, down)) Object.assign(moved, { y: row + 0.5, zoom });
    stage.change(moved);
    pointed(null);
  };
  /** The middle that a place of the minimap stands for. @param {Point} event */
  const minimapAt = (event) => {
    const map = picture.minimap(seen());
    const [x, y] = spot(event);
    const inside = map && x >= map.x && y >= map.y && x <= map.x + map.w && y <= map.y + map.h;
    return inside ? { x: (x - map.x) / map.scale, y: (y - map.y) / map.scale } : null;
  };

  /** Fingers, or the mouse's button, that are down. */
  const pointers = new Map();
  let moved = false;
  canvas.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    const jump = pointers.size ? null : minimapAt(event);
    moved = jump !== null;
    pointers.set(event.pointerId, { clientX: event.clientX, clientY: event.clientY, onMap: moved });
    if (jump) stage.change({ ...jump, zoom: seen().zoom });
  });
  canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    const before = pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") pointed(minimapAt(event) ? null : pairAt(event));
      return;
    }
    const now = { ...before, clientX: event.clientX, clientY: event.clientY };
    const jump = before.onMap && minimapAt(event);
    if (jump) return stage.change(jump);
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    /** @param {Point} one @param {Point} two */
    const apart = (one, two) => [one.clientX - two.clientX, one.clientY - two.clientY];
    const [dx, dy] = apart(now, before);
    if (other) {
      const [far, near] = [before, now].map((one) => Math.hypot(...apart(one, other)) || 1);
      const [x, y] = spot(now);
      const [toX, toY] = apart(other, now);
      panBy(dx / 2, dy / 2);
      zoomBy(Math.log2(far / near), [x + toX / 2, y + toY / 2]);
    } else {
      if (!moved && Math.hypot(dx, dy) < 4) return;
      panBy(dx, dy);
    }
    moved = true;
    pointers.set(event.pointerId, now);
  });
  for (const type of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(type, (/** @type {PointerEvent} */ event) => {
      const pair = pointers.delete(event.pointerId) && !moved && type === "pointerup" && pairAt(event);
      if (pair) choose(pair);
    });
  }
  canvas.addEventListener("pointerleave", () => pointed(null));
  canvas.addEventListener("dblclick", (/** @type {MouseEvent} */ event) => zoomBy(event.shiftKey ? 1 : -1, spot(event)));
  /** @param {WheelEvent} event */
  const wheel = (event) => {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode ? 30 : 1);
    zoomBy(pixels * (event.ctrlKey ? 0.012 : 0.004), spot(event));
  };
  canvas.addEventListener("wheel", wheel, { passive: false });
  node.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const { key, altKey, metaKey, shiftKey } = event;
    if (altKey || metaKey) return;
    const step = 2 ** level() * (shiftKey ? 10 : 1);
    /** @type {Record<string, number[]>} */
    const ways = { ArrowUp: [-step, 0], ArrowDown: [step, 0], ArrowLeft: [0, -step], ArrowRight: [0, step] };
    const way = ways[key];
    const zoom = ZOOMS[key];
    if (way) {
      const { down, across } = seen();
      const from = state.row == null || state.col == null ? [down.middle, across.middle] : [state.row, state.col];
      choose({ row: within(from[0] + way[0], Tq), col: within(from[1] + way[1], Tk) });
    } else if (zoom) zoomBy(zoom);
    else if (key === "Home" || key === "0") wholeMap();
    else return;
    event.preventDefault();
  });

  /** The largest weights (or differences) of what is seen. @param {number} count */
  const strongestInView = (count) => {
    const side = 2 ** level();
    const { down, across } = seen();
    /** @param {Axis} axis @returns {Ends} */
    const edges = ({ from, to }) => [Math.floor(from / side), Math.ceil(to / side)];
    return strongestOf(tiles, heads, level(), edges(down), edges(across), count);
  };
  /** What the cell under a pair holds, where it holds more than that. @param {Cell} pair */
  const cellAt = ({ row, col }) => {
    const at = level();
    const side = TILE * 2 ** at;
    const place = { head: heads[0], level: at, row: Math.floor(row / side), col: Math.floor(col / side) };
    const tile = at && tiles.get(place);
    if (!tile) return null;
    const p = ((row % side) >> at) * tile.cols + ((col % side) >> at);
    return { side: 2 ** at, mean: tile.mean[p], max: tile.max[p] };
  };

  const silence = tiles.listen(frame.ask);
  const destroy = () => {
    silence();
    sizes.disconnect();
    tiles.want(node, []);
    frame.stop();
  };
  return { node, redraw: frame.ask, destroy, zoomBy, choose, strongestInView, cellAt, reach: () => picture.reach() };
}
