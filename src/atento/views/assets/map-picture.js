// The picture of a map: one head's weights from afar to a single one, like a street map.

import { cellsPicture, NO_NUMBER, strengthOf, UNIT } from "./colours.js";
import { labelsOf } from "./labels.js";
import { TILE } from "./tiles.js";
import { clipped, fill, hatching, label, looks, outline, sharp } from "./view-parts.js";

// A weight is 2^5 pixels wide at most.
const NEAREST = -5;
// So many tiles get their colours in one frame; the others wait for the next.
const COLOURED = 10;

/** @param {number} value @param {number} least @param {number} most */
const between = (value, least, most) => Math.max(least, Math.min(most, value));

/**
 * It draws what `stage.state` says, on a canvas as wide as the node that it is in.
 * @param {ViewStage} stage @param {Head[]} heads one, or two whose difference is drawn @param {HTMLCanvasElement} canvas
 * @param {(places: any[]) => void} want the tiles that are missing, the nearest first @param {() => void} again in the next frame
 */
export function mapPicture(stage, heads, canvas, want, again) {
  const { state, tiles, tokens } = stage;
  const [{ Tq, Tk }] = heads;
  const [rowLabel, colLabel] = [tokens.query, tokens.key].map((all) => labelsOf(all, 14));
  const coarse = heads.map((head) => ({
    mean: head.overview("mean") ?? head.small("mean"),
    max: head.overview("max") ?? head.small("max"),
  }));
  const topLevel = Math.max(0, Math.ceil(Math.log2(Math.max(Tq, Tk) / TILE)));
  /** @param {Float32Array} values @param {number} least */
  const largest = (values, least) => values.reduce((a, b) => Math.max(a, b), least);
  /** @param {Pool} pool */
  const reachOf = (pool) => Math.max(...coarse.map((one) => (one[pool] ? largest(one[pool].data, 2 ** -20) : 1)));
  const reaches = { mean: reachOf("mean"), max: reachOf("max") };
  let box = { left: 0, top: 0, w: 1, h: 1, unit: 1 };
  let look = /** @type {any} */ (null);
  let budget = 0;
  let hatch = null;

  /** @type {AxisOf} */
  const axisOf = (wanted, start, size, length, per) => {
    const half = (size / 2) * per;
    const middle = 2 * half >= length ? half : between(wanted ?? length / 2, half, length - half);
    return {
      start,
      size,
      length,
      middle,
      from: Math.max(0, middle - half),
      to: Math.min(length, middle + half),
      place: (at) => start + size / 2 + (at - middle) / per,
      at: (place) => middle + (place - start - size / 2) * per,
    };
  };
  /** @returns {Seen} */
  const seen = () => {
    const { left, top, w, h } = box;
    const whole = Math.max(NEAREST, Math.log2(Math.max(Tk / w, Tq / h)));
    const zoom = between(state.zoom ?? whole, NEAREST, whole);
    const per = 2 ** zoom;
    return { zoom, per, whole, down: axisOf(state.y, top, h, Tq, per), across: axisOf(state.x, left, w, Tk, per) };
  };
  const level = () => between(Math.ceil(seen().zoom - 1e-6), 0, topLevel);
  /** How strong the strongest colour is: means of large cells are small. */
  const reach = (at = level()) => {
    if (state.log) return 1;
    const [{ mean }] = coarse;
    const share = state.pool === "max" || !mean ? 0 : Math.min(1, at / Math.max(1, Math.log2(mean.width)));
    return reaches.max ** (1 - share) * reaches.mean ** share;
  };
  const styleKey = () => `${state.pool} ${state.log} ${stage.theme()}`;
  /** Values as one pixel each; 0 is left open. */
  /** @type {Coloured} */
  const coloured = (rows, cols, [mine, theirs], most) => {
    const grade = UNIT.grades(stage.theme());
    return cellsPicture(rows, cols, (p) => {
      const value = theirs ? mine[p] - theirs[p] : mine[p];
      return value === 0 ? null : (grade(Math.sign(value) * strengthOf(value, state.log, most)) ?? NO_NUMBER);
    });
  };
  /** Pictures of tiles, by the first head's. @type {WeakMap<object, {key: string, picture: OffscreenCanvas}>} */
  const pictures = new WeakMap();
  /** @param {number} at @param {number} row @param {number} col */
  const pictureOf = (at, row, col) => {
    const found = heads.flatMap((head) => tiles.get({ head, level: at, row, col }) ?? []);
    if (found.length < heads.length) return null;
    const [first] = found;
    const key = styleKey();
    if (pictures.get(first)?.key !== key) {
      if (budget-- <= 0) return again();
      const picture = coloured(first.rows, first.cols, found.map((tile) => tile[state.pool]), reach(at));
      pictures.set(first, { key, picture });
    }
    return pictures.get(first)?.picture;
  };
  let little = { key: "", picture: /** @type {OffscreenCanvas|null} */ (null) };
  const littlePicture = () => {
    const key = styleKey();
    const whole = coarse.flatMap((one) => one[state.pool] ?? []);
    if (whole.length < heads.length) return null;
    const [{ rows, cols, width }] = whole;
    if (little.key !== key) little = { key, picture: coloured(rows, cols, whole.map(({ data }) => data), reach(Math.log2(width))) };
    return little.picture;
  };

  /** @param {Context} context @param {Seen} view */
  const drawTiles = (context, { per, down, across }) => {
    const at = level();
    const span = TILE * 2 ** at;
    /** @type {{far: number, place: any}[]} */
    const missing = [];
    for (let row = Math.floor(down.from / span); row * span < down.to; row++) {
      for (let col = Math.floor(across.from / span); col * span < across.to; col++) {
        const far = Math.hypot((col + 0.5) * span - across.middle, (row + 0.5) * span - down.middle);
        for (const head of heads) {
          const place = { head, level: at, row, col };
          if (!tiles.get(place)) missing.push({ far, place });
        }
        // A tile that is not there yet is stood in for by the part of a coarser one, at last of the whole.
        let up = 0;
        let picture = pictureOf(at, row, col);
        while (!picture && at + up < topLevel) {
          up++;
          picture = pictureOf(at + up, row >> up, col >> up);
        }
        const [x, y] = [col * span, row * span];
        const [wide, high] = [Math.min(span, Tk - x), Math.min(span, Tq - y)];
        const side = picture ? 2 ** (at + up) : (coarse[0].mean?.width ?? 1);
        // Weights from one such picture to the next.
        const part = picture ? TILE * side : Infinity;
        picture ??= littlePicture();
        if (!picture) continue;
        /** @type {[number, number, number, number]} */
        const source = [(x % part) / side, (y % part) / side, wide / side, high / side];
        context.drawImage(picture, ...source, across.place(x), down.place(y), wide / per, high / per);
      }
    }
    missing.sort((a, b) => a.far - b.far);
    want(missing.map(({ place }) => place));
  };

  const strongestBar = [0, 0];
  /** Along each edge: a number of each token as bars, and the tokens, as many as fit. @param {Context} context @param {number} axis @param {Seen} view */
  const drawEdge = (context, axis, { per, down, across }) => {
    const { left, top, unit } = box;
    const { from, to, length, place } = axis ? across : down;
    const [first, last] = [Math.floor(from), Math.ceil(to)];
    const [bar, step] = [13 * unit, 2 ** level()];
    const values = heads.length === 1 && heads[0].strips[axis ? "received" : "entropy"];
    context.fillStyle = look.soft;
    for (let at = first - (first % step); values && at < last; at += step) {
      const many = Math.min(at + step, length) - at;
      const mean = values.subarray(at, at + many).reduce((a, b) => a + b, 0) / many;
      strongestBar[axis] ||= largest(values, 1e-9);
      // A few keys receive nearly everything.
      const high = bar * Math.sqrt(Math.max(0, mean / strongestBar[axis]));
      const thick = Math.max(0.5, many / per - (per < 0.2 ? 1 : 0));
      if (axis) context.fillRect(place(at), top - 3 - high, thick, high);
      else context.fillRect(left - 3 - high, place(at), high, thick);
    }
    const every = 2 ** Math.max(0, Math.ceil(Math.log2(15 * unit * per)));
    const room = (axis ? top : left) - bar - 9 * unit;
    context.fillStyle = look.ink;
    for (let at = Math.ceil(first / every) * every; at < last; at += every) {
      if (axis) label(context, colLabel(at), place(at + 0.5), room + unit, "left", room, true);
      else label(context, rowLabel(at), room + unit, place(at + 0.5), "right", room);
    }
  };

  /** The whole in the corner, with what is seen of it, where that is not all. @param {Seen} view */
  const minimap = ({ zoom, whole }) => {
    const scale = Math.min(112 * box.unit, box.w / 3.5) / Math.max(Tq, Tk);
    return zoom < whole - 0.4 && { x: box.left + box.w - Tk * scale - 6, y: box.top + 6, w: Tk * scale, h: Tq * scale, scale };
  };
  /** @param {Context} context @param {Seen} view */
  const drawMinimap = (context, view) => {
    const map = minimap(view);
    const picture = map && littlePicture();
    if (!picture) return;
    const { x, y, w, h, scale } = map;
    fill(context, look.paper, x - 3, y - 3, w + 6, h + 6);
    context.imageSmoothingEnabled = true;
    context.drawImage(picture, x, y, w, h);
    outline(context, look.soft, 1, x - 0.5, y - 0.5, w + 1, h + 1);
    const [wide, high] = [box.w, box.h].map((size) => Math.max(5, size * view.per * scale));
    outline(context, look.accent, 2, x + view.across.middle * scale - wide / 2, y + view.down.middle * scale - high / 2, wide, high);
  };

  /** @param {Context} context @param {Seen} view */
  const drawCross = (context, { per, down, across }) => {
    const { row, col } = state;
    if (row == null || col == null || row >= Tq || col >= Tk) return;
    const { left, top, w, h } = box;
    const [x, y, cell] = [across.place(col), down.place(row), Math.max(1, 1 / per)];
    const [wide, high] = [Math.min(left + w, across.place(Tk)) - left, Math.min(top + h, down.place(Tq)) - top];
    context.globalAlpha = 0.55;
    for (const at of [y - 0.5, y + cell + 0.5]) outline(context, look.accent, 1, left, at, wide, 0);
    for (const at of [x - 0.5, x + cell + 0.5]) outline(context, look.accent, 1, at, top, 0, high);
    context.globalAlpha = 1;
    outline(context, look.accent, 2, x - 2, y - 2, cell + 4, cell + 4);
  };

  // Styles and sizes are asked for when they may have changed, not in every frame.
  let width = 0;
  let dressed = "";
  const draw = () => {
    if (!width || dressed !== stage.theme()) {
      look = looks();
      width = Math.floor(canvas.parentElement?.clientWidth ?? 0);
      dressed = stage.theme();
      hatch = null;
    }
    if (!width) return;
    const { unit } = look;
    const [left, top] = (width < 480 ? [74, 74] : [122, 104]).map((size) => size * unit);
    const room = Math.min(window.innerHeight * 0.78, 1400 * unit) - top;
    const h = Math.min(room, Math.max(60, Math.min((width - left) * (Tq / Tk), Tq * 2 ** -NEAREST)));
    box = { left, top, w: width - left - 1, h, unit };
    const context = sharp(canvas, width, Math.ceil(top + h + 1));
    context.font = look.smallFont;
    const view = seen();
    const { down, across, per } = view;
    const [x, y, wide, high] = [across.place(0), down.place(0), Tk / per, Tq / per];
    clipped(context, left, top, box.w, h, () =>
      clipped(context, x, y, wide, high, () => {
        fill(context, (hatch ??= hatching(context, look.ink)), x, y, wide, high);
        context.imageSmoothingEnabled = false;
        budget = COLOURED;
        drawTiles(context, view);
      }),
    );
    outline(context, look.rule, 1, Math.max(left, x) - 0.5, Math.max(top, y) - 0.5, Math.min(box.w, wide) + 1, Math.min(h, high) + 1);
    clipped(context, 0, top - 8, left, h + 16, () => drawEdge(context, 0, view));
    clipped(context, left - 8, 0, box.w + 16, top, () => drawEdge(context, 1, view));
    clipped(context, left, top, box.w, h, () => drawCross(context, view));
    drawMinimap(context, view);
  };
  const resized = () => {
    width = 0;
    again();
  };
  return { draw, resized, seen, level, reach, minimap, NEAREST };
}
