"""JupyterLab and marimo themselves, on this machine alone: pictures stand, values come back.

VS Code and Colab cannot be had here: of these, `test_bundle.py` checks the kinds that they take.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.sign import NotebookNotary

pytestmark = pytest.mark.browser

TOKEN = "the-token-of-these-tests"  # noqa: S105
PATIENCE = 120_000
"""Milliseconds: on a busy machine JupyterLab takes half a minute to open a notebook."""

MADE = """\
import atento
import numpy as np
from atento.embedded import load_mini
from atento.embedded.recording import record_mini
trace = atento.trace(*np.random.default_rng(3).standard_normal((3, 2, 23, 7)))
mini = load_mini()
encoding = mini.encode("Your journey starts with one step")
recording = record_mini(mini, encoding.ids)
recording.name_tokens(list(encoding.tokens))
"""

CELLS = [
    MADE,
    "atento.show(trace, lang='en')",
    "recording",
    "looked_at = atento.widget(recording, lang='en')\nlooked_at",
    "print('told', looked_at.state.get('view'))",
]

MARIMO = """\
import marimo
app = marimo.App()

@app.cell
def _():
    import marimo as mo
    {made}
    return atento, mo, recording, trace

@app.cell
def _(atento, trace):
    atento.show(trace, lang="en")
    return

@app.cell
def _(recording):
    recording
    return

@app.cell
def _(atento, mo, recording):
    looked_at = mo.ui.anywidget(atento.widget(recording, lang="en"))
    looked_at
    return (looked_at,)

@app.cell
def _(looked_at, mo):
    mo.md("told " + str(looked_at.value.get("state", {{}}).get("view")))
    return
""".format(made=MADE.strip().replace("\n", "\n    "))

INK = """() => Math.max(...[...document.querySelectorAll("canvas")].map((canvas) => {
  const { width, height } = canvas;
  if (!width || !height) return 0;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  return new Set(new Uint32Array(data.buffer)).size;
}))"""
"""Colours of the picture that has most."""

STILLS = """() => [...document.querySelectorAll(".jp-OutputArea-output img")]
  .filter((image) => image.offsetParent && image.complete).map((image) => {
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
  })"""

READY = """() => {
  const notebook = window.jupyterapp?.shell.currentWidget;
  return notebook?.context?.isReady && notebook.sessionContext?.session?.kernel?.status === "idle";
}"""


@dataclass
class Program:
    """A notebook's server, and its page in the browser."""

    url: str
    folder: Path
    page: Any
    wrong: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    def frames(self, count: int) -> list[Any]:
        """The pages inside the notebook, drawn, in the order of the cells."""
        inside = self.page.locator("iframe[srcdoc]")  # marimo has widgets in shadow trees
        inside.nth(count - 1).wait_for(state="attached")
        frames = [element.content_frame() for element in inside.element_handles()]
        assert len(frames) == count
        for frame in frames:
            frame.wait_for_selector("#app:not([hidden])", state="attached")
        return frames


@contextlib.contextmanager
def running(browser: Any, folder: Path, command: list[str], alive: str) -> Iterator[Program]:
    """A program on a port of its own, with a home of its own, until the context ends."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    home = folder / "home"
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    own = {name: str(home / name.lower()) for name in places}
    config = home / "jupyter_config_dir/labconfig/page_config.json"
    config.parent.mkdir(parents=True)
    news = {"@jupyterlab/apputils-extension:announcements": True}
    config.write_text(json.dumps({"disabledExtensions": news}))
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", *(part.format(port=port) for part in command)],
            cwd=folder,
            env={**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home), **own},
            stdout=said,
            stderr=said,
        )
    url = f"http://127.0.0.1:{port}"
    context = browser.new_context(viewport={"width": 1200, "height": 3200})
    try:
        _wait_for(process, url + alive, folder / "said.txt")
        program = Program(url, folder, context.new_page())
        program.page.set_default_timeout(PATIENCE)
        program.page.on("pageerror", lambda error: program.wrong.append(str(error)))
        program.page.on("request", lambda request: program.asked.add(request.url))
        yield program
    finally:
        context.close()
        process.terminate()
        process.wait(30)


def _wait_for(process: Any, address: str, said: Path) -> None:
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end:
        assert process.poll() is None, said.read_text()
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(address):  # noqa: S310
            return
        time.sleep(0.1)
    pytest.fail(f"it never answered: {said.read_text()}")


def _write(path: Path, cells: list[str], kernel: str = "python3") -> Path:
    spec = {"name": kernel, "display_name": kernel, "language": "python"}
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(text) for text in cells], metadata={"kernelspec": spec}
    )
    nbformat.write(made, path)
    return path


@pytest.fixture(scope="module")
def jupyter(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """JupyterLab, with a notebook that has been run from its first cell to its last, and saved."""
    folder = tmp_path_factory.mktemp("jupyter")
    _write(folder / "note.ipynb", CELLS)
    command = [
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port={port}",
        f"--ServerApp.root_dir={folder}",
        f"--IdentityProvider.token={TOKEN}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]
    with running(browser, folder, command, f"/api?token={TOKEN}") as program:
        page = program.page
        page.goto(f"{program.url}/doc/tree/note.ipynb?token={TOKEN}")
        page.wait_for_function(READY)
        page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_function("document.body.innerText.includes('told')")
        program.frames(3)
        page.evaluate("jupyterapp.commands.execute('docmanager:save')")
        yield program


def _check_pictures(frames: list[Any], eventually: Callable[..., None]) -> None:
    steps, *others = frames
    assert steps.locator("h1").inner_text() == "Attention, step by step"
    for frame in others:
        assert frame.locator("h1").inner_text() == "Attention, head by head"
        assert frame.locator(".lead").inner_text() == "Your journey starts with one step"
    for frame in frames:
        eventually(frame.page, lambda frame=frame: frame.evaluate(INK) > 20, seconds=30)


def test_jupyterlab_shows_a_trace_a_recording_and_a_widget(jupyter, eventually):
    frames = jupyter.frames(3)
    _check_pictures(frames, eventually)
    assert jupyter.wrong == []
    own = (jupyter.url, jupyter.url.replace("http", "ws", 1), "data:", "blob:", "about:")
    assert not {url for url in jupyter.asked if not url.startswith(own)}, "the network was asked"


def test_what_is_looked_at_in_jupyterlab_comes_back_to_python(jupyter, eventually):
    page, frame = jupyter.page, jupyter.frames(3)[2]
    others = jupyter.frames(3)[1]
    frame.locator("#tab-map").click()
    last = page.locator(".jp-Cell").last.locator(".jp-OutputArea-output")

    def told() -> bool:
        page.evaluate("jupyterapp.commands.execute('notebook:run-cell')")
        return bool(last.all_inner_texts() == ["told map\n"] or "told map" in last.inner_text())

    eventually(page, told, seconds=60)
    assert others.locator("#tab-heads").get_attribute("aria-selected") == "true"


def test_without_a_kernel_the_still_pictures_show(jupyter):
    """Of a notebook that is not trusted, JupyterLab takes the frames out."""
    saved = nbformat.read(jupyter.folder / "note.ipynb", 4)
    outputs = [set(out.data) for cell in saved.cells[1:4] for out in cell.outputs]
    page = {"text/html", "image/png", "text/plain"}
    view = {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
    assert outputs == [page, page, view]
    saved.metadata["kernelspec"]["name"] = "there-is-none"
    nbformat.write(saved, jupyter.folder / "still.ipynb")
    with _another(jupyter, "still.ipynb") as tab:
        tab.wait_for_function(f"({STILLS})().length === 3")
        assert all(colours > 20 for colours in tab.evaluate(STILLS))
        assert tab.locator("iframe[srcdoc]").count() == 0


def test_without_a_kernel_a_trusted_page_is_drawn(jupyter, eventually):
    saved = nbformat.read(jupyter.folder / "note.ipynb", 4)
    saved.metadata["kernelspec"]["name"] = "there-is-none"
    saved.cells = saved.cells[:3]
    NotebookNotary(data_dir=str(jupyter.folder / "home/jupyter_data_dir")).sign(saved)
    nbformat.write(saved, jupyter.folder / "trusted.ipynb")
    with _another(jupyter, "trusted.ipynb") as tab:
        _check_pictures(Program(jupyter.url, jupyter.folder, tab).frames(2), eventually)


@contextlib.contextmanager
def _another(jupyter: Program, name: str) -> Iterator[Any]:
    tab = jupyter.page.context.new_page()
    tab.set_default_timeout(PATIENCE)
    tab.goto(f"{jupyter.url}/doc/tree/{name}?token={TOKEN}")
    tab.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    yield tab
    tab.close()


@pytest.mark.parametrize("mode", ["run", "edit"])
def test_marimo_shows_them_and_hears_what_is_looked_at(browser, tmp_path, mode, eventually):
    (tmp_path / "note.py").write_text(MARIMO)
    place = ["--host", "127.0.0.1", "--port", "{port}", "--token-password", TOKEN]
    command = ["marimo", "--quiet", mode, "note.py", "--headless", *place]
    more = ["--skip-update-check"] if mode == "edit" else []
    with running(browser, tmp_path, [*command, *more], "/health") as program:
        page = program.page
        page.goto(f"{program.url}/?access_token={TOKEN}")
        if mode == "edit":  # nothing runs before somebody asks
            page.wait_for_selector("[data-testid=run-button].yellow")
            page.keyboard.press("Control+Shift+R")
        frames = program.frames(3)
        _check_pictures(frames, eventually)
        page.wait_for_function("document.body.innerText.includes('told heads')")
        frames[2].locator("#tab-map").click()
        page.wait_for_function("document.body.innerText.includes('told map')")
        assert program.wrong == []
