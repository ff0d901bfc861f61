# Two commands for a fresh machine: `make demo` and `make test`. Each sets up .venv first and does so once.
#
#   PYTHON    the interpreter of the virtual environment; found by itself when not given (3.11 to 3.13)
#   PIP_ARGS  more arguments for pip, e.g. PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
#             to get the small CPU build of torch on a Linux machine without a GPU

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 && echo $$p && break; done)
PIP_ARGS ?=
TEST_ARGS ?=
PUBLISHED ?=

VENV := .venv
RUN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := demo
DEMO_RUN := $(DEMO)/demo_run

.PHONY: help setup demo test test-fast lint format bench docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(INSTALLED)  ## make .venv with the pinned versions of constraints.txt

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; install one or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) (a few minutes the first time)"
	@test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --upgrade -c constraints.txt pip
	@# the build backend warns of every editable installation; there is nothing to do about it
	PYTHONWARNINGS=ignore $(RUN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[hdf5]' --group test --group lint
	@touch $@

demo: $(INSTALLED)  ## make a data set, check, train (about 2 minutes on 2 cores), predict, evaluate, plot
	rm -rf $(DEMO)
	$(RUN)/eventide make-demo-data $(DEMO)/data
	$(RUN)/eventide check configs/demo.yaml
	$(RUN)/python train.py configs/demo.yaml --output run
	$(RUN)/eventide predict --checkpoint $(DEMO_RUN)/best.safetensors --config configs/demo.yaml --split validation \
		--output $(DEMO)/results.json
	$(RUN)/eventide eval --predictions $(DEMO)/results.json --annotations $(DEMO)/data/annotations.json \
		--split validation --protocol thumos --json $(DEMO)/metrics.json
	$(RUN)/eventide plot --predictions $(DEMO)/results.json --annotations $(DEMO)/data/annotations.json \
		--split validation --output $(DEMO)/plot.png
	@echo
	@echo "The demo is done. Everything is in $(DEMO)/:"
	@echo "  $(DEMO)/data/                 generated features and annotations.json"
	@echo "  $(DEMO_RUN)/             the run: config.yaml, best.safetensors, checkpoints/, metrics.jsonl, train.log, TensorBoard"
	@echo "  $(DEMO)/results.json          detections of the validation recordings"
	@echo "  $(DEMO)/metrics.json          mAP and recall"
	@echo "  $(DEMO)/plot.png              ground truth against detections"

test: $(INSTALLED)  ## run all tests, the slow ones too
	$(RUN)/python -m pytest $(TEST_ARGS)

test-fast: $(INSTALLED)  ## run all tests but the slow ones
	$(RUN)/python -m pytest -m 'not slow' $(TEST_ARGS)

lint: $(INSTALLED)  ## ruff, mypy, and the examples for clusters
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/shellcheck examples/slurm/*.sbatch
	$(RUN)/kubernetes-validate --strict --quiet examples/kubernetes/*.yaml

format: $(INSTALLED)  ## let ruff mend style
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

bench: $(INSTALLED)  ## the speed table; PUBLISHED=/path/to/actionformer_release adds the published code beside ours
	$(if $(PUBLISHED),$(RUN)/python -m pip install --quiet -c constraints.txt --group bench)
	$(RUN)/python -m benchmarks.run $(if $(PUBLISHED),--published $(PUBLISHED))

docs: $(INSTALLED)  ## write docs/errors.md again from the tests
	$(RUN)/python -m tests.errors.write_table

clean:  ## remove .venv, the demo and caches; runs in ckpt/ and data in data/ stay
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
