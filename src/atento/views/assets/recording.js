// A recording, as Python wrote it into the page or as a server hands it out: arrays are read when they are needed.

import { decodeTyped } from "./decode.js";
import { namesOf } from "./labels.js";
import { biasAt } from "./weights.js";

/**
 * @typedef {Name} Name
 * Pooled pictures of a head: cells of width × width weights, `n` × `n` where there are as many
 * queries as keys.
 * @typedef {{ width: number, n: number, rows: number, cols: number, data: Float32Array }} Picture
 *
 * A head: what `weights.js` takes, and more. `query` and `key` are null where only statistics were
 * kept, and until `ready(layer)` is through.
 * @typedef {HeadWeights & { layer: number, index: number, number: number, role: string,
 *   summary: Record<string, any>, runs: (i: number) => [Int32Array, Int32Array, number, number],
 *   biasAt: (i: number, j: number) => number, strips: Record<string, Float32Array>,
 *   small: (pool: import("./weights.js").Pool) => Picture|null,
 *   overview: (pool: import("./weights.js").Pool) => Picture|null }} Head
 *
 * `ready(layer, head)` reads the arrays of a layer, or of one head where each has its own; `head(layer, index)`
 * has numbers, role and small pictures at once, and the rest after that. Long layers have an overview as well.
 * `heard` is called when a head that was asked for too soon is ready.
 * @typedef {{ tokens: Name[], layers: any[], skipped: [string, string][], queryTokens: (layer: number) => Name[],
 *   keyTokens: (layer: number) => Name[], ready: (layer: number, head: number) => Promise<void>, heard: () => void,
 *   head: (layer: number, index: number) => Head, other: Recording|null }} Recording
 * @typedef {{ array: (place: number) => Promise<any>, tile: (layer: any, number: number, row0: number, col0: number,
 *   zoom: number, size: number, signal: AbortSignal) => Promise<import("./tiles.js").Tile> }} Server
 */

/** Weights from bytes. */
const DECODED = Float32Array.from({ length: 256 }, (_, u) => u && 2 ** ((u - 255) / 12));

const NOTHING = new Float32Array(0);

/** @param {any} record @param {Server} [server] where the arrays are, if not within @returns {Promise<Recording>} */
export async function recordingReader(record, server) {
  const { layers, masks, arrays } = record;
  /** @type {Map<number, any>} */
  const done = new Map();
  /** @type {Map<number, Promise<void>>} */
  const reading = new Map();
  /** @param {number|null|undefined} place */
  const read = (place) => {
    if (place === null || place === undefined) return null;
    if (!reading.has(place)) {
      reading.set(
        place,
        (server ? server.array(place) : decodeTyped(arrays[place])).then(
          (array) => {
            done.set(place, array);
            if (!server) arrays[place] = null; // its text is not needed any more
          },
          (error) => {
            reading.delete(place); // to be asked for again
            throw error;
          },
        ),
      );
    }
    return reading.get(place);
  };
  const tokens = namesOf(record.tokens);
  const numbers = (count) => Array.from({ length: count }, (_, i) => ({ text: String(i), mark: "" }));

  /** Names of a layer's queries or keys: the tokens where these are meant, or else their numbers. */
  const names = (count, first, own, cross) => {
    if (own) return namesOf(own);
    if (!cross && first + count <= tokens.length) return tokens.slice(first, first + count);
    return numbers(count);
  };
  /** @type {Map<string, Name[]>} */
  const known = new Map();
  const once = (id, make) => {
    if (!known.has(id)) known.set(id, make());
    return /** @type {Name[]} */ (known.get(id));
  };

  /** Its own array, where each head has one. */
  const own = (source, index) => (Array.isArray(source) ? source[index] : source);
  const ready = async (index, head) => {
    const { query, key, keyOf, lse, sees, bias, overview, strips, served } = layers[index];
    const seen = (served && sees ? [sees[head]] : [...new Set(sees ?? [])]).flatMap((place) => Object.values(masks[place]));
    const packed = [own(query, head), own(key, keyOf[head])].flatMap((source) =>
      source?.step === undefined ? source : Object.values(source),
    );
    const others = [lse, overview?.mean, overview?.max, ...Object.values({ ...bias, ...strips })];
    await Promise.all([...packed, ...seen, ...others.map((source) => own(source, head))].map(read));
  };

  /** One head's part of an array (head, …), or of one that all heads share. */
  const part = (source, index) => {
    const array = done.get(own(source, index));
    if (!array) return null;
    const size = array.shape.slice(1).reduce((a, b) => a * b, 1);
    const start = array.shape[0] === 1 ? 0 : index * size;
    return array.data.subarray(start, start + size);
  };
  /** Queries or keys of one head: as they are, or whole numbers × step + middle. */
  const features = (source, index) => {
    if (source?.step === undefined) return part(source, index);
    const [values, step, middle] = ["values", "step", "middle"].map((name) => part(source[name], index));
    return (
      values &&
      Float32Array.from(values, (value, p) => value * step[p % step.length] + middle[p % step.length])
    );
  };
  const picture = (source, pool, index) => {
    const given = source && part(source[pool], index);
    if (!given) return null;
    const [, rows, cols] = done.get(own(source[pool], index)).shape;
    const data = given instanceof Uint8Array ? Float32Array.from(given, (u) => DECODED[u]) : given;
    return { width: source.width, n: rows, rows, cols, data };
  };

  /** What each query sees, from three arrays or from one that holds them in a row. */
  const maskOf = (runs, Tq) => {
    const found = Object.fromEntries(Object.entries(runs).map(([name, at]) => [name, done.get(at).data]));
    if (!found.runs) return found;
    const half = (found.runs.length + Tq + 1) / 2;
    const [offsets, starts, stops] = [[0, Tq + 1], [Tq + 1, half], [half]].map((ends) => found.runs.subarray(...ends));
    return { offsets, starts, stops };
  };
  /** A head that is asked for its weights before it is there: it has none yet, and is fetched. */
  const awaited = (head) => {
    const mask = { offsets: new Int32Array(head.Tq + 1), starts: NOTHING, stops: NOTHING };
    const fetched = () => ready(head.layer, head.index).then(() => result.heard());
    let asked = null;
    const get = () => ((asked ??= fetched().catch(() => (asked = null))), mask);
    Object.assign(head, { query: NOTHING, key: NOTHING, lse: NOTHING, waits: true });
    Object.defineProperty(head, "mask", { get });
  };

  /** @type {Map<string, Head>} */
  const heads = new Map();
  const head = (layerIndex, index) => {
    const id = `${layerIndex},${index}`;
    const before = heads.get(id);
    if (before?.lse && !before.waits) return before;
    const layer = layers[layerIndex];
    const query = features(layer.query, index);
    const place = layer.sees?.[index];
    const [kind, values] = Object.entries(layer.bias ?? {})[0] ?? [];
    const shape = done.get(own(values, index))?.shape ?? [];
    /** @type {any} */
    const made = {
      layer: layerIndex,
      index,
      number: layer.headNumbers[index],
      role: layer.summary[index].role,
      summary: layer.summary[index],
      Tq: layer.queries,
      Tk: layer.keys,
      d: layer.features,
      query,
      key: features(layer.key, layer.keyOf[index]),
      scale: layer.scale,
      softcap: layer.softcap,
      lse: part(layer.lse, index),
      mask: query && place !== undefined ? maskOf(masks[place], layer.queries) : null,
      bias:
        query && kind
          ? { distance: kind === "distance", rows: shape[1], cols: shape[2], values: part(values, index) }
          : null,
      strips: Object.fromEntries(Object.entries(layer.strips).map(([name, at]) => [name, part(at, index)])),
      small: (pool) => picture(layer.small, pool, index),
      runs: (i) =>
        made.mask
          ? [made.mask.starts, made.mask.stops, made.mask.offsets[i], made.mask.offsets[i + 1]]
          : [Int32Array.of(0), Int32Array.of(made.Tk), 0, 1],
      biasAt: (i, j) => biasAt(made, i, j),
    };
    /** @type {Record<string, Picture|null>} */
    const pictures = {};
    made.overview = (pool) => (pictures[pool] ??= picture(layer.overview, pool, index));
    if (layer.served) {
      made.fetchTile = (...asked) => server.tile(layerIndex, made.number, ...asked);
      if (layer.query && !query) awaited(made);
    }
    heads.set(id, made);
    return made;
  };

  // What the grid of all heads shows.
  await Promise.all(
    layers.flatMap(({ small }) => [small?.mean, small?.max]).map(read),
  );
  const result = {
    tokens,
    layers,
    skipped: record.skipped,
    queryTokens: (l) => once(`q${l}`, () => names(layers[l].queries, layers[l].firstQuery, null, false)),
    keyTokens: (l) =>
      once(`k${l}`, () => names(layers[l].keys, 0, layers[l].keyTokens, layers[l].kind === "cross")),
    ready,
    head,
    other: record.other && (await recordingReader(record.other)),
    heard: () => {},
  };
  return result;
}
