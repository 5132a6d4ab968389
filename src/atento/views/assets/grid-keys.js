// Where a key leads in a matrix, the same in a table and on a canvas.

/**
 * @param {KeyboardEvent} event @param {{row: number, col: number}} from
 * @param {{rows: number, cols: number}} size
 * @returns {{row: number, col: number}|null} null: not a key of ours
 */
export function nextCell(event, from, size) {
  if (event.altKey || event.metaKey) return null;
  let { row, col } = from;
  const whole = event.ctrlKey;
  const page = Math.max(1, Math.min(10, Math.floor(size.rows / 2)));
  switch (event.key) {
    case "ArrowLeft":
      col = whole ? 0 : col - 1;
      break;
    case "ArrowRight":
      col = whole ? size.cols : col + 1;
      break;
    case "ArrowUp":
      row = whole ? 0 : row - 1;
      break;
    case "ArrowDown":
      row = whole ? size.rows : row + 1;
      break;
    case "PageUp":
      row -= page;
      break;
    case "PageDown":
      row += page;
      break;
    case "Home":
      col = 0;
      if (whole) row = 0;
      break;
    case "End":
      col = size.cols;
      if (whole) row = size.rows;
      break;
    default:
      return null;
  }
  return {
    row: Math.max(0, Math.min(size.rows - 1, row)),
    col: Math.max(0, Math.min(size.cols - 1, col)),
  };
}
