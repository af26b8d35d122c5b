# From Wafer to Membrane. `make help` lists the targets.
# Needs only Python 3.11 to 3.13, make and git; everything else comes from requirements.lock into .venv.

PYTHON ?= python3
PROFILE ?= laptop
CORES ?= all
GPUS ?= 1
SEEDS ?=
MATRIX ?= fanet_matrix
VENV_PYTHON := .venv/bin/python
HTML := _build/html/$(PROFILE)
# Results are written atomically, so one that is there is whole even if the build was killed right after.
SNAKEMAKE := $(VENV_PYTHON) -m snakemake --cores $(CORES) --nolock --ignore-incomplete --rerun-triggers mtime --keep-going \
	--resources gpu=$(GPUS) --quiet host rules

.DEFAULT_GOAL := help
.PHONY: help setup book matrix test lint lab bench lock screenshots clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Variables: PROFILE=smoke|laptop|lab|gpu|paper (laptop), CORES=N (all), PYTHON=python3.12, MATRIX=name, SEEDS=N, GPUS=N"

setup:  ## make .venv from requirements.lock and install emseg
	@$(PYTHON) tools/install.py

book: setup  ## run every chapter at PROFILE and build the book's HTML
	@$(SNAKEMAKE) --config profile=$(PROFILE) -- book
	@echo "The book is at $(HTML)/index.html"

lint: setup
	@$(VENV_PYTHON) -m ruff check . && $(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m mypy

matrix: setup  ## run the MATRIX of PROFILE, SEEDS seeds of each cell; a killed one goes on where it was
	@$(SNAKEMAKE) --config profile=$(PROFILE) $(if $(SEEDS),seeds=$(SEEDS)) -- $(MATRIX)

test: lint  ## lint, types, tests, every chapter at profile smoke, strict book, browser test
	@$(VENV_PYTHON) -m pytest tests --ignore tests/book/test_pages.py
	@$(MAKE) --no-print-directory book PROFILE=smoke
	@EMSEG_HTML=_build/html/smoke $(VENV_PYTHON) -m pytest tests/book/test_pages.py

lab: setup  ## open the book in JupyterLab
	@$(VENV_PYTHON) -m jupyter lab --notebook-dir=. book

bench: setup  ## run the benchmarks and print their ratios
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(VENV_PYTHON) $$script || exit 1; done

lock: setup  ## renew requirements.lock, and all that installs it, from the ranges in pyproject.toml
	@$(VENV_PYTHON) tools/lock.py

screenshots: setup  ## picture every page of the built book, wide and narrow, light and dark
	@EMSEG_HTML=$(HTML) $(VENV_PYTHON) tests/book/screenshots.py

clean:  ## remove all that was built (not .venv)
	@rm -rf _build .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis
