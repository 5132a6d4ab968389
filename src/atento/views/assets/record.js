// The record that Python wrote into the page, read into matrices of one layer and head.

import { attend, matrixOf, project } from "./attention.js";
import { decodeArray } from "./decode.js";

const NAMES = { queries: "query", keys: "key", values: "value" };

/** One head of (head or 1, row or 1, column or 1). @param {Tensor} tensor @param {number} head @param {number} [rows] @param {number} [cols] */
function part({ shape: [heads, high, wide], data }, head, rows = high, cols = wide) {
  const start = heads === 1 ? 0 : head * high * wide;
  return matrixOf(rows, cols, (i, j) => data[start + (high === 1 ? 0 : i) * wide + (wide === 1 ? 0 : j)]);
}

/** @param {any} record the page's data @returns {Promise<(layer: number, head: number) => Run>} */
export async function recordReader(record) {
  const arrays = await Promise.all(record.arrays.map(decodeArray));

  return (layerIndex, head) => {
    const layer = record.layers[layerIndex];
    const group = layer.heads / layer.keyHeads;
    const input = layer.projections ? part(arrays[layer.input], 0) : null;
    /** @type {any} */
    const projections = input && {};
    /** @type {any} */
    const made = {};
    for (const [step, name] of Object.entries(NAMES)) {
      const own = step === "queries" ? head : Math.floor(head / group);
      if (input) {
        const [weight, bias] = ["weight", "bias"].map((kind) => part(arrays[layer.projections[name][kind]], own));
        projections[step] = { weight, bias: bias.data };
        made[step] = project(input, weight, bias.data);
      } else made[step] = part(arrays[layer[name]], own);
    }
    const { queries, keys, values } = made;
    /** @param {number|null} place */
    const pairs = (place) => (place == null ? null : part(arrays[place], head, queries.rows, keys.rows));
    const inputs = {
      queries,
      keys,
      values,
      scale: layer.scale ?? 1 / Math.sqrt(queries.cols),
      softcap: layer.softcap,
      bias: pairs(layer.bias),
      mask: pairs(layer.mask)?.data,
      sink: layer.sinks == null ? null : arrays[layer.sinks].data[head],
    };
    return { steps: attend(inputs), head: inputs, input, projections, group };
  };
}
