"""What the doctor says about the model inside the package."""

from typing import Any

__all__ = ["model_report"]

WEIGHTS = "model.safetensors"


def model_report() -> dict[str, Any]:
    """Its sizes and whether its weights are the released ones; or what went wrong."""
    report: dict[str, Any] = {
        "name": None,
        "layers": None,
        "heads": None,
        "context": None,
        "bytes": None,
        "sha256": None,
        "match": None,
        "error": None,
    }
    try:
        report |= _read()
    except Exception as failure:
        report["error"] = f"{type(failure).__name__}: {failure}"
    report["ok"] = report["error"] is None and report["match"] is not False
    return report


def _read() -> dict[str, Any]:
    import hashlib
    from importlib.resources import files

    from atento.embedded import load_mini
    from atento.explanation.explain import MODEL

    content = (files("atento.embedded") / "mini" / WEIGHTS).read_bytes()
    digest = hashlib.sha256(content).digest()
    mini = load_mini()
    return {
        "name": MODEL,
        "layers": int(mini.num_layers),
        "heads": int(mini.num_heads),
        "context": int(mini.context),
        "bytes": len(content),
        "sha256": digest.hex(),
        "match": _as_released(digest),
    }


def _as_released(digest: bytes) -> bool | None:
    """Whether this is the checksum that the installed wheel recorded; None without a record.

    A wheel's RECORD holds the SHA-256 of every file. In a development install there is none.
    """
    import base64
    from importlib.metadata import PackageNotFoundError, files

    try:
        installed = files("atento") or []
    except PackageNotFoundError:
        return None
    for file in installed:
        if file.name == WEIGHTS and "embedded" in file.parts and file.hash is not None:
            here = base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")
            return bool(file.hash.mode == "sha256" and file.hash.value == here)
    return None
