// In the worker: tiles of the heads that it was sent.

import { bothTiles } from "./weights.js";

const sentHeads = /** @type {Known<HeadWeights>} */ (new Map());

addEventListener("message", ({ data }) => {
  if (data.head) return void sentHeads.set(data.id, data.head);
  const { id, row0, col0, zoom, size } = data;
  const made = bothTiles(sentHeads.get(id), row0, col0, zoom, size);
  postMessage(made, { transfer: [made.mean.buffer, made.max.buffer] });
});
