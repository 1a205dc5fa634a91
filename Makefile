# `make` alone prints what there is. Every target makes what it needs by itself, once.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := .envs/demo
# --verifytypes takes the packages of the first Python on the path, whatever --pythonpath says.
PYRIGHT := PATH="$(CURDIR)/$(BIN):$$PATH" pyright
# Further arguments for pytest: make test ARGS="-k flush -x".
ARGS ?=
# The first interpreter that is new enough; PYTHON=... chooses another one.
PYTHON ?= $(shell .ci/python)

.PHONY: help install demo test lint type cov stress bench bench-quick compat build wheel check clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml .ci/env
	@.ci/env "$(PYTHON)" $(VENV) --editable . --group dev
	@touch $@

install: $(READY) ## make the virtual environment .venv with all that development needs
	@echo "Ready: source $(BIN)/activate"

# Of its own, and small: the demo needs none of what development needs.
$(DEMO)/.ready: pyproject.toml .ci/env
	@.ci/env "$(PYTHON)" $(DEMO) --editable .
	@touch $@

demo: $(DEMO)/.ready ## show the main job on a real HTTP server and a real database
	@$(DEMO)/bin/python -m batcher

test: $(READY) ## run all tests but the stress tests
	@$(BIN)/python -m pytest $(ARGS)

lint: $(READY) ## check the style and the format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

type: $(READY) ## check the types, and that the public ones are complete
	@$(BIN)/mypy --strict batcher tests $(wildcard benchmarks)
	@$(PYRIGHT)
	@$(PYRIGHT) --verifytypes batcher --ignoreexternal

cov: $(READY) ## run all tests and require 100 % branch coverage, child processes included
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

stress: $(READY) ## run the minutes of mixed load and forks
	@$(BIN)/python -m pytest -m stress --timeout=1200 -o faulthandler_timeout=0 $(ARGS)

bench: $(READY) ## measure against other batchers, a few minutes, and write benchmarks/RESULTS.md (PYTHON=... for another one)
	@.ci/bench "$(PYTHON)" --write $(ARGS)
	@$(BIN)/python -m benchmarks.bulk
	@$(BIN)/python -m benchmarks.http

bench-quick: ## the same with little work, under a minute, without writing anything
	@.ci/bench "$(PYTHON)" --quick $(ARGS)

compat: ## run the unit tests on the other supported interpreters that this machine has
	@.ci/compat $(ARGS)

build: $(READY) ## build the source distribution and the wheel into dist/
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist

wheel: build ## install the wheel into clean environments and use it there
	@.ci/wheel dist/*.whl

check: ## run all that has to pass: lint, type, cov, compat, wheel
	@for step in lint type cov compat wheel; do \
	  echo "== $$step"; \
	  begin=$$SECONDS; \
	  $(MAKE) --no-print-directory $$step; \
	  echo "== $$step passed in $$((SECONDS - begin)) s"; \
	done

clean: ## remove all that was made, the virtual environments too
	@rm -rf $(VENV) .envs dist .coverage .coverage.* htmlcov .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find batcher tests $(wildcard benchmarks) -name __pycache__ -type d -exec rm -rf {} +
