// A training that was watched, as Python wrote it into the page.

import { decodeTyped } from "./decode.js";

/** With its arrays read, and the numbers of each head in a row. @param {any} record @returns {Promise<Watched>} */
export async function readWatched(record) {
  const { steps, layers, heads, statistics, frames } = record;
  /** @param {number} place */
  const read = (place) => decodeTyped(record.arrays[place]);
  const [numbers, loss, ...maps] = await Promise.all([record.numbers, record.loss, ...record.maps].map(read));
  const count = layers.length * heads.length;
  /** @type {HeadName[]} */
  const names = Array.from({ length: count }, (_, at) => {
    const layer = Math.floor(at / heads.length);
    return { layer, name: layers[layer], head: heads[at % heads.length] };
  });
  /** @param {number} statistic @param {number} head @returns {number[]} */
  const course = (statistic, head) => Array.from(steps, (_, at) => numbers.data[(at * statistics.length + statistic) * count + head]);
  /** @param {string} name @param {number} statistic */
  const courses = (name, statistic) => [name, names.map((_, head) => course(statistic, head))];
  return {
    ...record,
    names,
    courses: Object.fromEntries(statistics.map(courses)),
    loss: Array.from(loss.data),
    maps: maps.map((map) => ({ ...map, frames })),
  };
}
