# Everything a contributor types. `make` alone lists the targets.
# Another interpreter:      make setup PYTHON=/usr/bin/python3.12
# Another environment:      make test VENV=/tmp/venv
# Some tests only:          make test ARGS="tests/output/test_output_commit.py -k commit"

PYTHON ?= python3
VENV ?= .venv
DEMO_OUTPUT ?= demo-output
BUILTIN_OUTPUT ?= builtin-output
IMDB ?= imdb
ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH_INSTALLED := $(VENV)/.installed-bench
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Nothing here may reach a model hub, and a demo or a test is no usage to count.
export HF_HUB_OFFLINE ?= 1
export RAY_USAGE_STATS_ENABLED ?= 0

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup check format test test-faults docs demo bench builtin-model wheel clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(INSTALLED)  ## create .venv and install the project with pinned versions

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=...")'
	@echo "Installing into $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@

$(BENCH_INSTALLED): $(INSTALLED)
	$(PIP_INSTALL) -e '.[bench]'
	@touch $@

check: $(INSTALLED)  ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## apply formatting and the lint fixes that are safe
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Tests that start a Ray share one of two CPUs, one after another; all others run in parallel.
test: $(INSTALLED)  ## run the tests
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest -n auto -m "not ray and not faults and not slow"
	$(BIN)/python -m pytest -m "ray and not faults and not slow"
else
	$(BIN)/python -m pytest $(ARGS)
endif

test-faults: $(INSTALLED)  ## run the slow tests and those that kill processes
	$(BIN)/python -m pytest -m "faults or slow" $(ARGS)

docs: $(INSTALLED)  ## build the docs site into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --site-dir site
	@echo "The docs site is in $(abspath site): open index.html, or run $(BIN)/mkdocs serve"

demo: $(INSTALLED)  ## score the example reviews with the built-in model
	$(BIN)/sentiment score examples/reviews --output $(DEMO_OUTPUT) --label-column label --max-rejected 0.05
	@echo
	@echo "Labelled reviews, rejects and the run's report are in $(abspath $(DEMO_OUTPUT))"
	@echo "Run 'make demo' again and nothing is scored twice; 'make clean' removes the folder."

bench: $(BENCH_INSTALLED)  ## run every benchmark
	@set -e; for script in $(wildcard benchmarks/*.py); do \
	    echo "== $$script"; $(BIN)/python $$script $(ARGS); \
	done

# Every step is kept: started again, it goes on where it stopped.
builtin-model: $(BUILTIN_OUTPUT)/prepared/train.parquet  ## train the built-in model again, from IMDB=folder
	$(BIN)/sentiment finetune --config examples/builtin-model/builtin.yaml \
	    --train $< --confidence-column confidence --validation $(<D)/validation.parquet \
	    --test $(IMDB)/test.parquet --output $(BUILTIN_OUTPUT)/sentiment-builtin
	$(BIN)/sentiment evaluate $(<D)/validation.parquet --model $(BUILTIN_OUTPUT)/sentiment-builtin \
	    --output $(BUILTIN_OUTPUT)/evaluation --fit-calibration $(BUILTIN_OUTPUT)/sentiment-builtin/calibration.json
	@echo
	@echo "The model is in $(abspath $(BUILTIN_OUTPUT))/sentiment-builtin; without _training it belongs in sentiment/model/builtin"

$(BUILTIN_OUTPUT)/prepared/train.parquet: $(INSTALLED)
	$(BIN)/python examples/builtin-model/prepare.py --train $(IMDB)/train.parquet \
	    --unlabelled $(IMDB)/unsup.parquet --output $(@D)

wheel: $(INSTALLED)  ## build dist/, which cluster.yaml installs on every node
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	cp constraints.txt dist/

clean:  ## remove caches, builds and the demo output (.venv stays)
	rm -rf build dist site *.egg-info $(DEMO_OUTPUT) .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find sentiment jobs tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
