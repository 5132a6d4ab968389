// The page of a recording: what Python wrote into it, and the address that says what is looked at.

import { byId, element } from "./dom.js";
import { hosted, hostLink } from "./host.js";
import { brandRow, fail, openPage } from "./page-frame.js";
import { hashText, recordingApp } from "./recording-app.js";
import { recordingReader } from "./recording.js";
import { tileClient } from "./tiles.js";

openPage(async ({ lang, words: dictionaries, record, worker }) => {
  let tell = () => {};
  const app = await recordingApp(byId("app"), {
    recording: await recordingReader(record),
    dictionaries,
    tiles: tileClient(worker),
    lang,
    place: location.hash.slice(1),
    footer: "recording.footer",
    above: (words, change) => [
      brandRow(words, Object.keys(dictionaries), (code) => change({ lang: code })),
      element("h1", words.say("recording.title")),
    ],
    wrote: (text) => (hosted ? tell() : history.replaceState(null, "", `#${text}`)),
  });
  const { state, defaults, look, seen } = app;
  addEventListener("hashchange", () => look(location.hash.slice(1), { ...defaults, lang: state.lang }).catch(fail));
  tell = hostLink(seen, (wanted) => {
    const blank = Object.entries(wanted).filter(([name, value]) => value === null && defaults[name] === null);
    return look(hashText({ ...state, ...wanted }, {}), Object.fromEntries(blank)).catch(fail);
  });
});
