# `make help` lists the targets. Needs Python 3.11 or newer and make; all else comes by pip.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Fast ones first.
TESTS := tests/unit tests/property tests/contract tests/integration tests/e2e tests/faults

.DEFAULT_GOAL := help
.PHONY: help setup demo test check up down bench bench-peers faults faults-planted clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Touchstone needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(STAMP) ## virtual environment, pinned dependencies

check: $(STAMP) ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## all checks, then all tests, fast ones first
	$(BIN)/python -m pytest $(TESTS) --cov --cov-report=term:skip-covered

demo: $(STAMP) ## the main job on this machine, start to end
	$(BIN)/python -m services.cli.demo

up: $(STAMP) ## start the single-machine stack
	$(BIN)/touchstone up

down: $(STAMP) ## stop it
	$(BIN)/touchstone down

bench: $(STAMP) ## measure speed and memory; a table, and .touchstone/bench.json
	$(BIN)/python -m benchmarks

bench-peers: $(STAMP) ## the same fold in other engines, each in an environment of its own
	$(BIN)/python -m benchmarks.peers

faults: RUNS ?= 20
faults: SEED ?= 1
faults: $(STAMP) ## faults on the real stack, checked; RUNS=20 SEED=1 (adds to .touchstone/faults.jsonl)
	$(BIN)/python -m tests.faults run --runs $(RUNS) --seed $(SEED)

faults-planted: $(STAMP) ## plant six bugs one by one; the fault runs must find each
	$(BIN)/python -m tests.faults planted

clean: ## remove the virtual environment and caches; data under .touchstone stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
