// What the modules of the pages hand to each other. Pages do not carry this file: editors and `tsc --checkJs` read it.

type Theme = "light" | "dark";
type Cell = { row: number; col: number };
/** From the first to the one after the last. */
type Range = [number, number];
type Pair = { row: number; col: number; weight: number };

/** A token: `mark` is its position, where another has the same text. */
type Name = { text: string; mark: string };
type NumberFormat = {
  full: (value: number) => string;
  cell: (value: number, digits: number) => string;
  count: (value: number) => string;
};
type Words = {
  lang: string;
  say: (key: string, parts?: Record<string, any>) => (Node | string)[];
  text: (key: string, parts?: Record<string, any>) => string;
  number: NumberFormat;
};
/** How strong the colour of each value is; null: no colour. `grades`: the same in 256 grades a side, for millions of cells. */
type Colours = {
  reach: number;
  signed: boolean;
  rgb: (value: number, theme: Theme) => number[] | null;
  grades: (theme: Theme) => (value: number) => number[] | null | undefined;
};

/** An array as Python packed it, and as it is read. */
type Packed = { dtype: "bits" | "u1" | "i2" | "i4" | "f2" | "f4" | "f8"; shape: number[]; data: string };
type Tensor = { shape: number[]; data: Float64Array | Uint8Array };

// The page of an explanation.

/** Row-major. */
type Matrix = { rows: number; cols: number; data: Float64Array };
/** What one head computes with. `bias` and `mask` are (query, key); mask: 1 = attends. */
type HeadInput = {
  queries: Matrix;
  keys: Matrix;
  values: Matrix;
  scale: number;
  softcap?: number | null;
  bias?: Matrix | null;
  mask?: ArrayLike<number> | null;
  sink: number | null;
};
type Step = { name: string; matrix: Matrix; previous: string | null };
/** One head of one layer: `group` query heads share its keys. */
type Run = {
  steps: Map<string, Step>;
  head: HeadInput;
  input: Matrix | null;
  projections: Record<string, { weight: Matrix; bias: ArrayLike<number> }> | null;
  group: number;
};
/** A cell of a step; "input" and "weight-…" are matrices, too. */
type Selection = { step: string; row: number; col: number };
/** What the arithmetic must know of the page. */
type Scene = { words: Words; run: Run; tokens: Name[]; keyTokens: Name[] };
/** What sections need of the page beside the scene. */
type Stage = {
  scene: Scene;
  drawings: Map<string, Drawing>;
  point: (selection: Selection | null) => void;
  choose: (selection: Selection) => void;
  close: () => void;
  theme: () => Theme;
  width: () => number;
};
/** A row or column: a token, or the number of a feature. */
type Label = Name & { token?: boolean };
/** What is drawn as table or canvas. `unseen` is asked by place; `point`: null is at no cell any more. */
type MatrixView = {
  title: string;
  matrix: Matrix;
  rows: Label[];
  cols: Label[];
  rowAxis: string;
  colAxis: string;
  colours: Colours;
  words: Words;
  unseen: (place: number) => boolean;
  width: () => number;
  point: (cell: Cell | null) => void;
  choose: (row: number, col: number) => void;
  close: () => void;
};
/** A cell, a whole row (col null) or a column (row null) that is marked. */
type Mark = { row: number | null; col: number | null; kind: "here" | "along" | "source" };
type Drawing = {
  node: HTMLElement;
  mark: (marks: Mark[]) => void;
  focus: (row: number, col: number) => void;
  redraw: () => void;
  box: (row: number, col: number) => DOMRect;
};
/** A cell, row (col null) or column (row null) that a number came from. */
type Source = { step: string; row: number | null; col: number | null };
type Term = { a: number; b: number; index: number; product: number };
type Share = { index: number; logit: number; exp: number };
type Arithmetic =
  | { kind: "given"; result: number }
  | { kind: "dot"; terms: Term[]; plus: number | null; result: number }
  | { kind: "scale"; value: number; scale: number; result: number }
  | { kind: "cap"; value: number; softcap: number; result: number }
  | { kind: "bias"; value: number; bias: number; result: number }
  | { kind: "mask"; value: number; visible: boolean; result: number }
  | {
      kind: "softmax";
      shares: Share[];
      max: number;
      numerator: number;
      denominator: number;
      sink: { logit: number; exp: number } | null;
      none: boolean;
      column: number;
      result: number;
    };
/** The terms to show, and what the others add up to. */
type Cut = { shown: any[]; hidden: number; rest: number };

// The page of a recording. Heads, recordings and tiles are described where they are made.

type Head = import("./recording.js").Head;
type Recording = import("./recording.js").Recording;
type Tiles = import("./tiles.js").Tiles;
type Pool = "mean" | "max";
/**
 * One head, as it can be sent to a worker. `mask`: the keys that query i sees are the runs
 * offsets[i] … offsets[i + 1] of starts and stops. `bias`: (Tq or 1) × (Tk or 1) numbers, or one
 * for each distance, where `distance` says so.
 */
type HeadWeights = {
  Tq: number;
  Tk: number;
  d: number;
  query: Float32Array;
  key: Float32Array;
  scale: number;
  softcap: number | null;
  lse: Float32Array;
  mask: { offsets: Int32Array; starts: Int32Array; stops: Int32Array } | null;
  bias: { distance: boolean; rows: number; cols: number; values: Float32Array } | null;
};
/** What a view is given, and what it gives back. */
type ViewStage = {
  recording: Recording;
  words: Words;
  state: any;
  tiles: Tiles;
  theme: () => Theme;
  width: () => number;
  change: (partial: Record<string, any>) => void;
};
type View = { node: HTMLElement; redraw: () => void; destroy: () => void };
/** A token of one side. */
type Place = { side: "query" | "key"; at: number };
