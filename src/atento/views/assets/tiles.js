// Tiles of the map: pooled from the overview at once, or computed by workers, the nearest first.

import { bothTiles } from "./weights.js";

/** Cells a side of a tile. */
export const TILE = 128;

/** So many tiles are kept. */
const KEPT = 640;

/**
 * Cells of 2^level × 2^level weights from cell (row · TILE, col · TILE) on. `drawn`: its colours.
 * @typedef {{rows: number, cols: number, mean: Float32Array, max: Float32Array, drawn?: any}} Tile
 * @typedef {{ head: import("./recording.js").Head, level: number, row: number, col: number }} Place
 *
 * `get` returns a tile that is there. `want` says what one owner needs, the most urgent first: what it
 * wanted before and nobody has begun is forgotten. `listen` tells of each tile that has come.
 * @typedef {{ get: (place: Place) => Tile|null, want: (owner: any, places: Place[]) => void,
 *   listen: (heard: () => void) => () => void }} Tiles
 */

/** Cells of a tile from finer ones, each counting for the weights that it holds. */
function fromOverview(head, level, row, col) {
  const [mean, max] = [head.overview("mean"), head.overview("max")];
  const count = 2 ** level / mean.width;
  const rows = Math.min(TILE, Math.ceil(mean.rows / count) - row * TILE);
  const cols = Math.min(TILE, Math.ceil(mean.cols / count) - col * TILE);
  const made = { rows, cols, mean: new Float32Array(rows * cols), max: new Float32Array(rows * cols) };
  for (let p = 0; p < rows * cols; p++) {
    const top = (row * TILE + Math.floor(p / cols)) * count;
    const left = (col * TILE + (p % cols)) * count;
    let [sum, all] = [0, 0];
    for (let r = top; r < Math.min(top + count, mean.rows); r++) {
      const high = Math.min(mean.width, head.Tq - r * mean.width);
      for (let c = left; c < Math.min(left + count, mean.cols); c++) {
        const area = high * Math.min(mean.width, head.Tk - c * mean.width);
        sum += mean.data[r * mean.cols + c] * area;
        all += area;
        made.max[p] = Math.max(made.max[p], max.data[r * mean.cols + c]);
      }
    }
    made.mean[p] = sum / all;
  }
  return made;
}

/** A worker of the page's own script: the one URL that the page's policy lets it make. @param {string} source */
function workerMaker(source) {
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const policy = /** @type {any} */ (globalThis).trustedTypes?.createPolicy("atento-worker", {
    createScriptURL: () => url,
  });
  return () => new Worker(policy ? policy.createScriptURL("") : url);
}

/** @param {string} source of the worker @returns {Tiles} */
export function tileClient(source) {
  /** @type {Map<string, Tile>} the one used last at the end */
  const kept = new Map();
  /** @type {Map<any, Place[]>} */
  const wanted = new Map();
  /** @type {Set<() => void>} */
  const heard = new Set();
  /** @type {Set<string>} */
  const begun = new Set();
  const identities = new WeakMap();
  let count = 0;
  const identity = (head) => {
    if (!identities.has(head)) identities.set(head, `${count++}`);
    return identities.get(head);
  };
  const key = ({ head, level, row, col }) => `${identity(head)} ${level} ${row} ${col}`;
  const keep = (name, tile) => {
    kept.set(name, tile);
    for (const old of kept.keys()) {
      if (kept.size <= KEPT) break;
      kept.delete(old);
    }
    return tile;
  };

  const make = workerMaker(source);
  /** @type {{worker: Worker|null, sent: Set<string>, busy: string|null}[]} */
  const team = [];
  const arrived = (one, tile) => {
    begun.delete(one.busy);
    keep(one.busy, tile);
    one.busy = null;
    feed();
    for (const tell of heard) tell();
  };
  const enlist = () => {
    const one = { worker: null, sent: new Set(), busy: null };
    try {
      one.worker = make();
      one.worker.onmessage = ({ data }) => arrived(one, data);
      one.worker.onerror = (event) => {
        event.preventDefault();
        one.worker = null;
        if (one.busy) begun.delete(one.busy);
        one.busy = null;
        for (const tell of heard) tell(); // they will want the tile again
      };
    } catch {
      one.worker = null; // a browser that allows no worker: tiles are made here, between frames
    }
    team.push(one);
  };
  const most = Math.max(1, Math.min(4, (navigator.hardwareConcurrency || 2) - 1));

  /** The most urgent tile that nobody has begun. */
  const next = () => {
    for (const places of wanted.values()) {
      while (places.length) {
        const place = places[0];
        const name = key(place);
        places.shift();
        if (!kept.has(name) && !begun.has(name)) return { place, name };
      }
    }
    return null;
  };
  const feed = () => {
    while (team.length < most || team.some(({ busy }) => !busy)) {
      const found = next();
      if (!found) return;
      if (!team.some(({ busy }) => !busy)) enlist();
      const one = team.find(({ busy }) => !busy);
      const { place, name } = found;
      const { head, level } = place;
      const side = TILE * 2 ** level;
      const [id, row0, col0] = [identity(head), place.row * side, place.col * side];
      one.busy = name;
      begun.add(name);
      if (!one.worker) {
        setTimeout(() => arrived(one, bothTiles(head, row0, col0, level, TILE)), 4);
        continue;
      }
      if (!one.sent.has(id)) {
        const { Tq, Tk, d, query, key: keys, scale, softcap, lse, mask, bias } = head;
        // Views of a whole layer's array would be sent with all of it.
        const [own, theirs] = [query.slice(), keys.slice()];
        const plain = { Tq, Tk, d, query: own, key: theirs, scale, softcap, lse: lse.slice(), mask, bias };
        one.worker.postMessage({ id, head: plain }, [own.buffer, theirs.buffer]);
        one.sent.add(id);
      }
      one.worker.postMessage({ id, row0, col0, zoom: level, size: TILE });
    }
  };

  return {
    get: (place) => {
      const name = key(place);
      const tile = kept.get(name);
      if (tile) {
        kept.delete(name);
        kept.set(name, tile);
        return tile;
      }
      const overview = place.head.overview("mean");
      if (!overview || 2 ** place.level < overview.width) return null;
      return keep(name, fromOverview(place.head, place.level, place.row, place.col));
    },
    want: (owner, places) => {
      if (places.length) wanted.set(owner, places);
      else wanted.delete(owner);
      feed();
    },
    listen: (tell) => {
      heard.add(tell);
      return () => heard.delete(tell);
    },
  };
}
