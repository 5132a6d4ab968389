"""Experiments that anyone can run again: `python -m experiments.why_attention`."""
