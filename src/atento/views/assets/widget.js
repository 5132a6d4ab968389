// The widget in a notebook: a page in a frame of its own, and what is looked at in both directions.
// Tiles of long recordings will be asked here: a message of the page with `ask` handed to
// model.send, the kernel's answer from "msg:custom" handed back.

const LOWEST = 240;
const HIGHEST = 840;
const KINDS = ["string", "number", "boolean"];

/** A state is a plain object of plain values. @param {any} state */
const wellFormed = (state) =>
  typeof state === "object" &&
  state !== null &&
  !Array.isArray(state) &&
  Object.values(state).every((value) => value === null || KINDS.includes(typeof value));

/** @param {{model: any, el: HTMLElement}} given */
function render({ model, el }) {
  const frame = document.createElement("iframe");
  frame.title = model.get("title");
  frame.setAttribute("sandbox", "allow-scripts"); // no origin: it reaches nothing of the notebook
  Object.assign(frame.style, { display: "block", width: "100%", height: "640px", border: "0", resize: "vertical", overflow: "auto" });
  let known = ""; // what the page itself said last: it is not told that again
  const tell = () => {
    const state = model.get("state");
    if (JSON.stringify(state) === known || !Object.keys(state).length) return;
    frame.contentWindow?.postMessage({ atento: 1, state }, "*");
  };
  /** @param {MessageEvent} event */
  const hear = ({ source, data }) => {
    if (!frame.contentWindow || source !== frame.contentWindow || data?.atento !== 1) return;
    if (Number.isFinite(data.height)) frame.style.height = `${Math.min(HIGHEST, Math.max(LOWEST, data.height))}px`;
    if (!wellFormed(data.state)) return;
    if (data.ready && Object.keys(model.get("state")).length) {
      known = "";
      tell(); // a page that has just been drawn, or drawn again, shows what the others show
      return;
    }
    known = JSON.stringify(data.state);
    model.set("state", data.state);
    model.save_changes();
  };
  window.addEventListener("message", hear);
  model.on("change:state", tell);
  frame.srcdoc = model.get("page");
  el.append(frame);
  return () => {
    window.removeEventListener("message", hear);
    model.off("change:state", tell);
    frame.remove();
  };
}

export default { render };
