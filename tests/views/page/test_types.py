"""The front end's types: TypeScript's strict checks over every module, by JSDoc and `types.d.ts`.

Deno brings the compiler as a package of pip, and asks no network. `tsc` finds the same with
``--allowJs --checkJs --strict --noEmit --moduleResolution bundler --lib esnext,dom,dom.iterable``.
"""

import json
import os
import re
import subprocess
from importlib.resources import files
from pathlib import Path

import deno

ASSETS = Path(str(files("atento.views") / "assets"))
OPTIONS = {
    "checkJs": True,
    "strict": True,
    "lib": ["esnext", "dom", "dom.iterable", "dom.asynciterable"],
    "types": [str(ASSETS / "types.d.ts")],
}


def check(folder: Path, *modules: Path) -> list[str]:
    """What the compiler finds, as (number, file) in words; nothing where all is well."""
    config = folder / "deno.json"
    config.write_text(json.dumps({"compilerOptions": OPTIONS, "lock": False}))
    done = subprocess.run(
        [deno.find_deno_bin(), "check", "--no-remote", "--config", config, *modules],
        cwd=folder,
        env={**os.environ, "DENO_DIR": str(folder), "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    found = re.findall(r"(TS\d+) \[ERROR\]: (.*)", done.stderr)
    assert (done.returncode == 0) == (not found), done.stderr
    assert done.stderr.count("Check file:") == len(modules) or found
    return [f"{number} {said}" for number, said in found]


def test_every_module_is_strictly_typed(tmp_path):
    modules = sorted(ASSETS.glob("*.js"))
    assert len(modules) > 40
    assert check(tmp_path, *modules) == []


MISTAKES = {
    "export const twice = (value) => 2 * value;": "TS7006",
    'document.getElementById("app").hidden = true;': "TS2531",
    "/** @param {Words} words */\nexport const f = (words) => words.speak('a');": "TS2339",
    'import { tokenNode } from "@/dom.js";\ntokenNode("word");': "TS2345",
    'import { matrixOf } from "@/attention.js";\nmatrixOf(2, 3, () => "4");': "TS2322",
    "/** @type {Theme} */\nexport const theme = 'grey';": "TS2322",
}


def test_the_check_can_fail(tmp_path):
    modules = [tmp_path / f"wrong{at}.js" for at in range(len(MISTAKES))]
    for module, mistake in zip(modules, MISTAKES, strict=True):
        module.write_text(mistake.replace("@/", f"{ASSETS.as_uri()}/"))
    found = check(tmp_path, *modules)
    assert sorted(each.partition(" ")[0] for each in found) == sorted(MISTAKES.values())
