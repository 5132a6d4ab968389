// Text of users, made harmless to look at: what cannot be seen is shown, what is long is cut.

/** Characters that show nothing or turn the text around them. */
const HIDDEN =
  /([\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|[\u{e0000}-\u{e0fff}]|(?<!\p{Extended_Pictographic}[\ufe0f\u{1f3fb}-\u{1f3ff}]?)\u200d)/u;

/** @param {string} text @returns {{ text: string, box: boolean }[]} pieces as they are, and boxes that name a hidden character */
export function visiblePieces(text) {
  if (text === "") return [{ text: "∅", box: true }];
  const pieces = text
    // Text, hidden, text, hidden, … text.
    .split(HIDDEN)
    .map((piece, at) => (at % 2 ? { text: nameOf(piece), box: true } : { text: piece, box: false }))
    .filter((piece) => piece.text);
  // A space at an end would not be seen.
  /** @param {string} spaces */
  const shown = (spaces) => "␣".repeat(spaces.length);
  const [first, last] = [pieces[0], pieces[pieces.length - 1]];
  if (!first.box) first.text = first.text.replace(/^ +/, shown);
  if (!last.box) last.text = last.text.replace(/ +$/, shown);
  return pieces;
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
  // Enough for any letters, and not the whole of a long text.
  const start = text.slice(0, length * 16);
  const letters = Array.from(new Intl.Segmenter().segment(start), (part) => part.segment.slice(0, 16));
  if (letters.length <= length && start.length === text.length) return letters.join("");
  return `${letters.slice(0, length).join("")}…`;
}

/** Tokens as names: those that occur more than once carry their position, counted from 0. @param {string[]} tokens @returns {Name[]} */
export function namesOf(tokens) {
  const counts = new Map();
  for (const text of tokens) counts.set(text, (counts.get(text) ?? 0) + 1);
  /** @param {number} index */
  const small = (index) => String(index).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[Number(digit)]);
  return tokens.map((text, index) => ({ text, mark: counts.get(text) > 1 ? small(index) : "" }));
}

/** Names as labels of so many letters, each made when it is first asked for. @param {Name[]} names @param {number} length */
export function labelsOf(names, length) {
  /** @type {string[]} */
  const made = [];
  return (/** @type {number} */ at) => (made[at] ??= plainLabel(names[at].text, length) + names[at].mark);
}

/** As one line of plain text, for canvas, titles and labels. @param {string} text @param {number} length */
export function plainLabel(text, length) {
  /** @param {{ text: string, box: boolean }} piece */
  const plain = ({ text: piece, box }) => (box && piece.startsWith("U+") ? `[${piece}]` : piece);
  return visiblePieces(shorten(text, length)).map(plain).join("");
}
