// Tiles of the map: pooled from the overview at once, computed by workers or fetched, the nearest first.

import { bothTiles } from "./weights.js";

/** Cells a side of a tile. */
export const TILE = 128;

/** So many tiles are kept. */
const KEPT = 640;

/** So many are fetched at a time, and so many of those around what is seen, so many tiles wide. */
const [FETCHED, AHEAD, AROUND] = [6, 3, 2];

/** Cells of a tile from finer ones, each counting for the weights that it holds. @type {FromOverview} */
function fromOverview(head, level, row, col) {
  const { mean, max } = /** @type {any} */ ({ mean: head.overview("mean"), max: head.overview("max") });
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
  /** @type {Map<any, Spot[]>} */
  const wanted = new Map();
  /** @type {Set<() => void>} */
  const heard = new Set();
  /** @type {Set<string>} */
  const begun = new Set();
  /** Tiles to be fetched that were looked at since the last wish. @type {Spot[]} */
  let looked = [];
  /** What is being fetched, and how to end it. @type {Map<string, AbortController>} */
  const fetched = new Map();
  const identities = new WeakMap();
  let count = 0;
  /** @param {Head} head */
  const identity = (head) => {
    if (!identities.has(head)) identities.set(head, `${count++}`);
    return identities.get(head);
  };
  /** @param {Spot} place */
  const key = ({ head, level, row, col }) => `${identity(head)} ${level} ${row} ${col}`;
  /** @param {string} name @param {Tile} tile */
  const keep = (name, tile) => {
    kept.set(name, tile);
    for (const old of kept.keys()) {
      if (kept.size <= KEPT) break;
      kept.delete(old);
    }
    return tile;
  };

  const make = workerMaker(source);
  /** @type {Hand[]} */
  const team = [];
  /** @param {Hand} one @param {Tile} tile */
  const arrived = (one, tile) => {
    begun.delete(one.busy);
    keep(one.busy, tile);
    one.busy = "";
    feed();
    for (const tell of heard) tell();
  };
  const enlist = () => {
    /** @type {Hand} */
    const one = { worker: null, sent: new Set(), busy: "" };
    try {
      const worker = (one.worker = make());
      worker.onmessage = ({ data }) => arrived(one, data);
      worker.onerror = (event) => {
        event.preventDefault();
        one.worker = null;
        begun.delete(one.busy);
        one.busy = "";
        for (const tell of heard) tell(); // they will want the tile again
      };
    } catch {
      one.worker = null; // a browser that allows no worker: tiles are made here, between frames
    }
    team.push(one);
    return one;
  };
  const most = Math.max(1, Math.min(4, (navigator.hardwareConcurrency || 2) - 1));

  /** The most urgent tile that nobody has begun, of those to be fetched or of the others. @param {boolean} remote */
  const next = (remote) => {
    for (const [owner, places] of wanted) {
      if (owner === "ahead" && fetched.size >= AHEAD) break;
      for (const place of places) {
        const name = key(place);
        if (Boolean(place.head.fetchTile) === remote && !kept.has(name) && !begun.has(name)) return { place, name };
      }
    }
    return null;
  };
  /** @param {{ place: Spot, name: string }} found */
  const fetchOne = ({ place: { head, level, row, col }, name }) => {
    const ended = new AbortController();
    const side = TILE * 2 ** level;
    begun.add(name);
    fetched.set(name, ended);
    const tell = () => heard.forEach((one) => one());
    head
      .fetchTile?.(row * side, col * side, level, TILE, ended.signal)
      .then((tile) => (keep(name, tile), tell()))
      .catch(() => {
        if (ended.signal.aborted) return;
        for (const [owner, places] of wanted) wanted.set(owner, places.filter((place) => key(place) !== name));
        setTimeout(tell, 1000); // they will want the tile again
      })
      .finally(() => {
        begun.delete(name);
        fetched.delete(name);
        feed();
      });
  };
  /** Around what is seen, so that it is there when the map is moved; asked for last. */
  const lookAhead = () => {
    const level = Math.min(...looked.map((place) => place.level));
    const seen = looked.filter((place) => place.level === level);
    looked = [];
    wanted.delete("ahead");
    if (!seen.length || isPooled(seen[0])) return;
    const [{ head }] = seen;
    /** @param {"row"|"col"} axis @param {number} length @returns {Ends} */
    const span = (axis, length) => {
      const at = seen.map((place) => place[axis]);
      const last = Math.ceil(length / (TILE * 2 ** level)) - 1;
      return [Math.max(0, Math.min(...at) - AROUND), Math.min(last, Math.max(...at) + AROUND)];
    };
    const [rows, cols] = [span("row", head.Tq), span("col", head.Tk)];
    /** @type {Spot[]} */
    const places = [];
    for (let row = rows[0]; row <= rows[1]; row++)
      for (let col = cols[0]; col <= cols[1]; col++) places.push({ head, level, row, col });
    /** @param {number} at @param {Ends} ends */
    const far = (at, [first, last]) => Math.max(0, first + AROUND - at, at - last + AROUND); // from what is seen
    /** @param {Spot} place */
    const distance = (place) => Math.max(far(place.row, rows), far(place.col, cols));
    wanted.set("ahead", places.sort((a, b) => distance(a) - distance(b)));
  };
  /** Whether the overview that the page has is fine enough. @param {Spot} place */
  const isPooled = ({ head, level }) => 2 ** level >= (head.overview("mean")?.width ?? Infinity);
  /** What nobody looks at any longer is not waited for. */
  const abandon = () => {
    const names = new Set([...wanted.values()].flat().map(key));
    for (const [name, ended] of fetched) if (!names.has(name)) ended.abort();
  };
  const feed = () => {
    for (let found; fetched.size < FETCHED && (found = next(true)); ) fetchOne(found);
    while (team.length < most || team.some(({ busy }) => !busy)) {
      const found = next(false);
      if (!found) return;
      const one = team.find(({ busy }) => !busy) ?? enlist();
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
      if (place.head.fetchTile) looked.push(place);
      if (tile) {
        kept.delete(name);
        kept.set(name, tile);
        return tile;
      }
      if (!isPooled(place)) return null;
      return keep(name, fromOverview(place.head, place.level, place.row, place.col));
    },
    want: (owner, places) => {
      if (places.length) wanted.set(owner, places);
      else wanted.delete(owner);
      owner.ariaBusy = String(places.length > 0);
      lookAhead();
      abandon();
      feed();
    },
    listen: (tell) => {
      heard.add(tell);
      return () => heard.delete(tell);
    },
  };
}
