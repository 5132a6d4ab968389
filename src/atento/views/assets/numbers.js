// Numbers as text: the digits that all of the page agrees on, in the reader's language.

const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/**
 * @typedef {{ full: (value: number) => string, cell: (value: number, digits: number) => string,
 *   count: (value: number) => string }} NumberFormat
 *
 * @param {string} lang
 * @returns {NumberFormat} `full` for arithmetic: four decimals, very large and very small numbers in
 *   powers of ten; `cell` for matrices, where a column of numbers must stay narrow
 */
export function numberFormat(lang) {
  const fixed = [0, 1, 2, 3, 4].map(
    (digits) =>
      new Intl.NumberFormat(lang, {
        minimumFractionDigits: digits,
        maximumFractionDigits: digits,
        useGrouping: false,
      }),
  );
  /** @param {number} value @param {number} digits */
  const powerOfTen = (value, digits) => {
    const [mantissa, exponent] = value.toExponential(digits).split("e");
    const power = exponent
      .replace("+", "")
      .replace("-", "⁻")
      .replace(/\d/g, (digit) => SUPERSCRIPT[Number(digit)]);
    return `${fixed[digits].format(Number(mantissa))}×10${power}`;
  };
  /** @param {number} value @param {number} digits @param {number} smallest */
  const write = (value, digits, smallest) => {
    if (Number.isNaN(value)) return "NaN";
    if (!Number.isFinite(value)) return value < 0 ? "−∞" : "∞";
    if (value === 0) return "0";
    const size = Math.abs(value);
    const text =
      size < smallest || size >= 1e6
        ? powerOfTen(value, Math.min(digits, size < smallest ? 4 : digits))
        : fixed[digits].format(size < 0.5 * 10 ** -digits ? 0 : value);
    return text.replace("-", "−");
  };
  return {
    full: (value) => write(value, 4, 5e-4),
    cell: (value, digits) => write(value, digits, 0),
    count: (value) => fixed[0].format(value),
  };
}
