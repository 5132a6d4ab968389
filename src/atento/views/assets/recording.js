// A recording, as Python wrote it into the page or as a server hands it out: arrays are read when they are needed.

import { decodeTyped } from "./decode.js";
import { namesOf } from "./labels.js";

/** Weights from bytes. */
const DECODED = Float32Array.from({ length: 256 }, (_, u) => u && 2 ** ((u - 255) / 12));

const NOTHING = new Float32Array(0);

/** @param {any} record @param {Server} [server] where the arrays are, if not within @returns {Promise<Recording>} */
export async function recordingReader(record, server) {
  /** @type {{ layers: Layer[], masks: any[], arrays: any[] }} */
  const { layers, masks, arrays } = record;
  /** @type {Map<number, any>} */
  const done = new Map();
  /** @type {Map<number, Promise<void>>} */
  const reading = new Map();
  /** @param {number} place */
  const fetched = async (place) => {
    try {
      done.set(place, await (server ? server.array(place) : decodeTyped(arrays[place])));
      // Its text is not needed any more.
      if (!server) arrays[place] = null;
    } catch (error) {
      // To be asked for again.
      reading.delete(place);
      throw error;
    }
  };
  /** @param {number|null|undefined} place */
  const read = (place) => {
    if (place === null || place === undefined) return null;
    if (!reading.has(place)) reading.set(place, fetched(place));
    return reading.get(place);
  };
  const tokens = namesOf(record.tokens);

  /** Names of a layer's queries or keys: the tokens where these are meant, or else their numbers. @type {(...asked: any[]) => Name[]} */
  const names = (count, first, cross) => {
    if (!cross && first + count <= tokens.length) return tokens.slice(first, first + count);
    return Array.from({ length: count }, (_, i) => ({ text: String(i), mark: "" }));
  };
  /** @type {Map<string, Name[]>} */
  const known = new Map();
  /** @param {string} id @param {() => Name[]} make */
  const once = (id, make) => {
    if (!known.has(id)) known.set(id, make());
    return /** @type {Name[]} */ (known.get(id));
  };

  /** Its own array, where each head has one. @param {any} source @param {number} index */
  const own = (source, index) => (Array.isArray(source) ? source[index] : source);
  /** @param {number} index @param {any} head */
  const ready = async (index, head) => {
    const { query, key, keyOf, lse, sees, bias, overview, strips, served } = layers[index];
    const seen = (served && sees ? [sees[head]] : [...new Set(sees ?? [])]).flatMap((place) => Object.values(masks[place]));
    const packed = [own(query, head), own(key, keyOf[head])].flatMap((source) =>
      source?.step === undefined ? source : Object.values(source),
    );
    const others = [lse, overview?.mean, overview?.max, ...Object.values({ ...bias, ...strips })];
    await Promise.all([...packed, ...seen, ...others.map((source) => own(source, head))].map(read));
  };

  /** One head's part of an array (head, …), or of one that all heads share. @param {any} source @param {number} index */
  const part = (source, index) => {
    const array = done.get(own(source, index));
    if (!array) return null;
    const size = array.shape.slice(1).reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b, 1);
    const start = array.shape[0] === 1 ? 0 : index * size;
    return array.data.subarray(start, start + size);
  };
  /** Queries or keys of one head: as they are, or whole numbers × step + middle. @param {any} source @param {number} index */
  const features = (source, index) => {
    if (source?.step === undefined) return part(source, index);
    const [values, step, middle] = ["values", "step", "middle"].map((name) => part(source[name], index));
    return values && Float32Array.from(values, (value, p) => value * step[p % step.length] + middle[p % step.length]);
  };
  /** @param {any} source @param {Pool} pool @param {number} index */
  const picture = (source, pool, index) => {
    const given = source && part(source[pool], index);
    if (!given) return null;
    const [, rows, cols] = done.get(own(source[pool], index)).shape;
    const data = given instanceof Uint8Array ? Float32Array.from(given, (u) => DECODED[u]) : given;
    return { width: source.width, rows, cols, data };
  };

  /** What each query sees, from three arrays or from one that holds them in a row. @param {any} runs @param {number} Tq @returns {any} */
  const maskOf = (runs, Tq) => {
    const found = Object.fromEntries(Object.entries(runs).map(([name, at]) => [name, done.get(at).data]));
    if (!found.runs) return found;
    const half = (found.runs.length + Tq + 1) / 2;
    const [offsets, starts, stops] = [[0, Tq + 1], [Tq + 1, half], [half]].map((ends) => found.runs.subarray(...ends));
    return { offsets, starts, stops };
  };
  /** A head that is asked for its weights before it is there: it has none yet, and is fetched. @param {any} head */
  const awaited = (head) => {
    const mask = { offsets: new Int32Array(head.Tq + 1), starts: NOTHING, stops: NOTHING };
    const load = () => ready(head.layer, head.index).then(() => result.heard());
    /** @type {Promise<any>|null} */
    let asked = null;
    const get = () => ((asked ??= load().catch(() => (asked = null))), mask);
    Object.assign(head, { query: NOTHING, key: NOTHING, lse: NOTHING, waits: true });
    Object.defineProperty(head, "mask", { get });
  };

  /** @type {Map<string, Head>} */
  const heads = new Map();
  /** @param {number} layerIndex @param {number} index */
  const head = (layerIndex, index) => {
    const id = `${layerIndex},${index}`;
    const before = heads.get(id);
    if (before?.lse && !before.waits) return before;
    const layer = layers[layerIndex];
    const query = features(layer.query, index);
    const place = layer.sees?.[index];
    const [kind, values] = Object.entries(layer.bias ?? {})[0] ?? [];
    const shape = done.get(own(values, index))?.shape ?? [];
    /** @type {Record<string, Picture|null>} */
    const pictures = {};
    /** @type {Head} */
    const made = {
      layer: layerIndex,
      index,
      number: layer.headNumbers[index],
      Tq: layer.queries,
      Tk: layer.keys,
      d: layer.features,
      query,
      key: features(layer.key, layer.keyOf[index]),
      scale: layer.scale,
      softcap: layer.softcap,
      lse: part(layer.lse, index),
      mask: query && place !== undefined ? maskOf(masks[place], layer.queries) : null,
      bias: query && kind ? { distance: kind === "distance", rows: shape[1], cols: shape[2], values: part(values, index) } : null,
      strips: Object.fromEntries(Object.entries(layer.strips).map(([name, at]) => [name, part(at, index)])),
      small: (pool) => picture(layer.small, pool, index),
      overview: (pool) => (pictures[pool] ??= picture(layer.overview, pool, index)),
    };
    if (layer.served && server) {
      made.fetchTiles = /** @type {FetchTiles} */ ((...asked) => server.tiles(layerIndex, made.number, ...asked));
      if (layer.query && !query) awaited(made);
    }
    heads.set(id, made);
    return made;
  };

  // What the grid of all heads shows.
  await Promise.all(layers.flatMap(({ small }) => [small?.mean, small?.max]).map(read));
  /** @type {Recording} */
  const result = {
    tokens,
    layers,
    skipped: record.skipped,
    queryTokens: (l) => once(`q${l}`, () => names(layers[l].queries, layers[l].firstQuery, false)),
    keyTokens: (l) => once(`k${l}`, () => names(layers[l].keys, 0, layers[l].kind === "cross")),
    ready,
    head,
    other: record.other && (await recordingReader(record.other)),
    heard: () => {},
  };
  return result;
}
