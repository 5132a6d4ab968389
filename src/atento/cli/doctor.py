"""`atento doctor`: what is installed, which engine computes what, whether the numbers are right."""

from typing import Annotated, Any

import typer

from atento.cli.output import say

__all__ = ["doctor"]

# distribution, the extra that brings it
PARTS = (
    ("torch", "torch"),
    ("transformers", "models"),
    ("tokenizers", "models"),
    ("matplotlib", "plot"),
    ("anywidget", "notebook"),
    ("starlette", "serve"),
    ("uvicorn", "serve"),
    ("faiss-cpu", "search"),
    ("numba", "fast"),
    ("scikit-learn", "learn"),
)


def doctor(
    lang: Annotated[
        str | None, typer.Option(metavar="en|es", help="Default: from the locale.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and only that.")] = False,
) -> None:
    """Tell versions, optional parts and engines, and check the numbers.

    Exits with 1 if the self-check fails or the embedded model is not the one that was released.
    """
    from atento.views.words import choose_language, words

    word = words(choose_language(lang))
    found: dict[str, Any] = {
        "versions": _versions(),
        "optional": _optional(),
        "embedded": _embedded(),
        "engines": _engines(),
        "self_check": _self_check(),
    }
    found["ok"] = found["self_check"]["ok"] and found["embedded"]["ok"]
    if as_json:
        import json

        say(json.dumps(found, indent=2) + "\n")
    else:
        say("\n".join(_report(found, word)) + "\n")
    if not found["ok"]:
        raise typer.Exit(1)


def _versions() -> dict[str, Any]:
    import platform

    import numpy as np
    from threadpoolctl import threadpool_info

    from atento import __version__
    from atento.equation.blas import available_cores

    pools = [pool for pool in threadpool_info() if pool.get("user_api") == "blas"]
    return {
        "atento": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True) + " " + platform.machine(),
        "numpy": np.__version__,
        "blas": [
            {name: pool.get(name) for name in ("internal_api", "version", "num_threads")}
            for pool in pools
        ],
        "cores": available_cores(),
    }


def _optional() -> list[dict[str, Any]]:
    # asks the package metadata: importing torch to learn its version would take seconds
    from importlib.metadata import PackageNotFoundError, version

    parts = []
    for name, extra in PARTS:
        try:
            there: str | None = version(name)
        except PackageNotFoundError:
            there = None
        install = f'pip install "atento[{extra}]"'
        parts.append({"name": name, "version": there, "install": install})
    return parts


def _embedded() -> dict[str, Any]:
    from atento.cli.doctor_model import model_report

    return model_report()


def _engines() -> list[dict[str, str]]:
    import numpy as np

    from atento.equation import plan
    from atento.masks import Causal

    short = np.zeros((1, 6, 3), dtype=np.float32)
    long = np.zeros((8, 4096, 64), dtype=np.float32)  # the system lends zeros: no memory is touched
    rows = []
    for name, array, mask in (
        ("short", short, None),
        ("long", long, None),
        ("mask", long, Causal()),
    ):
        chosen = plan(array, array, array, mask=mask)
        rows.append({"request": name, "engine": chosen.engine, "reason": chosen.reason})
    # Named, not asked for: an array of theirs would mean to import torch here.
    rows.append({"request": "torch", "engine": "fused", "reason": "torch_reason"})
    rows.append({"request": "torch_more", "engine": "streaming", "reason": "torch_more_reason"})
    rows.append({"request": "foreign", "engine": "dense", "reason": "foreign_reason"})
    return [*rows, {"request": "explain", "engine": "dense", "reason": "trace_reason"}]


def _self_check() -> dict[str, Any]:
    from atento.cli.self_check import largest_error

    tolerance = 5.001e-5  # the published values have four decimals
    try:
        error = largest_error()
    except Exception as failure:
        return {"ok": False, "error": f"{type(failure).__name__}: {failure}"}
    return {"ok": bool(error <= tolerance), "largest_error": error, "tolerance": tolerance}


def _report(found: dict[str, Any], word: Any) -> list[str]:
    versions = found["versions"]
    lines = [word("doctor.versions")]
    blas = ", ".join(f"{pool['internal_api']} {pool['version']}" for pool in versions["blas"])
    for name, value in (
        ("atento", versions["atento"]),
        ("Python", versions["python"]),
        ("NumPy", versions["numpy"] + (f" ({blas})" if blas else "")),
        (
            word("doctor.system"),
            f"{versions['platform']}, {word.count('cores', versions['cores'])}",
        ),
    ):
        lines.append(f"  {name:<13} {value}")

    lines += ["", word("doctor.optional")]
    for part in found["optional"]:
        there = part["version"] or word("doctor.install", command=part["install"])
        lines.append(f"  {part['name']:<13} {there}")
        lines.append(f"  {'':<13} {word('doctor.part.' + part['name'])}")

    model = found["embedded"]
    lines += ["", word("doctor.embedded")]
    if model["error"] is not None:
        lines.append("  " + word("doctor.failed", error=model["error"]))
    else:
        sizes = word(
            "doctor.model",
            name=model["name"],
            layers=word.count("layers", model["layers"]),
            heads=word.count("heads", model["heads"]),
            context=model["context"],
            size=word.number(f"{model['bytes'] / 1e6:.1f}"),
        )
        state = {True: "sha_matches", False: "sha_differs", None: "sha_unknown"}
        lines.append(f"  {sizes}")
        lines.append(f"  sha256 {model['sha256'][:16]}…: {word('doctor.' + state[model['match']])}")

    lines += ["", word("doctor.engines")]
    for row in found["engines"]:
        request = word(f"doctor.request.{row['request']}")
        own = f"doctor.{row['reason']}"
        reason = word(own) if own in word else row["reason"]
        lines += [f"  {request:<36} {row['engine']}", f"    {reason}"]

    check = found["self_check"]
    lines += ["", word("doctor.self_check")]
    if check["ok"]:
        lines.append("  " + word("doctor.agrees"))
    elif "error" in check:
        lines.append("  " + word("doctor.failed", error=check["error"]))
    else:
        lines.append("  " + word("doctor.differs", error=f"{check['largest_error']:.1e}"))
    return lines
