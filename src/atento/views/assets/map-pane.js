// The picture of a map: one head's weights from afar to a single one, like a street map.

import { strongestOf } from "./cells.js";
import { colourScale } from "./colours.js";
import { element } from "./dom.js";
import { plainLabel } from "./labels.js";
import { TILE } from "./tiles.js";
import { eachFrame, looks, sharp } from "./view-parts.js";

const OCTAVES_SHOWN = 17; // colours by the logarithm reach from 2⁻¹⁷ to 1
const NEAREST = -5; // a weight is 2^5 pixels wide at most
const COLOURED = 10; // so many tiles get their colours in one frame; the others wait for the next
const NOT_ANY = 0xffa32aa3; // NaN, as in all matrices
export const EITHER_SIGN = colourScale([1]);
/** Colours as pixels, from −1 to 1 in 511 grades, for each theme. @type {Record<string, Uint32Array>} */
const pixelsOf = {};

/** @param {"light"|"dark"} theme */
function pixelGrades(theme) {
  if (pixelsOf[theme]) return pixelsOf[theme];
  const grade = EITHER_SIGN.grades(theme);
  return (pixelsOf[theme] = Uint32Array.from({ length: 511 }, (_, k) => {
    const [r, g, b] = grade((k - 255) / 255);
    return 0xff000000 | (b << 16) | (g << 8) | r;
  }));
}

/** @param {number} value @param {number} least @param {number} most */
const between = (value, least, most) => Math.max(least, Math.min(most, value));

/**
 * A map of one head, or of the difference of two. It draws what `stage.state` says and changes it, so
 * that several maps of one state move together.
 * @param {import("./view-parts.js").ViewStage} stage @param {import("./recording.js").Head[]} heads
 * @param {string} label @param {(place: {row: number, col: number}|null) => void} pointed
 * @param {() => void} drawn after each drawing
 */
export function mapPane(stage, heads, label, pointed, drawn) {
  const { words, state, tiles, recording } = stage;
  const [{ Tq, Tk }] = heads;
  const canvas = /** @type {HTMLCanvasElement} */ (element("canvas", { "aria-hidden": "true" }));
  const node = element(
    "div",
    {
      class: "map",
      tabindex: 0,
      role: "application",
      "aria-roledescription": words.text("recording.view.map"),
      "aria-label": `${label}. ${words.text("recording.map.keys")}`,
    },
    canvas,
  );
  const names = [recording.queryTokens(state.layer), recording.keyTokens(state.layer)];
  /** @type {[Map<number, string>, Map<number, string>]} */
  const written = [new Map(), new Map()];
  const nameAt = (axis, at) => {
    if (!written[axis].has(at))
      written[axis].set(at, plainLabel(names[axis][at].text, 14) + names[axis][at].mark);
    return written[axis].get(at);
  };
  const coarse = heads.map((head) => ({
    mean: head.overview("mean") ?? head.small("mean"),
    max: head.overview("max") ?? head.small("max"),
  }));
  const topLevel = Math.max(0, Math.ceil(Math.log2(Math.max(Tq, Tk) / TILE)));
  const reaches = Object.fromEntries(
    ["mean", "max"].map((pool) => [
      pool,
      Math.max(
        ...coarse.flatMap((one) =>
          one[pool] ? [one[pool].data.reduce((a, b) => Math.max(a, b), 2 ** -20)] : [1],
        ),
      ),
    ]),
  );
  let box = { left: 0, top: 0, w: 1, h: 1, unit: 1 };
  let look = /** @type {ReturnType<typeof looks>} */ ({});
  /** Colours of tiles, by the first head's. @type {WeakMap<object, {key: string, canvas: OffscreenCanvas}>} */
  const coloured = new WeakMap();
  let budget = 0;
  let hatch = null;

  /** What is seen: zoom (2^zoom weights are one pixel), and the key and the query in the middle. */
  const seen = () => {
    const whole = Math.max(NEAREST, Math.log2(Math.max(Tk / box.w, Tq / box.h)));
    const zoom = between(state.zoom ?? whole, NEAREST, whole);
    const per = 2 ** zoom;
    const middle = (wanted, size, length) => {
      const half = (size / 2) * per;
      return 2 * half >= length ? half : between(wanted ?? length / 2, half, length - half);
    };
    return { zoom, per, x: middle(state.x, box.w, Tk), y: middle(state.y, box.h, Tq), whole };
  };
  const level = () => between(Math.ceil(seen().zoom - 1e-6), 0, topLevel);
  /** How strong the strongest colour is: means of large cells are small. */
  const reach = (at) => {
    if (state.log) return 1;
    const share =
      state.pool === "max" || !coarse[0].mean
        ? 0
        : Math.min(1, at / Math.max(1, Math.log2(coarse[0].mean.width)));
    return reaches.max ** (1 - share) * reaches.mean ** share;
  };
  /** Values as one pixel each; 0 is left open. @param {Float32Array[]} values */
  const paintCells = (rows, cols, values, most) => {
    const image = new ImageData(cols, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const grades = pixelGrades(stage.theme());
    const [mine, theirs] = values;
    for (let p = 0; p < pixels.length; p++) {
      const value = theirs ? mine[p] - theirs[p] : mine[p];
      if (value === 0) continue;
      const size = state.log ? 1 + Math.log2(Math.abs(value)) / OCTAVES_SHOWN : Math.abs(value) / most;
      const strength = Math.round(between(size, 0, 1) * 255);
      pixels[p] = strength >= 0 ? grades[value < 0 ? 255 - strength : 255 + strength] : NOT_ANY;
    }
    const made = new OffscreenCanvas(cols, rows);
    made.getContext("2d").putImageData(image, 0, 0);
    return made;
  };
  const pictureOf = (at, row, col) => {
    const found = heads.map((head) => tiles.get({ head, level: at, row, col }));
    if (!found.every(Boolean)) return null;
    const [first] = found;
    const key = `${state.pool} ${state.log} ${stage.theme()}`;
    const known = coloured.get(first);
    if (known?.key === key) return known.canvas;
    if (budget-- <= 0) {
      frame.ask();
      return null;
    }
    const made = paintCells(
      first.rows,
      first.cols,
      found.map((tile) => tile[state.pool]),
      reach(at),
    );
    coloured.set(first, { key, canvas: made });
    return made;
  };

  const drawTiles = (context, { per, x, y }) => {
    const { left, top, w, h } = box;
    const at = level();
    const span = TILE * 2 ** at;
    const from = (middle, size) => Math.floor(Math.max(0, middle - (size / 2) * per) / span);
    const to = (middle, size, length) => Math.ceil(Math.min(length, middle + (size / 2) * per) / span);
    /** @type {[number, import("./tiles.js").Place][]} */
    const missing = [];
    for (let row = from(y, h); row < to(y, h, Tq); row++) {
      for (let col = from(x, w); col < to(x, w, Tk); col++) {
        const [dx, dy] = [left + w / 2 + (col * span - x) / per, top + h / 2 + (row * span - y) / per];
        // A tile that is not there yet is stood in for by the part of a coarser one, at last of the whole.
        let found = false;
        for (let up = 0; at + up <= topLevel && !found; up++) {
          const [r, c] = [row >> up, col >> up];
          const picture = pictureOf(at + up, r, c);
          if (!picture) {
            if (!up)
              for (const head of heads)
                if (!tiles.get({ head, level: at, row, col }))
                  missing.push([
                    Math.hypot(dx + span / per / 2 - left - w / 2, dy + span / per / 2 - top - h / 2),
                    { head, level: at, row, col },
                  ]);
            continue;
          }
          const share = TILE / 2 ** up;
          const [sx, sy] = [(col - c * 2 ** up) * share, (row - r * 2 ** up) * share];
          const [sw, sh] = [Math.min(share, picture.width - sx), Math.min(share, picture.height - sy)];
          const size = 2 ** (at + up) / per;
          // The last cell may stand for fewer weights: it is cut off with the map.
          if (sw > 0 && sh > 0) context.drawImage(picture, sx, sy, sw, sh, dx, dy, sw * size, sh * size);
          found = true;
        }
        const whole = !found && littlePicture();
        if (whole) {
          const { width } = coarse[0].mean;
          const [wide, high] = [Math.min(span, Tk - col * span), Math.min(span, Tq - row * span)];
          context.drawImage(
            whole,
            (col * span) / width,
            (row * span) / width,
            wide / width,
            high / width,
            dx,
            dy,
            wide / per,
            high / per,
          );
        }
      }
    }
    missing.sort((a, b) => a[0] - b[0]);
    tiles.want(
      node,
      missing.map(([, place]) => place),
    );
  };

  /** Along each edge: a number of each token as bars, and the tokens, as many as fit. */
  const drawEdge = (context, axis, { per, x, y }) => {
    const { left, top, w, h, unit } = box;
    const [size, middle, length] = axis ? [w, x, Tk] : [h, y, Tq];
    const start = axis ? left : top;
    const place = (at) => start + size / 2 + (at - middle) / per;
    const first = Math.max(0, Math.floor(middle - (size / 2) * per));
    const last = Math.min(length, Math.ceil(middle + (size / 2) * per));
    context.save();
    context.beginPath();
    if (axis) context.rect(left - 8, 0, w + 16, top);
    else context.rect(0, top - 8, left, h + 16);
    context.clip();
    const values = heads.length === 1 && heads[0].strips[axis ? "received" : "entropy"];
    const bar = 13 * unit;
    if (values) {
      const step = 2 ** level();
      const most = stripMost(axis, values);
      context.fillStyle = look.soft;
      for (let at = first - (first % step); at < last; at += step) {
        let sum = 0;
        const end = Math.min(at + step, length);
        for (let p = at; p < end; p++) sum += values[p];
        const high = bar * Math.sqrt(Math.max(0, sum / (end - at) / most)); // a few keys receive nearly everything
        const thick = Math.max(0.5, (end - at) / per - (per < 0.2 ? 1 : 0));
        if (axis) context.fillRect(place(at), top - 3 - high, thick, high);
        else context.fillRect(left - 3 - high, place(at), high, thick);
      }
    }
    const every = 2 ** Math.max(0, Math.ceil(Math.log2(15 * unit * per)));
    context.fillStyle = look.ink;
    for (let at = Math.ceil(Math.max(0, first) / every) * every; at < last; at += every) {
      const text = `\u2068${nameAt(axis, at)}\u2069`;
      const spot = place(at + 0.5);
      if (!axis) {
        context.textAlign = "right";
        context.fillText(text, left - bar - 8 * unit, spot, left - bar - 9 * unit);
      } else {
        context.save();
        context.translate(spot, top - bar - 8 * unit);
        context.rotate(-Math.PI / 2);
        context.textAlign = "left";
        context.fillText(text, 0, 0, top - bar - 9 * unit);
        context.restore();
      }
    }
    context.restore();
  };
  const most = [0, 0];
  const stripMost = (axis, values) => (most[axis] ||= values.reduce((a, b) => (b > a ? b : a), 1e-9));

  /** The whole in the corner, with what is seen of it. */
  const minimap = () => {
    const size = Math.min(112 * box.unit, box.w / 3.5);
    const scale = size / Math.max(Tq, Tk);
    return { x: box.left + box.w - Tk * scale - 6, y: box.top + 6, w: Tk * scale, h: Tq * scale, scale };
  };
  const zoomedIn = ({ zoom, whole }) => zoom < whole - 0.4;
  let little = { key: "", canvas: null };
  const littlePicture = () => {
    const key = `${state.pool} ${state.log} ${stage.theme()}`;
    const pictures = coarse.map((one) => one[state.pool]);
    if (!pictures.every(Boolean)) return null;
    if (little.key !== key) {
      const [{ rows, cols, width }] = pictures;
      little = {
        key,
        canvas: paintCells(
          rows,
          cols,
          pictures.map(({ data }) => data),
          reach(Math.log2(width)),
        ),
      };
    }
    return little.canvas;
  };
  const drawMinimap = (context, view) => {
    const picture = littlePicture();
    if (!picture) return;
    const map = minimap();
    context.fillStyle = look.paper;
    context.fillRect(map.x - 3, map.y - 3, map.w + 6, map.h + 6);
    context.imageSmoothingEnabled = true;
    context.drawImage(picture, map.x, map.y, map.w, map.h);
    context.strokeStyle = look.soft;
    context.lineWidth = 1;
    context.strokeRect(map.x - 0.5, map.y - 0.5, map.w + 1, map.h + 1);
    context.strokeStyle = look.accent;
    context.lineWidth = 2;
    const wide = Math.max(5, box.w * view.per * map.scale);
    const high = Math.max(5, box.h * view.per * map.scale);
    context.strokeRect(
      map.x + view.x * map.scale - wide / 2,
      map.y + view.y * map.scale - high / 2,
      wide,
      high,
    );
  };

  const drawCross = (context, { per, x, y }) => {
    const { row, col } = state;
    if (row == null || col == null || row >= Tq || col >= Tk) return;
    const { left, top, w, h } = box;
    const [cx, cy] = [left + w / 2 + (col - x) / per, top + h / 2 + (row - y) / per];
    const cell = Math.max(1, 1 / per);
    context.save();
    context.beginPath();
    context.rect(left, top, w, h);
    context.clip();
    context.strokeStyle = look.accent;
    context.lineWidth = 1;
    context.globalAlpha = 0.55;
    context.beginPath();
    const [wide, high] = [Math.min(w, w / 2 + (Tk - x) / per), Math.min(h, h / 2 + (Tq - y) / per)];
    for (const at of [cy - 0.5, cy + cell + 0.5]) context.rect(left, at, wide, 0);
    for (const at of [cx - 0.5, cx + cell + 0.5]) context.rect(at, top, 0, high);
    context.stroke();
    context.globalAlpha = 1;
    context.lineWidth = 2;
    context.strokeRect(cx - 2, cy - 2, cell + 4, cell + 4);
    context.restore();
  };

  // Styles and sizes are asked for when they may have changed, not in every frame.
  let width = 0;
  let dressed = "";
  const sizes = new ResizeObserver(() => {
    width = 0;
    frame.ask();
  });
  sizes.observe(node);
  const draw = () => {
    if (!width || dressed !== stage.theme()) {
      look = looks();
      width = Math.floor(node.clientWidth);
      dressed = stage.theme();
    }
    const { unit } = look;
    if (!width) return;
    const narrow = width < 480;
    const [left, top] = [(narrow ? 74 : 122) * unit, (narrow ? 74 : 104) * unit];
    const room = Math.min(window.innerHeight * 0.78, 1400 * unit) - top;
    const h = Math.min(room, Math.max(60, Math.min((width - left) * (Tq / Tk), Tq * 2 ** -NEAREST)));
    box = { left, top, w: width - left - 1, h, unit };
    const context = sharp(canvas, width, Math.ceil(top + h + 1));
    context.font = look.font.replace(/\d+/, (size) => String(Math.round(Number(size) * 0.92)));
    const view = seen();
    const { per, x, y } = view;
    context.save();
    context.beginPath();
    context.rect(left, top, box.w, h);
    context.clip();
    const [x0, y0] = [left + box.w / 2 - x / per, top + h / 2 - y / per];
    context.beginPath();
    context.rect(x0, y0, Tk / per, Tq / per);
    context.clip();
    hatch = hatch?.ink === look.ink ? hatch : { ink: look.ink, pattern: stripes(context, look.ink) };
    context.fillStyle = hatch.pattern;
    context.fillRect(x0, y0, Tk / per, Tq / per);
    context.imageSmoothingEnabled = false;
    budget = COLOURED;
    drawTiles(context, view);
    context.restore();
    context.strokeStyle = look.rule;
    context.strokeRect(
      Math.max(left, x0) - 0.5,
      Math.max(top, y0) - 0.5,
      Math.min(box.w, Tk / per) + 1,
      Math.min(h, Tq / per) + 1,
    );
    drawEdge(context, 0, view);
    drawEdge(context, 1, view);
    drawCross(context, view);
    if (zoomedIn(view)) drawMinimap(context, view);
    drawn();
  };
  const frame = eachFrame(draw);

  /** @param {number} by @param {number} [px] a place that stays where it is @param {number} [py] */
  const zoomBy = (by, px = box.left + box.w / 2, py = box.top + box.h / 2) => {
    const { zoom, per, x, y, whole } = seen();
    const next = between(zoom + by, NEAREST, whole);
    const shift = per - 2 ** next;
    stage.change({
      zoom: next >= whole ? null : next,
      x: x + (px - box.left - box.w / 2) * shift,
      y: y + (py - box.top - box.h / 2) * shift,
    });
  };
  const panBy = (dx, dy) => {
    const { per, x, y, zoom } = seen();
    stage.change({ x: x - dx * per, y: y - dy * per, zoom });
  };
  /** The pair under a place of the canvas. */
  const pairAt = ({ clientX, clientY }) => {
    const area = canvas.getBoundingClientRect();
    const { per, x, y } = seen();
    const col = Math.floor(x + (clientX - area.left - box.left - box.w / 2) * per);
    const row = Math.floor(y + (clientY - area.top - box.top - box.h / 2) * per);
    const inside = clientX - area.left >= box.left && clientY - area.top >= box.top;
    return inside && row >= 0 && col >= 0 && row < Tq && col < Tk ? { row, col } : null;
  };
  /** Choose a pair, and bring it into view. */
  const choose = ({ row, col }) => {
    const { per, x, y, zoom } = seen();
    const far = (at, middle, size) => Math.abs(at + 0.5 - middle) > (size / 2) * per - Math.min(0.5, per);
    const moved = { row, col };
    if (far(col, x, box.w)) Object.assign(moved, { x: col + 0.5, zoom });
    if (far(row, y, box.h)) Object.assign(moved, { y: row + 0.5, zoom });
    stage.change(moved);
    pointed(null);
  };

  const pointers = new Map();
  let moved = false;
  const minimapAt = (event) => {
    const area = canvas.getBoundingClientRect();
    const map = minimap();
    const [px, py] = [event.clientX - area.left - map.x, event.clientY - area.top - map.y];
    return zoomedIn(seen()) && px >= 0 && py >= 0 && px <= map.w && py <= map.h
      ? { x: px / map.scale, y: py / map.scale }
      : null;
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    const jump = !pointers.size && minimapAt(event);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, onMap: Boolean(jump) });
    moved = Boolean(jump);
    if (jump) stage.change({ ...jump, zoom: seen().zoom });
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") pointed(minimapAt(event) ? null : pairAt(event));
      return;
    }
    const now = { ...before, x: event.clientX, y: event.clientY };
    const jump = before.onMap && minimapAt(event);
    if (jump) return stage.change(jump);
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const area = canvas.getBoundingClientRect();
      const apart = (one) => Math.hypot(one.x - other.x, one.y - other.y) || 1;
      panBy((now.x - before.x) / 2, (now.y - before.y) / 2);
      zoomBy(
        Math.log2(apart(before) / apart(now)),
        (now.x + other.x) / 2 - area.left,
        (now.y + other.y) / 2 - area.top,
      );
    } else {
      if (!moved && Math.hypot(now.x - before.x, now.y - before.y) < 4) return;
      panBy(now.x - before.x, now.y - before.y);
    }
    moved = true;
    pointers.set(event.pointerId, now);
  });
  for (const type of /** @type {const} */ (["pointerup", "pointercancel"])) {
    canvas.addEventListener(type, (event) => {
      const pair = pointers.delete(event.pointerId) && !moved && type === "pointerup" && pairAt(event);
      if (pair) choose(pair);
    });
  }
  canvas.addEventListener("pointerleave", () => pointed(null));
  canvas.addEventListener("dblclick", (event) => {
    const area = canvas.getBoundingClientRect();
    zoomBy(event.shiftKey ? 1 : -1, event.clientX - area.left, event.clientY - area.top);
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const area = canvas.getBoundingClientRect();
      const lines = event.deltaMode ? 30 : 1;
      zoomBy(
        event.deltaY * lines * (event.ctrlKey ? 0.012 : 0.004),
        event.clientX - area.left,
        event.clientY - area.top,
      );
    },
    { passive: false },
  );
  node.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey) return;
    const { x, y } = seen();
    const step = 2 ** level() * (event.shiftKey ? 10 : 1);
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[
      event.key
    ] ?? [0, 0];
    if (down || right) {
      const { row, col } =
        state.row == null || state.col == null ? { row: Math.floor(y), col: Math.floor(x) } : state;
      choose({ row: between(row + down * step, 0, Tq - 1), col: between(col + right * step, 0, Tk - 1) });
    } else if (event.key === "+" || event.key === "=") zoomBy(-0.5);
    else if (event.key === "-") zoomBy(0.5);
    else if (event.key === "Home" || event.key === "0") stage.change({ zoom: null, x: null, y: null });
    else return;
    event.preventDefault();
  });

  /** The largest weights (or differences) of what is seen. @param {number} count */
  const strongestInView = (count) => {
    const { per, x, y } = seen();
    const side = 2 ** level();
    const edges = (middle, size, length) => [
      Math.max(0, Math.floor((middle - (size / 2) * per) / side)),
      Math.ceil(Math.min(length, middle + (size / 2) * per) / side),
    ];
    return strongestOf(tiles, heads, level(), edges(y, box.h, Tq), edges(x, box.w, Tk), count);
  };

  /** What the cell under a pair holds, where it holds more than that. */
  const cellAt = ({ row, col }) => {
    const at = level();
    const side = TILE * 2 ** at;
    const tile =
      at &&
      tiles.get({ head: heads[0], level: at, row: Math.floor(row / side), col: Math.floor(col / side) });
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
  return {
    node,
    redraw: frame.ask,
    destroy,
    zoomBy,
    choose,
    strongestInView,
    cellAt,
    reach: () => reach(level()),
  };
}

/** Stripes where there is no weight. */
function stripes(context, ink) {
  const made = new OffscreenCanvas(6, 6);
  const lines = made.getContext("2d");
  lines.strokeStyle = ink;
  lines.globalAlpha = 0.13;
  for (const shift of [-6, 0, 6]) {
    lines.moveTo(shift, 6);
    lines.lineTo(shift + 6, 0);
  }
  lines.stroke();
  return context.createPattern(made, "repeat");
}
