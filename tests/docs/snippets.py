"""The code blocks of a page, and how each kind is run.

Comments that readers do not see tell what a test needs:

    <!-- given: gpt2 letter.txt -->      stand-ins, made where the page is tried (stand_ins.py)
    <!-- instead: steps=2000 => steps=2 -->    the next block is run with the second text
"""

import contextlib
import doctest
import importlib.util
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atento.cli import main
from docs.stand_ins import STAND_INS

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)[^\n]*$")
COMMENT = re.compile(r"^<!-- (given|instead): (.*) -->$")
RUN = ("python", "pycon", "console")
LOOKED_AT = ("text",)  # formulas and drawings


@dataclass(frozen=True)
class Block:
    """One fenced block, and what the comments before it ask for."""

    line: int
    language: str
    text: str
    given: tuple[str, ...] = ()

    @property
    def executed(self):
        return self.language in RUN


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in order, as they are to be run."""
    given, instead, opened = [], [], None
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        fence = FENCE.match(line)
        if opened is not None and line == "```":
            start, language, lines = opened
            yield Block(start, language, _instead("\n".join(lines) + "\n", instead), tuple(given))
            given, instead, opened = [], [], None
        elif opened is not None:
            opened[2].append(line)
        elif fence:
            opened = (number, fence[1], [])
        elif comment := COMMENT.match(line):
            if comment[1] == "given":
                given += comment[2].split()
            else:
                instead.append(comment[2].split(" => "))
    assert opened is None, f"{page}: the block of line {opened and opened[0]} does not end"


def _instead(text, changes):
    for shown, run in changes:
        assert shown in text, f"<!-- instead: {shown} --> has nothing to change"
        text = text.replace(shown, run)
    return text


def run_page(page: Path, folder: Path) -> dict:
    """Run all blocks of a page in order, in this folder; the names that they leave."""
    names = {"__name__": "__main__"}
    for block in blocks(page):
        for name in block.given:
            STAND_INS[name](folder / name)
        if block.executed:
            where = f"{page.name}:{block.line}"
            {"python": _python, "pycon": _pycon, "console": _console}[block.language](
                block, where, names
            )
    return names


def _python(block, where, names):
    code = compile("\n" * block.line + block.text, where, "exec")
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)  # noqa: S102 - the page's own code


def _pycon(block, where, names):
    test = doctest.DocTestParser().get_doctest(block.text, names, where, where, block.line)
    test.globs = names  # what a block defines, the next one uses
    told = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    failures = runner.run(test, out=told.write, clear_globs=False).failed
    assert not failures, f"{where}\n{told.getvalue()}"


def _console(block, where, names):
    for command, shown in _commands(block.text):
        for one in re.split(r" ; ", command):
            words = shlex.split(one, comments=True)
            told = _call(words, f"{where}: {one}")
        if shown:
            assert _same(told, shown), f"{where}: {command}\n{told}\nis not\n{shown}"


def _commands(text):
    """Each command, and the output shown below it."""
    for line in text.splitlines():
        if line.startswith("make "):
            yield line, ""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown.strip("\n")


def _call(words, where):
    program, *rest = words
    if program == "atento":
        return _serves(rest) if rest[0] == "serve" else _atento(rest, where)
    if program == "make":  # what it would do: `make test` in a test would never end
        done = subprocess.run(["make", "-n", *rest], cwd=ROOT, capture_output=True, check=True)
        return done.stdout.decode()
    if words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        (named,) = re.findall(r"^atento\[(\w+(?:,\w+)*)\]$", rest[1])
        assert set(named.split(",")) <= set(extras["optional-dependencies"]), where
        return ""
    assert words[:2] == ["python", "-m"], f"{where}: nobody knows how to try this"
    assert importlib.util.find_spec(words[2]), where
    return ""


def _atento(words, where):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    assert code == 0, f"{where}\nended with {code}: {err.getvalue()}"
    return out.getvalue()


def _serves(words):
    """Until it says where it is; it is stopped as a reader would stop it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "atento", *words, "--no-open"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        line = process.stdout.readline()
        assert "http://127.0.0.1:" in line
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
        process.communicate()
    return line


def _same(told, shown):
    """Whether this is what is shown, up to the kind of spaces; ... stands for anything."""
    pattern = re.escape(_plain(shown)).replace(r"\.\.\.", ".*?")
    return re.fullmatch(pattern, _plain(told), re.DOTALL) is not None


def _plain(text):
    """Without space at the ends of lines, and without spaces that do not break."""
    lines = text.replace("\u202f", " ").replace("\xa0", " ").strip("\n").splitlines()
    return "\n".join(line.rstrip() for line in lines)
