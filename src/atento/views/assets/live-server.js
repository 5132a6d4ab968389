// What the page asks the server that it came from.

/** @type {Record<string, Uint8ArrayConstructor|Int32ArrayConstructor|Float32ArrayConstructor>} */
const TYPES = { u1: Uint8Array, i4: Int32Array, f4: Float32Array };

/** What the head of an answer says. @param {Response} response @param {string} name */
const told = ({ headers }, name) => headers.get(name) ?? "";

/** The server, which tells mistakes in the language of the page. @param {() => string} lang */
export function liveServer(lang) {
  /** @param {string} path @param {any} [body] @param {AbortSignal} [signal] */
  const answer = async (path, body, signal) => {
    const headers = { "accept-language": lang(), "content-type": "application/json" };
    const request = body ? { method: "POST", body: JSON.stringify(body) } : {};
    const response = await fetch(`/api/${path}`, { ...request, headers, signal });
    if (response.ok) return response;
    const text = await response.text();
    const why = told(response, "content-type").includes("json") ? JSON.parse(text).error : text;
    throw Object.assign(new Error(why), { status: response.status });
  };
  /** @param {string} path @param {any} [body] @param {AbortSignal} [signal] */
  const ask = async (path, body, signal) => (await answer(path, body, signal)).json();

  /** Each line of an answer as it comes. @param {string} path @param {any} body @param {AbortSignal} signal @param {(event: any) => void} heard */
  const lines = async (path, body, signal, heard) => {
    const { body: stream } = await answer(path, body, signal);
    if (!stream) return;
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const whole = (text + part.value).split("\n");
      text = whole.pop() ?? "";
      for (const line of whole) heard(JSON.parse(line));
    }
  };

  /** Arrays and tiles of one reading. @param {string} id @returns {Server} */
  const reading = (id) => ({
    array: async (place) => {
      const response = await answer(`readings/${id}/arrays/${place}`);
      const shape = told(response, "x-shape").split(",").map(Number);
      return { shape, data: new TYPES[told(response, "x-type")](await response.arrayBuffer()) };
    },
    tile: async (layer, head, row, col, zoom, size, signal) => {
      const asked = new URLSearchParams(Object.entries({ row, col, zoom, size, pool: "both" }).map(([name, value]) => [name, `${value}`]));
      const response = await answer(`readings/${id}/layers/${layer}/heads/${head}/tile?${asked}`, null, signal);
      const [rows, cols] = ["x-rows", "x-cols"].map((name) => Number(told(response, name)));
      const data = new Float32Array(await response.arrayBuffer());
      return { rows, cols, mean: data.subarray(0, rows * cols), max: data.subarray(rows * cols) };
    },
  });
  return { ask, lines, reading };
}
