// Text of users, made harmless to look at: what cannot be seen is shown, what is long is cut.

/** Characters that show nothing or turn the text around them. */
const HIDDEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|[\u{e0000}-\u{e0fff}]|(?<!\p{Extended_Pictographic}[\ufe0f\u{1f3fb}-\u{1f3ff}]?)\u200d/u;

/**
 * @typedef {{ text: string, box: boolean }} Piece
 * @param {string} text
 * @returns {Piece[]} pieces to show as they are, and boxes that name a hidden character
 */
export function visiblePieces(text) {
  if (text === "") return [{ text: "∅", box: true }];
  /** @type {Piece[]} */
  const pieces = [];
  for (const char of splitCharacters(text)) {
    const shown = char.box ? nameOf(char.text) : char.text;
    const last = pieces[pieces.length - 1];
    if (last && !last.box && !char.box) last.text += shown;
    else pieces.push({ text: shown, box: char.box });
  }
  // A space at an end would not be seen.
  const first = pieces[0];
  if (!first.box && first.text.startsWith(" "))
    first.text = first.text.replace(/^ +/, (s) => "␣".repeat(s.length));
  const end = pieces[pieces.length - 1];
  if (!end.box && end.text.endsWith(" ")) end.text = end.text.replace(/ +$/, (s) => "␣".repeat(s.length));
  return pieces;
}

/** @param {string} text @returns {Piece[]} */
function splitCharacters(text) {
  const result = [];
  let rest = text;
  while (rest) {
    const found = HIDDEN.exec(rest);
    if (!found) {
      result.push({ text: rest, box: false });
      break;
    }
    if (found.index) result.push({ text: rest.slice(0, found.index), box: false });
    result.push({ text: found[0], box: true });
    rest = rest.slice(found.index + found[0].length);
  }
  return result;
}

/** @param {string} char */
function nameOf(char) {
  const code = /** @type {number} */ (char.codePointAt(0));
  if (code === 10) return "⏎";
  if (code === 9) return "⇥";
  if (code < 32) return String.fromCodePoint(0x2400 + code);
  if (code === 127) return "␡";
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** Cut after so many characters as people count them. @param {string} text @param {number} length */
export function shorten(text, length) {
  if (text.length <= length) return text;
  const start = text.slice(0, length * 16); // enough for any letters, and not the whole of a long text
  const letters = Array.from(new Intl.Segmenter().segment(start), (part) => part.segment.slice(0, 16));
  if (letters.length <= length && start.length === text.length) return letters.join("");
  return `${letters.slice(0, length).join("")}…`;
}

/**
 * Tokens as names: those that occur more than once carry their position, counted from 0.
 * @typedef {{ text: string, mark: string }} Name
 * @param {string[]} tokens @returns {Name[]}
 */
export function namesOf(tokens) {
  const counts = new Map();
  for (const text of tokens) counts.set(text, (counts.get(text) ?? 0) + 1);
  const small = (index) => String(index).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[Number(digit)]);
  return tokens.map((text, index) => ({ text, mark: counts.get(text) > 1 ? small(index) : "" }));
}

/** As one line of plain text, for canvas, titles and labels. @param {string} text @param {number} length */
export function plainLabel(text, length) {
  return visiblePieces(shorten(text, length))
    .map((piece) => (piece.box && piece.text.startsWith("U+") ? `[${piece.text}]` : piece.text))
    .join("");
}
