// The recording that Python wrote into the page. Arrays are read when their layer is asked for.

import { decodeTyped } from "./decode.js";
import { namesOf } from "./labels.js";
import { biasAt } from "./weights.js";

/**
 * @typedef {import("./labels.js").Name} Name
 * Pooled pictures of a head: cells of width × width weights, `n` × `n` where there are as many
 * queries as keys.
 * @typedef {{ width: number, n: number, rows: number, cols: number, data: Float32Array }} Picture
 *
 * A head: what `weights.js` takes, and more. `query` and `key` are null where only statistics were
 * kept, and until `ready(layer)` is through.
 * @typedef {import("./weights.js").HeadWeights & { layer: number, index: number, number: number, role: string,
 *   summary: Record<string, any>, runs: (i: number) => [Int32Array, Int32Array, number, number],
 *   biasAt: (i: number, j: number) => number, strips: Record<string, Float32Array>,
 *   small: (pool: import("./weights.js").Pool) => Picture|null,
 *   overview: (pool: import("./weights.js").Pool) => Picture|null }} Head
 *
 * `ready(layer)` reads the arrays of a layer; `head(layer, index)` has numbers, role, strips and small
 * pictures at once, and the rest after that. Long layers have an overview as well.
 * @typedef {{ tokens: Name[], layers: any[], skipped: [string, string][], queryTokens: (layer: number) => Name[],
 *   keyTokens: (layer: number) => Name[], ready: (layer: number) => Promise<void>,
 *   head: (layer: number, index: number) => Head, other: Recording|null }} Recording
 */

/** Weights from bytes. */
const DECODED = Float32Array.from({ length: 256 }, (_, u) => u && 2 ** ((u - 255) / 12));

/** @param {any} record @returns {Promise<Recording>} */
export async function recordingReader(record) {
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
        decodeTyped(arrays[place]).then((array) => {
          done.set(place, array);
          arrays[place] = null; // its text is not needed any more
        }),
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

  const ready = async (index) => {
    const { query, key, lse, sees, bias, overview } = layers[index];
    const seen = [...new Set(sees ?? [])].flatMap((place) => Object.values(masks[place]));
    const biases = Object.values(bias ?? {});
    const packed = [query, key].flatMap((source) =>
      source?.step === undefined ? source : Object.values(source),
    );
    await Promise.all([...packed, lse, ...seen, ...biases, overview?.mean, overview?.max].map(read));
  };

  /** One head's part of an array (head, …), or of one that all heads share. */
  const part = (place, index) => {
    const array = done.get(place);
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
    const [, rows, cols] = done.get(source[pool]).shape;
    const data = given instanceof Uint8Array ? Float32Array.from(given, (u) => DECODED[u]) : given;
    return { width: source.width, n: rows, rows, cols, data };
  };

  /** @type {Map<string, Head>} */
  const heads = new Map();
  const head = (layerIndex, index) => {
    const id = `${layerIndex},${index}`;
    const before = heads.get(id);
    if (before?.lse) return before;
    const layer = layers[layerIndex];
    const query = features(layer.query, index);
    const place = layer.sees?.[index];
    const runs = place === undefined ? null : masks[place];
    const [kind, values] = Object.entries(layer.bias ?? {})[0] ?? [];
    const shape = done.get(values)?.shape ?? [];
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
      mask:
        query && runs && Object.fromEntries(Object.entries(runs).map(([n, at]) => [n, done.get(at).data])),
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
    heads.set(id, made);
    return made;
  };

  // What the grid of all heads shows.
  await Promise.all(
    layers.flatMap(({ small, strips }) => [small?.mean, small?.max, ...Object.values(strips)]).map(read),
  );
  return {
    tokens,
    layers,
    skipped: record.skipped,
    queryTokens: (l) => once(`q${l}`, () => names(layers[l].queries, layers[l].firstQuery, null, false)),
    keyTokens: (l) =>
      once(`k${l}`, () => names(layers[l].keys, 0, layers[l].keyTokens, layers[l].kind === "cross")),
    ready,
    head,
    other: record.other && (await recordingReader(record.other)),
  };
}
