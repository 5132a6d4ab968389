// What pages have around them: what is said when something goes wrong, the theme, the choice of a language.

import { byId, element } from "./dom.js";
import { plainLabel } from "./labels.js";
import { group, pressable } from "./view-parts.js";

const darkScheme = matchMedia("(prefers-color-scheme: dark)");
const onPaper = matchMedia("print");
/** @type {Record<string, string>} */
const LANGUAGES = { en: "English", es: "Español" };

/** @returns {Theme} paper is light */
export const pageTheme = () => (darkScheme.matches && !onPaper.matches ? "dark" : "light");

/** @param {() => void} redraw when the theme or the window's size has changed @param {AbortSignal} [signal] until when */
export function whenLooksChange(redraw, signal) {
  let waiting = 0;
  const later = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => signal?.aborted || redraw(), 100);
  };
  addEventListener("resize", later, { signal });
  for (const query of [darkScheme, onPaper]) query.addEventListener("change", redraw, { signal });
}

/** Whatever goes wrong is said in words, not with an empty page. @param {any} error */
export function fail(error) {
  byId("failure").classList.add("now");
  byId("failure-detail").textContent = String(error?.message ?? error);
}

/** With the data that Python wrote into the page; their script is not needed any more. @param {(given: any) => Promise<void>} open */
export async function openPage(open) {
  addEventListener("error", (event) => fail(event.error ?? event.message));
  try {
    const source = byId("data");
    const given = JSON.parse(source.textContent);
    source.remove();
    await open(given);
  } catch (error) {
    fail(error);
  }
}

/** The name, and the languages to choose from. @param {Words} words @param {string[]} languages @param {(lang: string) => void} pick */
export function brandRow(words, languages, pick) {
  const choice = group(words.text("page.language"), "languages");
  for (const lang of languages) {
    const attributes = { lang, id: `lang-${lang}`, "aria-pressed": lang === words.lang ? "true" : "false" };
    choice.append(pressable(LANGUAGES[lang], () => pick(lang), attributes));
  }
  return element("div.top", element("p.brand", { translate: "no" }, "atento"), choice);
}

/** The first tokens, as a title. @param {Name[]} tokens */
export function startOf(tokens) {
  const first = tokens.slice(0, 12).map(({ text }) => plainLabel(text, 24));
  return [...first, ...(tokens.length > 12 ? ["…"] : [])].join(" ");
}
