"""The gallery: every view, drawn now of records that are computed now."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from docs.making.cache import watched_run
from docs.making.screens import Screens

__all__ = ["gallery_page"]

TEXT = "the cat sat on the mat because it was tired"
HEAD = """# Gallery

Every view, made when this site was built, by the code beside it. Pages are shown as Chromium draws
them at 1280 × 800; each is one file that asks no network for anything.
"""
Draw = Callable[[Any, Path], None]


def gallery_page(folder: Path, *, quick: bool) -> str:
    """The page as Markdown; its pictures are written into the folder.

    Args:
        folder: where the pages lie.
        quick: whether the pictures are left out.
    """
    place = folder / "gallery"
    place.mkdir(parents=True, exist_ok=True)
    parts = [HEAD]
    with contextlib.ExitStack() as stack:
        screens = None if quick else stack.enter_context(Screens())
        for section, entries in (("Figures", _figures()), ("Pages", _pages(place, screens))):
            parts.append(f"## {section}")
            for name, caption, code, draw in entries:
                parts.append(f"### {caption}")
                parts.append(f"```python\n{code}\n```")
                if not quick:
                    made = draw(place / f"{name}.png")
                    parts.append(f"![{caption}](gallery/{name}.png)" if made else NO_BROWSER)
    parts.append("## Terminal")
    parts += [
        f"```console\n$ atento {command}\n{'' if quick else _told(command)}```"
        for command in (f'explain "{TEXT}" --no-page', f'inspect --text "{TEXT}"')
    ]
    return "\n\n".join(parts) + "\n"


NO_BROWSER = "*(No picture: Chromium was not there when the site was built.)*"
Entry = tuple[str, str, str, Callable[[Path], bool]]


def _figures() -> Iterator[Entry]:
    import atento

    explained = f'explanation = atento.explain("{TEXT}")\n'
    for kind, caption, options in (
        ("steps", "Every step of a head", {}),
        ("map", "The weights of one head", {"layer": 2, "head": 1}),
        ("arcs", "Arcs between tokens", {"threshold": 0.1}),
        ("grid", "All heads, with their roles", {}),
    ):
        told = "".join(f", {name}={value}" for name, value in options.items())
        code = f'{explained}atento.save(explanation, "{kind}.svg", kind="{kind}"{told})'

        def draw(path: Path, kind: str = kind, options: dict[str, Any] = options) -> bool:
            atento.save(atento.explain(TEXT), path, lang="en", kind=kind, **options)
            return True

        yield kind, caption, code, draw
    yield "curves", "Statistics along a text", SURVEYED, _draw_curves
    for kind, caption in (
        ("curves", "Heads that form while a model learns"),
        ("grid", "All heads at the end of a training"),
    ):
        code = f'{WATCHED}atento.save(watched, "{kind}.svg", kind="{kind}")'

        def draw_watched(path: Path, kind: str = kind) -> bool:
            atento.save(watched_run(), path, lang="en", kind=kind)
            return True

        yield f"watched-{kind}", caption, code, draw_watched


WATCHED = """train(preset="induction", out="runs/induction")
watched = load_watch("runs/induction")
"""

SURVEYED = """survey = atento.survey(query, key, value, mask=Causal())
atento.save(survey, "curves.svg", statistics=["entropy", "distance_mean"], head=[0, 1])"""


def _draw_curves(path: Path) -> bool:
    import atento
    from atento.masks import Causal

    query, key, value = np.random.default_rng(3).standard_normal((3, 2, 400, 16))
    survey = atento.survey(query, key, value, mask=Causal())
    names = ["entropy", "distance_mean"]
    atento.save(survey, path, lang="en", statistics=names, head=[0, 1])
    return True


def _pages(place: Path, screens: Screens | None) -> Iterator[Entry]:
    import atento

    def shot(path: Path, record: Callable[[], Any], hash_: str = "", **options: Any) -> bool:
        if screens is None:
            return False
        page = place / "page.html"
        atento.save(record(), page, lang="en", **options)
        try:
            return screens.shoot(page.as_uri() + hash_, path)
        finally:
            page.unlink()

    yield (
        "explained",
        "A sentence, explained",
        f'atento.save(atento.explain("{TEXT}"), "page.html")',
        lambda path: shot(path, lambda: atento.explain(TEXT)),
    )
    for name, caption, hash_ in (
        ("heads", "A recording: all heads", ""),
        ("zoom", "A recording: the map of a head", "#view=map&head=1"),
        ("lines", "A recording: arcs", "#view=arcs&head=1"),
        ("pair", "A recording: query · key", "#view=pair&head=1&row=20"),
    ):
        yield (
            name,
            caption,
            'atento.save(recording, "page.html")',
            lambda path, hash_=hash_: shot(path, _recording, hash_),  # type: ignore[misc]
        )
    yield (
        "compare",
        "Two recordings, compared",
        'atento.save(recording, "page.html", other=changed)',
        lambda path: shot(path, _recording, "#view=compare", other=_recording(changed=True)),
    )
    yield (
        "patches",
        "An image model: patches",
        "with atento.capture(vit) as recording:\n    vit(pixels)",
        lambda path: shot(path, _image_recording, "#view=patches&row=20"),
    )
    yield (
        "watched",
        "A training that was watched: when each head formed",
        f'{WATCHED}atento.save(watched, "page.html")  # or $ atento watch runs/induction',
        lambda path: shot(path, watched_run),
    )
    yield (
        "served",
        "atento serve",
        "# $ atento serve",
        lambda path: screens is not None and screens.shoot_served(TEXT, path),
    )


def _recording(*, changed: bool = False) -> Any:
    """Two layers with random weights over words."""
    import torch

    import atento
    from atento.masks import Causal
    from atento.nn import MultiHeadAttention

    torch.manual_seed(0)
    layers = torch.nn.Sequential(*(MultiHeadAttention(32, 4, mask=Causal()) for _ in range(2)))
    words = (TEXT.split() * 6)[:48]
    states = torch.randn(1, len(set(words)), 32)[:, [sorted(set(words)).index(w) for w in words]]
    interventions = [atento.Temperature(layer=1, temperature=0.3)] if changed else []
    with torch.no_grad(), atento.capture(layers, interventions=interventions) as recording:
        layers(3 * states)
    recording.name_tokens(words)
    return recording


def _image_recording() -> Any:
    import torch
    import transformers

    import atento

    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=37,
        image_size=56,
        patch_size=8,
    )
    vit = transformers.ViTModel(config).eval()
    with torch.no_grad(), atento.capture(vit) as recording:
        vit(torch.randn(1, 3, 56, 56))
    return recording


def _told(command: str) -> str:
    """What the command prints, in English and without colours."""
    import shlex

    from atento.cli import main

    before = dict(os.environ)
    os.environ.update(ATENTO_LANG="en", COLUMNS="100", NO_COLOR="1")
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told):
            main(shlex.split(command))
    finally:
        os.environ.clear()
        os.environ.update(before)
    return told.getvalue()
