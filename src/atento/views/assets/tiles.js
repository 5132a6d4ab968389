// Tiles of the map: pooled from the overview at once, computed by workers or fetched, the nearest first.

import { bothTiles } from "./weights.js";

/** Cells a side of a tile. */
export const TILE = 128;

/** So many tiles are kept. */
const KEPT = 640;

/**
 * So many requests at a time, so many for what is fetched ahead, and so many tiles around what is seen. In one
 * request are so many tiles, or of those ahead so many: whoever moves the map waits for what has begun.
 */
const [FETCHED, AHEAD, AROUND, TOGETHER, FEW] = [6, 3, 2, 4, 2];

/** Milliseconds in which tiles that come are gathered: a drawing costs as much as a tile. */
const GATHERED = 50;

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
  /** What is being fetched, and how to end it. @type {Set<{ names: string[], ended: AbortController }>} */
  const fetched = new Set();
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

  /** What is missing in the views themselves. */
  const seen = () => [...wanted].flatMap(([owner, places]) => (owner === "ahead" ? [] : places));
  let gathering = 0;
  const tell = () => {
    clearTimeout(gathering);
    gathering = 0;
    for (const one of heard) one();
  };
  const tellSoon = () => {
    if (seen().every((place) => kept.has(key(place)))) tell();
    else gathering ||= setTimeout(tell, GATHERED);
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
    tellSoon();
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
        // They will want the tile again.
        tell();
      };
    } catch {
      // A browser that allows no worker: tiles are made here, between frames.
      one.worker = null;
    }
    team.push(one);
    return one;
  };
  const most = Math.max(1, Math.min(4, (navigator.hardwareConcurrency || 2) - 1));

  /** @param {Spot} place */
  const isOpen = (place) => !kept.has(key(place)) && !begun.has(key(place));
  /** The most urgent tile that nobody has begun, of those that are made here. */
  const next = () => {
    for (const places of wanted.values()) {
      const place = places.find((one) => !one.head.fetchTiles && isOpen(one));
      if (place) return { place, name: key(place) };
    }
    return null;
  };
  /** Those to be fetched next, in one request: fewer when few are left, so that there is work for all of the server. */
  const nextTogether = () => {
    for (const [owner, places] of wanted) {
      const ahead = owner === "ahead";
      if (ahead && (fetched.size >= AHEAD || seen().length)) break;
      const left = places.filter((place) => place.head.fetchTiles && isOpen(place));
      const alike = left.filter(({ head, level }) => head === left[0].head && level === left[0].level);
      if (left.length) return alike.slice(0, ahead ? FEW : Math.min(TOGETHER, Math.ceil(left.length / 4)));
    }
    return [];
  };
  /** @param {Spot[]} places */
  const fetchSome = (places) => {
    const [{ head, level }] = places;
    const one = { names: places.map(key), ended: new AbortController() };
    const side = TILE * 2 ** level;
    for (const name of one.names) begun.add(name);
    fetched.add(one);
    head
      .fetchTiles?.(places.map(({ row, col }) => [row * side, col * side]), level, TILE, one.ended.signal)
      .then((tiles) => {
        tiles.forEach((tile, at) => keep(one.names[at], tile));
        // Others change nothing that is drawn.
        if (seen().some((place) => one.names.includes(key(place)))) tellSoon();
      })
      .catch(() => {
        if (one.ended.signal.aborted) return;
        for (const [owner, all] of wanted) wanted.set(owner, all.filter((place) => !one.names.includes(key(place))));
        // They will want the tiles again.
        setTimeout(tell, 1000);
      })
      .finally(() => {
        for (const name of one.names) begun.delete(name);
        fetched.delete(one);
        feed();
      });
  };
  /** Around what is seen, so that it is there when the map is moved; asked for last. @param {Region} [region] */
  const lookAhead = (region) => {
    wanted.delete("ahead");
    if (!region?.head.fetchTiles) return;
    const { head, level, rows, cols } = region;
    /** @type {Spot[]} */
    const places = [];
    /** @param {Ends} ends @param {number} length @returns {Ends} */
    const wider = ([first, last], length) => [
      Math.max(0, first - AROUND),
      Math.min(Math.ceil(length / (TILE * 2 ** level)) - 1, last + AROUND),
    ];
    const [down, across] = [wider(rows, head.Tq), wider(cols, head.Tk)];
    for (let row = down[0]; row <= down[1]; row++)
      for (let col = across[0]; col <= across[1]; col++) places.push({ head, level, row, col });
    if (isPooled(places[0])) return;
    /** @param {number} at @param {Ends} ends */
    const far = (at, [first, last]) => Math.max(0, first - at, at - last);
    /** @param {Spot} place */
    const distance = (place) => Math.max(far(place.row, rows), far(place.col, cols));
    wanted.set("ahead", places.sort((a, b) => distance(a) - distance(b)));
  };
  /** Whether the overview that the page has is fine enough. @param {Spot} place */
  const isPooled = ({ head, level }) => 2 ** level >= (head.overview("mean")?.width ?? Infinity);
  /** What nobody looks at any longer is not waited for, nor what is fetched ahead while something is missing. */
  const abandon = () => {
    const missing = seen();
    const names = new Set((missing.length ? missing : [...wanted.values()].flat()).map(key));
    for (const one of fetched) if (!one.names.some((name) => names.has(name))) one.ended.abort();
  };
  const feed = () => {
    for (let found; fetched.size < FETCHED && (found = nextTogether()).length; ) fetchSome(found);
    while (team.length < most || team.some(({ busy }) => !busy)) {
      const found = next();
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
      if (tile) {
        kept.delete(name);
        kept.set(name, tile);
        return tile;
      }
      if (!isPooled(place)) return null;
      return keep(name, fromOverview(place.head, place.level, place.row, place.col));
    },
    want: (owner, places, region) => {
      if (places.length) wanted.set(owner, places);
      else wanted.delete(owner);
      owner.ariaBusy = String(places.length > 0);
      lookAhead(region);
      abandon();
      feed();
    },
    listen: (tell) => {
      heard.add(tell);
      return () => heard.delete(tell);
    },
  };
}
