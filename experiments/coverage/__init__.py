"""Which models a capture reads: tiny random ones of many families, each compared with itself.

`python -m experiments.coverage` writes `docs/coverage.md`.
"""
