// The record that Python wrote into the page, read into matrices of one layer and head.

import { attend, emptyMatrix, project } from "./attention.js";
import { decodeArray } from "./decode.js";

/**
 * @typedef {import("./decode.js").Tensor} Tensor
 * @typedef {{ steps: Map<string, import("./attention.js").Step>, head: import("./attention.js").HeadInput,
 *   input: import("./attention.js").Matrix|null,
 *   projections: Record<string, {weight: import("./attention.js").Matrix, bias: number[]}>|null,
 *   group: number }} Run
 */

/** One head of (head, row, column). @param {Tensor} tensor @param {number} head */
function slice(tensor, head) {
  const [rows, cols] = tensor.shape.slice(-2);
  const start = head * rows * cols;
  return { rows, cols, data: Float64Array.from(tensor.data.slice(start, start + rows * cols)) };
}

/** One head of what broadcasts to (head, query, key). @param {Tensor} tensor @param {number} head @param {number} rows @param {number} cols */
export function broadcast(tensor, head, rows, cols) {
  const shape = [1, 1, 1, ...tensor.shape].slice(-3);
  const start = shape[0] === 1 ? 0 : head * shape[1] * shape[2];
  const result = emptyMatrix(rows, cols);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) {
      const place = (shape[1] === 1 ? 0 : i) * shape[2] + (shape[2] === 1 ? 0 : j);
      result.data[i * cols + j] = tensor.data[start + place];
    }
  }
  return result;
}

/** One head of (input feature, head, feature). @param {Tensor} weight @param {Tensor} bias @param {number} head */
function projectionOf(weight, bias, head) {
  const [rows, heads, cols] = weight.shape;
  const matrix = emptyMatrix(rows, cols);
  for (let i = 0; i < rows; i++) {
    for (let f = 0; f < cols; f++) matrix.data[i * cols + f] = weight.data[(i * heads + head) * cols + f];
  }
  return { weight: matrix, bias: Array.from({ length: cols }, (_, f) => bias.data[head * cols + f]) };
}

/** @param {any} record the page's data @returns {Promise<(layer: number, head: number) => Run>} */
export async function recordReader(record) {
  const arrays = await Promise.all(record.arrays.map(decodeArray));
  /** @param {number} index */
  const array = (index) => arrays[index];
  const names = { queries: "query", keys: "key", values: "value" };

  return (layerIndex, head) => {
    const layer = record.layers[layerIndex];
    const group = layer.heads / layer.keyHeads;
    const headOf = { queries: head, keys: Math.floor(head / group), values: Math.floor(head / group) };
    let input = null;
    let projections = null;
    const parts = {};
    if (layer.projections) {
      const source = array(layer.input);
      input = { rows: source.shape[0], cols: source.shape[1], data: Float64Array.from(source.data) };
      projections = {};
      for (const [step, name] of Object.entries(names)) {
        const map = layer.projections[name];
        const { weight, bias } = projectionOf(array(map.weight), array(map.bias), headOf[step]);
        projections[step] = { weight, bias };
        parts[step] = project(input, weight, bias);
      }
    } else {
      for (const [step, name] of Object.entries(names))
        parts[step] = slice(array(layer[name]), headOf[step]);
    }
    const [rows, cols] = [parts.queries.rows, parts.keys.rows];
    /** @type {import("./attention.js").HeadInput} */
    const inputs = {
      queries: parts.queries,
      keys: parts.keys,
      values: parts.values,
      scale: layer.scale ?? 1 / Math.sqrt(parts.queries.cols),
      softcap: layer.softcap,
      bias: layer.bias == null ? null : broadcast(array(layer.bias), head, rows, cols),
      mask:
        layer.mask == null ? null : Uint8Array.from(broadcast(array(layer.mask), head, rows, cols).data),
      sink: layer.sinks == null ? null : array(layer.sinks).data[head],
    };
    return { steps: attend(inputs), head: inputs, input, projections, group };
  };
}
