// Arrays as Python packed them: base64 of deflated byte planes.

/** @param {number} bits a float16 @returns {number} */
export function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** @type {Float32Array|null} */
let everyHalf = null;
/** @type {Record<string, any>} */
const ARRAYS = { i2: Int16Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };

/** @param {string} base64 @returns {Promise<Uint8Array>} */
async function inflate(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let p = 0; p < bytes.length; p++) bytes[p] = text.charCodeAt(p);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** An array in its own type: bits and u1 as bytes, f2 as float32. @param {Packed} entry @returns {Promise<{shape: number[], data: any}>} */
export async function decodeTyped({ dtype, shape, data }) {
  const planes = await inflate(data);
  const count = shape.reduce((a, b) => a * b, 1);
  if (dtype === "u1") return { shape, data: planes };
  if (dtype === "bits") return { shape, data: Uint8Array.from({ length: count }, (_, p) => (planes[p >> 3] >> (p & 7)) & 1) };
  // All first bytes, then all second bytes, …: alike bytes together deflate better.
  const width = Number(dtype[1]);
  const bytes = new Uint8Array(count * width);
  for (let plane = 0, p = 0; plane < width; plane++) for (let to = plane; to < bytes.length; to += width) bytes[to] = planes[p++];
  if (dtype !== "f2") return { shape, data: new ARRAYS[dtype](bytes.buffer) };
  const table = (everyHalf ??= Float32Array.from({ length: 65536 }, (_, bits) => halfToNumber(bits)));
  return { shape, data: Float32Array.from(new Uint16Array(bytes.buffer), (bits) => table[bits]) };
}

/** The same with numbers in double precision. @param {Packed} entry @returns {Promise<Tensor>} */
export async function decodeArray(entry) {
  const { shape, data } = await decodeTyped(entry);
  return { shape, data: data instanceof Uint8Array ? data : Float64Array.from(data) };
}
