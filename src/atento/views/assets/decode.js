// Arrays as Python packed them: base64 of deflated byte planes.

/** @typedef {{ shape: number[], data: Float64Array|Uint8Array }} Tensor */

/** @param {number} bits a float16 @returns {number} */
export function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** @param {string} base64 @returns {Promise<Uint8Array>} */
async function inflate(base64) {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** @param {{dtype: string, shape: number[], data: string}} entry @returns {Promise<Tensor>} */
export async function decodeArray({ dtype, shape, data }) {
  const planes = await inflate(data);
  const count = shape.reduce((a, b) => a * b, 1);
  if (dtype === "bits") {
    return { shape, data: Uint8Array.from({ length: count }, (_, p) => (planes[p >> 3] >> (p & 7)) & 1) };
  }
  const width = Number(dtype[1]);
  const view = new DataView(new ArrayBuffer(count * width));
  // All first bytes, then all second bytes, …: alike bytes together deflate better.
  planes.forEach((byte, place) => view.setUint8((place % count) * width + Math.floor(place / count), byte));
  const read = {
    f2: (p) => halfToNumber(view.getUint16(2 * p, true)),
    f4: (p) => view.getFloat32(4 * p, true),
    f8: (p) => view.getFloat64(8 * p, true),
  }[dtype];
  return { shape, data: Float64Array.from({ length: count }, (_, p) => read(p)) };
}
