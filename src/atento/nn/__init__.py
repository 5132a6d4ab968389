"""Attention as PyTorch modules: one mechanism per file, each with `forward` and `trace`."""

from atento._optional import require

require("torch", "for the modules of atento.nn")
