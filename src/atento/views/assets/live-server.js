// What the page asks the server that it came from.

/** @type {Record<string, Uint8ArrayConstructor|Int32ArrayConstructor|Float32ArrayConstructor>} */
const TYPES = { u1: Uint8Array, i4: Int32Array, f4: Float32Array };

/** What the head of an answer says. @param {Response} response @param {string} name */
const told = ({ headers }, name) => headers.get(name) ?? "";

/** What the browser says of a server that does not answer is in no language of the page. @param {any} error */
const lost = (error) => {
  throw error.name === "AbortError" ? error : Object.assign(error, { lost: true });
};

/** The server, which tells mistakes in the language of the page. @param {() => string} lang */
export function liveServer(lang) {
  /** @param {string} path @param {any} [body] @param {AbortSignal} [signal] */
  const answer = async (path, body, signal) => {
    const headers = { "accept-language": lang(), "content-type": "application/json" };
    const request = body ? { method: "POST", body: JSON.stringify(body) } : {};
    const response = await fetch(`/api/${path}`, { ...request, headers, signal }).catch(lost);
    if (response.ok) return response;
    const text = await response.text();
    const why = told(response, "content-type").includes("json") ? JSON.parse(text).error : text;
    throw new Error(why.trim());
  };
  /** @param {string} path @param {any} [body] @param {AbortSignal} [signal] */
  const ask = async (path, body, signal) => (await answer(path, body, signal)).json();

  /** Each line of an answer as it comes. @param {string} path @param {any} body @param {AbortSignal} signal @param {(event: any) => void} heard */
  const lines = async (path, body, signal, heard) => {
    const { body: stream } = await answer(path, body, signal);
    if (!stream) return;
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    const next = () => reader.read().catch(lost);
    for (let part = await next(); !part.done; part = await next()) {
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
    tiles: async (layer, head, corners, zoom, size, signal) => {
      const at = corners.map((corner) => corner.join(".")).join(",");
      const response = await answer(`readings/${id}/layers/${layer}/heads/${head}/tiles?zoom=${zoom}&size=${size}&at=${at}`, null, signal);
      const [rows, cols] = ["x-rows", "x-cols"].map((name) => told(response, name).split(",").map(Number));
      const data = new Float32Array(await response.arrayBuffer());
      let end = 0;
      // Each can be let go of alone.
      const parts = rows.map((high, n) => data.slice(end, (end += high * cols[n])));
      return corners.map((_, n) => ({ rows: rows[2 * n], cols: cols[2 * n], mean: parts[2 * n], max: parts[2 * n + 1] }));
    },
  });
  return { ask, lines, reading };
}
