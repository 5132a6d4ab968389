// A page inside another, as in a notebook: it tells its height and what is looked at, and hears what to look at.

/** Whether another page shows this one: then the address is not its own to write. */
export const hosted = window.parent !== window;

/**
 * Messages are `{ atento: 1, height, state, ready }`, none of them text of the user; only the page around is heard.
 * @param {() => Record<string, any>} state what is looked at
 * @param {(wanted: Record<string, any>) => any} look
 * @returns {() => void} to be called when something else is looked at
 */
export function hostLink(state, look) {
  if (!hosted) return () => {};
  /** @param {Record<string, any>} parts */
  const send = (parts) => window.parent.postMessage({ atento: 1, ...parts }, "*");
  const height = () => Math.ceil(document.body.getBoundingClientRect().height);
  const greet = () => send({ ready: true, height: height(), state: state() });
  let known = JSON.stringify(state());
  const tell = () => {
    const text = JSON.stringify(state());
    if (text !== known) send({ state: state() });
    known = text;
  };
  addEventListener("message", async ({ source, data }) => {
    if (source !== window.parent || data?.atento !== 1) return;
    const wanted = data.state;
    // It came late.
    if (wanted === undefined) return greet();
    if (Object.values(Object(wanted)).some((value) => value instanceof Object)) return;
    // Is not told back.
    known = JSON.stringify(wanted);
    await look({ ...wanted });
    tell();
  });
  new ResizeObserver(() => send({ height: height() })).observe(document.body);
  document.documentElement.classList.add("hosted");
  greet();
  return tell;
}
