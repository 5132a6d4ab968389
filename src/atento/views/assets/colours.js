// Colours of cells, for both themes. Blue and orange are told apart by all kinds of eyes.

/**
 * From nothing to much. Light paper darkens; dark paper lights up.
 * @typedef {{ light: number[][], dark: number[][] }} Ramp
 */
const BLUE = {
  light: [
    [250, 251, 253],
    [203, 222, 242],
    [120, 172, 218],
    [45, 112, 178],
    [12, 55, 110],
  ],
  dark: [
    [24, 27, 33],
    [24, 55, 92],
    [32, 96, 155],
    [88, 156, 213],
    [190, 222, 250],
  ],
};
const ORANGE = {
  light: [
    [250, 251, 253],
    [250, 220, 190],
    [240, 166, 100],
    [205, 100, 28],
    [125, 52, 6],
  ],
  dark: [
    [24, 27, 33],
    [84, 44, 16],
    [150, 76, 22],
    [222, 136, 66],
    [252, 212, 172],
  ],
};

/** @param {number[][]} stops @param {number} place from 0 to 1 */
function along(stops, place) {
  const x = Math.min(1, Math.max(0, place)) * (stops.length - 1);
  const i = Math.min(stops.length - 2, Math.floor(x));
  return stops[i].map((channel, c) => Math.round(channel + (x - i) * (stops[i + 1][c] - channel)));
}

/** Relative luminance after WCAG. @param {number[]} rgb */
function luminance(rgb) {
  const [r, g, b] = rgb.map((channel) => {
    const c = channel / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Black or white, whichever is read better (never below 4.5 : 1). @param {number[]} rgb */
export function inkOn(rgb) {
  const light = luminance(rgb);
  return (light + 0.05) / 0.05 > 1.05 / (light + 0.05) ? "#000" : "#fff";
}

/**
 * How far values of a matrix reach, and so how strong each one's colour is.
 * @param {ArrayLike<number>} data
 */
export function colourScale(data) {
  let reach = 0;
  let signed = false;
  for (let p = 0; p < data.length; p++) {
    const size = Math.abs(data[p]);
    if (!Number.isFinite(size)) continue;
    if (size > reach) reach = size;
    if (data[p] < 0) signed = true;
  }
  const strength = reach ? 1 / reach : 0;
  /** @param {number} value @param {"light"|"dark"} theme @returns {number[]|null} null: no colour */
  const rgb = (value, theme) => {
    if (Number.isNaN(value) || value === -Infinity) return null;
    const share = value === Infinity ? 1 : value * strength;
    return along(share < 0 ? ORANGE[theme] : BLUE[theme], Math.abs(share));
  };
  /** The same for millions of cells, in 256 grades a side: a function that makes nothing anew. */
  const grades = (theme) => {
    const table = Array.from({ length: 511 }, (_, i) => rgb(((i - 255) / 255) * (reach || 1), theme));
    return (value) => table[255 + Math.round(Math.max(-1, Math.min(1, value * strength)) * 255)];
  };
  return { reach, signed, rgb, grades };
}

/**
 * Colours of a cell as custom properties, so that the stylesheet picks the theme.
 * @param {HTMLElement} node @param {ReturnType<typeof colourScale>} scale @param {number|null} value
 */
export function paint(node, scale, value) {
  for (const theme of /** @type {const} */ (["light", "dark"])) {
    const rgb = value === null ? null : scale.rgb(value, theme);
    node.style.setProperty(`--${theme}`, rgb && `rgb(${rgb.join(" ")})`); // null takes it away
    node.style.setProperty(`--${theme}-ink`, rgb && inkOn(rgb));
  }
}
