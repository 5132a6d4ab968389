// Numbers as text: the digits that all of the page agrees on, in the reader's language.

/**
 * `full` for arithmetic: four decimals, very large and very small numbers in powers of ten; `cell` for matrices, where
 * a column of numbers must stay narrow.
 * @param {string} lang @returns {NumberFormat}
 */
export function numberFormat(lang) {
  const fixed = [0, 1, 2, 3, 4].map(
    (digits) => new Intl.NumberFormat(lang, { minimumFractionDigits: digits, maximumFractionDigits: digits, useGrouping: false }),
  );
  /** @param {number} value @param {number} digits @param {number} smallest */
  const write = (value, digits, smallest) => {
    if (Number.isNaN(value)) return "NaN";
    if (!Number.isFinite(value)) return value < 0 ? "−∞" : "∞";
    if (value === 0) return "0";
    const size = Math.abs(value);
    const { format } = fixed[digits];
    if (size >= smallest && size < 1e6) return format(size < 0.5 * 10 ** -digits ? 0 : value).replace("-", "−");
    const [mantissa, exponent] = value.toExponential(digits).split("e");
    const power = exponent.replace(/\D|\d/g, (sign) => (sign === "+" ? "" : sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(sign)]));
    return `${format(Number(mantissa))}×10${power}`.replace("-", "−");
  };
  return {
    full: (value) => write(value, 4, 5e-4),
    cell: (value, digits) => write(value, digits, 0),
    count: fixed[0].format,
  };
}
