// What the modules of the pages hand to each other. Pages do not carry this file: editors and `tsc --checkJs` read it.

type Theme = "light" | "dark";
type Cell = { row: number; col: number };
/** From the first to the one after the last. */
type Ends = [number, number];
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

/** A map that is asked for what it has. */
interface Known<V> extends Map<string, V> {
  get(name: string): V;
}
type Context = CanvasRenderingContext2D;
type Look = ReturnType<typeof import("./view-parts.js").looks>;

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
  steps: Known<Step>;
  head: HeadInput;
  input: Matrix | null;
  projections: Record<string, { weight: Matrix; bias: ArrayLike<number> }> | null;
  group: number;
};
/** A cell of a step; "input" and "weight-…" are matrices, too. */
type Picked = { step: string; row: number; col: number };
/** What the arithmetic must know of the page. */
type Scene = { words: Words; run: Run; tokens: Name[]; keyTokens: Name[] };
/** What sections need of the page beside the scene. */
type Stage = {
  scene: Scene;
  drawings: Known<Drawing>;
  point: (selection: Picked | null) => void;
  choose: (selection: Picked) => void;
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

/** One factor of each term. */
type Factor = (index: number) => number;

// The page of a recording.

/** Pooled pictures of a head: cells of width × width weights. */
type Picture = { width: number; rows: number; cols: number; data: Float32Array };
/**
 * What `weights.js` takes, and more. `query` and `key` are null where only statistics were kept, and until
 * `ready(layer)` is through.
 */
type Head = HeadWeights & {
  layer: number;
  index: number;
  number: number;
  strips: Record<string, Float32Array>;
  small: (pool: Pool) => Picture | null;
  overview: (pool: Pool) => Picture | null;
  waits?: boolean;
  fetchTiles?: FetchTiles;
};
/**
 * `ready(layer, head)` reads the arrays of a layer, or of one head where each has its own; `head(layer, index)`
 * has numbers, role and small pictures at once, and the rest after that. Long layers have an overview as well.
 * `heard` is called when a head that was asked for too soon is ready.
 */
type Recording = {
  tokens: Name[];
  layers: Layer[];
  skipped: [string, string][];
  queryTokens: (layer: number) => Name[];
  keyTokens: (layer: number) => Name[];
  ready: (layer: number, head: number) => Promise<void>;
  heard: () => void;
  head: (layer: number, index: number) => Head;
  other: Recording | null;
};
/** A layer as Python describes it; arrays stand for themselves or by their places. */
type Layer = {
  name: string;
  kind: string;
  heads: number;
  headNumbers: number[];
  keyOf: number[];
  features: number;
  queries: number;
  keys: number;
  scale: number;
  softcap: number | null;
  firstQuery: number;
  patches: any;
  query: any;
  key: any;
  lse: any;
  sees: number[] | null;
  bias: Record<string, any> | null;
  strips: Record<string, any>;
  small: any;
  overview: any;
  summary: any[];
  served?: boolean;
};
/** Where the arrays of a recording are, if not within the page. */
type Server = {
  array: (place: number) => Promise<any>;
  tiles: (layer: any, number: number, ...asked: Parameters<FetchTiles>) => Promise<Tile[]>;
};
/** Cells of 2^level × 2^level weights from cell (row · TILE, col · TILE) on. */
type Tile = { rows: number; cols: number; mean: Float32Array; max: Float32Array };
type Spot = { head: Head; level: number; row: number; col: number };
/** What is seen of a head, by the first and last tile of both axes. */
type Region = { head: Head; level: number; rows: Ends; cols: Ends };
/**
 * `get` returns a tile that is there. `want` says what one owner needs, the most urgent first: what it
 * wanted before is forgotten, unless a worker has begun; around the region it is fetched ahead. `listen` tells of each tile that has come.
 */
type Tiles = {
  get: (spot: Spot) => Tile | null;
  want: (owner: any, spots: Spot[], region?: Region) => void;
  listen: (heard: () => void) => () => void;
};
/** Who makes tiles; `busy`: with which. */
type Hand = { worker: Worker | null; sent: Set<string>; busy: string };
/** `place`: what an address says; `wrote` is told what it would say now, `above` is what stands above the choices. */
type AppGiven = {
  recording: Recording;
  dictionaries: any;
  tiles: Tiles;
  lang: string;
  place: string;
  footer: string;
  above: (words: Words, change: any) => Node[];
  wrote: (text: string) => void;
  drawn?: (words: Words) => void;
};
/** A reading as the server describes it. */
type Told = { next: { token: string; probability: number; before: number }[]; model: string; changes: boolean };
/** Layer and head. */
type HeadOf = [number, number];
type Pool = "mean" | "max";
type FetchTiles = (corners: number[][], zoom: number, size: number, signal: AbortSignal) => Promise<Tile[]>;
type Side = "query" | "key";
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
/** One axis of a map: what is seen of it, and which place is which pixel. */
type Axis = {
  start: number;
  size: number;
  length: number;
  middle: number;
  from: number;
  to: number;
  place: (at: number) => number;
  at: (place: number) => number;
};
/** What is seen of a map: 2^zoom = `per` weights are one pixel. */
type Seen = { zoom: number; per: number; whole: number; down: Axis; across: Axis };
type AxisOf = (wanted: number | null, start: number, size: number, length: number, per: number) => Axis;
type Coloured = (rows: number, cols: number, values: Float32Array[], most: number) => OffscreenCanvas;
type FromOverview = (head: Head, level: number, row: number, col: number) => Tile;
type WriteLabel = (
  context: Context,
  text: string,
  x: number,
  y: number,
  align: CanvasTextAlign,
  room: number,
  upright?: boolean,
) => void;
type Clip = (context: Context, x: number, y: number, width: number, height: number, draw: () => void) => void;
type DrawTokens = (context: Context, name: Side, focus: Place | null, look: Look, colours: string[]) => void;
type DrawLinks = (
  context: Context,
  links: number[][],
  ink: string,
  focus: Place | null,
  unit: number,
  aside: number,
) => void;
type PackRows = (source: Float32Array, d: number, from: number, count: number) => Float64Array;
type Multiply = (
  a: Float64Array,
  b: Float64Array,
  d: number,
  rows: number,
  cols: number,
  out: Float64Array,
) => void;
type Weigh = (head: HeadWeights, i: number, from: number, to: number, values: Float64Array, at: number) => void;
type FirstRun = (mask: NonNullable<HeadWeights["mask"]>, i: number, j: number) => number;
/** What a view is given, and what it gives back: `layer`, `head` and `tokens` are those of the state. */
type ViewStage = {
  recording: Recording;
  layer: Layer;
  head: Head;
  tokens: Record<Side, Name[]>;
  words: Words;
  state: { pool: Pool; [name: string]: any };
  tiles: Tiles;
  theme: () => Theme;
  width: () => number;
  change: (partial: Record<string, any>) => void;
};
type View = { node: HTMLElement; redraw: () => void; destroy: () => void };
/** A map among others: of one head, or of two whose difference it shows; `tokens` where they are not those of the page. */
type MapGiven = { name: string; heads: Head[]; tokens?: Record<Side, Name[]> };
/** A token of one side. */
type Place = { side: Side; at: number };
type Point = { clientX: number; clientY: number };

// The page of a training that was watched.

/** A head of a training that was watched: the number and the name of its layer, and its own number there. */
type HeadName = { layer: number; name: string; head: number };
/** What Python wrote, its arrays read: `courses` are each head's numbers at all steps; heads are counted through the layers. */
type Watched = {
  steps: number[];
  layers: string[];
  heads: number[];
  names: HeadName[];
  courses: Record<string, number[][]>;
  loss: number[];
  log: number[][];
  maps: { shape: number[]; data: Uint8Array; frames: number[] }[];
  statistics: string[];
  thresholds: Record<string, number>;
  formed: Formed[];
  roles: string[][];
  prompts: string[][];
  total: number;
};
/** What a head became, by which number, and when. */
type Formed = {
  layer: string;
  head: number;
  role: string;
  number: string | null;
  value: number | null;
  step: number | null;
};
/** A step by its place, and the head that is pointed at. */
type StepAndHead = { at: number; head: number | null };
type WatchedStage = {
  words: Words;
  watched: Watched;
  state: any;
  theme: () => Theme;
  change: (wanted: Record<string, any>, name?: string) => void;
  point: (place: StepAndHead | null, name: string) => void;
};
type DrawCurve = (context: Context, points: number[][], ink: string, width: number, alpha: number) => void;
