"""A notebook that is none: hosts in real Chromium, kernels and marimo that only say they are."""

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import IPython
import numpy as np
import pytest

import atento

HOST = "<!doctype html><meta charset=utf-8>%s<body style='margin: 8px; width: 900px'>%s</body>"


@pytest.fixture(scope="session")
def make() -> Callable[..., Any]:
    """Of the tests of a recording's page: with importlib mode, test folders are no packages."""
    path = Path(__file__).parent.parent / "recording_page/conftest.py"
    spec = importlib.util.spec_from_file_location("recordings_of_the_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module._recording


@pytest.fixture
def trace() -> Any:
    return atento.trace(*np.random.default_rng(3).standard_normal((3, 2, 5, 7)))


@dataclass
class FakeKernel:
    """What a cell sent to the notebook."""

    bundles: list[dict[str, str]] = field(default_factory=list)
    metadata: list[dict[str, dict[str, str]]] = field(default_factory=list)

    def publish(self, data: dict[str, str], metadata: dict[str, dict[str, str]]) -> None:
        self.bundles.append(data)
        self.metadata.append(metadata)


def _ipython(monkeypatch: pytest.MonkeyPatch, shell: Any) -> None:
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    """As under ipykernel: IPython's shell has a kernel."""
    sent = FakeKernel()
    shell = types.SimpleNamespace(kernel=object(), display_pub=sent)
    _ipython(monkeypatch, shell)
    return sent


@pytest.fixture
def ipython_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in IPython's own terminal: a shell without a kernel."""
    _ipython(monkeypatch, types.SimpleNamespace())


@pytest.fixture
def marimo(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As in a marimo notebook; what was appended to the output."""
    shown: list[str] = []
    fake = types.ModuleType("marimo")
    fake.running_in_notebook = lambda: True  # type: ignore[attr-defined]
    fake.Html = str  # type: ignore[attr-defined]
    fake.output = types.SimpleNamespace(append=shown.append)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "marimo", fake)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    return shown


@dataclass
class Host:
    """A page with outputs in it, and everything that happened which must not."""

    page: Any
    url: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def frames(self) -> list[Any]:
        """The frames' pages, drawn."""
        frames = self.page.frames[1:]
        for frame in frames:
            frame.wait_for_selector("#app:not([hidden])", state="attached")
        return list(frames)

    def heights(self) -> list[float]:
        script = "[...document.querySelectorAll('iframe')].map((f) => f.clientHeight)"
        return list(self.page.evaluate(script))


@pytest.fixture
def open_host(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Open a host page of outputs; at the end it and its frames must have been quiet."""
    hosts: list[tuple[Host, Any]] = []

    def open_(*outputs: str, head: str = "", first: str = "", **options: Any) -> Host:
        path = tmp_path / f"host{len(hosts)}.html"
        path.write_text(HOST % (head, "".join(outputs)), encoding="utf-8", newline="\n")
        context = browser.new_context(
            **{"viewport": {"width": 1000, "height": 3000}, "reduced_motion": "reduce", **options}
        )
        context.add_init_script(first)
        host = Host(context.new_page(), path.as_uri())
        hosts.append((host, context))
        host.page.on("request", lambda request: host.requests.append(request.url))
        host.page.on("console", lambda message: host.complaints.append(message.text))
        host.page.on("pageerror", lambda error: host.complaints.append(str(error)))
        host.page.on("dialog", lambda dialog: host.complaints.append(dialog.message))
        host.page.goto(host.url)
        return host

    yield open_
    quiet = []
    for host, context in hosts:
        asked = {url for url in host.requests if not url.startswith("blob:null/")}
        quiet.append((asked - {"about:srcdoc"}, host.complaints))
        context.close()
    assert quiet == [({host.url}, []) for host, _ in hosts]
