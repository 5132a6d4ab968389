// Colours of cells, for both themes. Blue and orange are told apart by all kinds of eyes.

// From nothing to much: light paper darkens, dark paper lights up.
const BLUE = {
  light: [[250, 251, 253], [203, 222, 242], [120, 172, 218], [45, 112, 178], [12, 55, 110]],
  dark: [[24, 27, 33], [24, 55, 92], [32, 96, 155], [88, 156, 213], [190, 222, 250]],
};
const ORANGE = {
  light: [[250, 251, 253], [250, 220, 190], [240, 166, 100], [205, 100, 28], [125, 52, 6]],
  dark: [[24, 27, 33], [84, 44, 16], [150, 76, 22], [222, 136, 66], [252, 212, 172]],
};
/** Of what is no number. */
export const NO_NUMBER = [163, 42, 163];

/** @param {number[][]} stops @param {number} place from 0 to 1 */
function along(stops, place) {
  const x = Math.min(1, Math.max(0, place)) * (stops.length - 1);
  const i = Math.min(stops.length - 2, Math.floor(x));
  return stops[i].map((channel, c) => Math.round(channel + (x - i) * (stops[i + 1][c] - channel)));
}

/** Black or white, whichever is read better (never below 4.5 : 1), by WCAG's relative luminance. @param {number[]} rgb */
function inkOn(rgb) {
  const [r, g, b] = rgb.map((channel) => (channel <= 10 ? channel / 3294.6 : ((channel / 255 + 0.055) / 1.055) ** 2.4));
  const light = 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  return light / 0.05 > 1.05 / light ? "#000" : "#fff";
}

/** How far values of a matrix reach, and so how strong each one's colour is. @param {ArrayLike<number>} data @returns {Colours} */
export function colourScale(data) {
  let reach = 0;
  let signed = false;
  for (let p = 0; p < data.length; p++) {
    if (Number.isFinite(data[p])) reach = Math.max(reach, Math.abs(data[p]));
    if (data[p] < 0 && data[p] !== -Infinity) signed = true;
  }
  const strength = reach ? 1 / reach : 0;
  /** @type {Colours["rgb"]} */
  const rgb = (value, theme) => {
    if (Number.isNaN(value) || value === -Infinity) return null;
    const share = value === Infinity ? 1 : value * strength;
    return along((share < 0 ? ORANGE : BLUE)[theme], Math.abs(share));
  };
  /** @type {Record<string, (number[]|null)[]>} */
  const tables = {};
  /** @type {Colours["grades"]} */
  const grades = (theme) => {
    const table = (tables[theme] ??= Array.from({ length: 511 }, (_, i) => rgb(((i - 255) / 255) * (reach || 1), theme)));
    return (value) => table[255 + Math.round(Math.max(-1, Math.min(1, value * strength)) * 255)];
  };
  return { reach, signed, rgb, grades };
}

/** Colours of a cell as custom properties, so that the stylesheet picks the theme. @param {HTMLElement} node @param {Colours} scale @param {number|null} value */
export function paint(node, scale, value) {
  for (const theme of /** @type {Theme[]} */ (["light", "dark"])) {
    const rgb = value === null ? null : scale.rgb(value, theme);
    // Null takes it away.
    node.style.setProperty(`--${theme}`, rgb && `rgb(${rgb.join(" ")})`);
    node.style.setProperty(`--${theme}-ink`, rgb && inkOn(rgb));
  }
}

/** Colours of weights and of their differences: from 1 down to 2⁻¹⁷ where these are logarithms. */
export const UNIT = colourScale([1]);
export const OCTAVES = 17;

/** How strong the colour of a weight is, from 0 to 1. @param {number} weight @param {boolean} log @param {number} [most] is full strength */
export const strengthOf = (weight, log, most = 1) =>
  Math.max(0, Math.min(1, log ? 1 + Math.log2(Math.abs(weight)) / OCTAVES : Math.abs(weight) / most));

/**
 * Cells of one pixel each, to be blown up: as quick for a million cells as for a thousand.
 * @param {number} rows @param {number} cols @param {(p: number) => number[]|null|undefined} colour null: left open
 */
export function cellsPicture(rows, cols, colour) {
  const image = new ImageData(cols, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let p = 0; p < pixels.length; p++) {
    const rgb = colour(p);
    if (rgb) pixels[p] = 0xff000000 | (rgb[2] << 16) | (rgb[1] << 8) | rgb[0];
  }
  const made = new OffscreenCanvas(cols, rows);
  made.getContext("2d")?.putImageData(image, 0, 0);
  return made;
}
