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
# Tests run in WORKERS processes with THREADS threads each; the weekly workflow varies the threads.
WORKERS ?= 2
THREADS ?= 1
PYTEST := OMP_NUM_THREADS=$(THREADS) $(VENV_PYTHON) -m pytest
SNAKEMAKE := $(VENV_PYTHON) -m snakemake --cores $(CORES) --resources gpu=$(GPUS) --quiet host rules  # and profiles/default

.DEFAULT_GOAL := help
.PHONY: help setup book matrix test tests lint lab bench lock screenshots pdf archive clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Variables: PROFILE=smoke|laptop|lab|gpu|paper (laptop), CORES=N (all), PYTHON=python3.12, MATRIX=name, SEEDS=N, GPUS=N"

setup:  ## make .venv from requirements.lock and install emseg
	@$(PYTHON) tools/install.py

book: setup  ## run every chapter at PROFILE and build the book's HTML
	@$(SNAKEMAKE) --config profile=$(PROFILE) -- book
	@echo "The book is at $(HTML)/index.html"

lint: setup  ## ruff and mypy
	@$(VENV_PYTHON) -m ruff check . && $(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m mypy

matrix: setup  ## run the MATRIX of PROFILE with SEEDS seeds; an interrupted one resumes
	@$(SNAKEMAKE) --config profile=$(PROFILE) $(if $(SEEDS),seeds=$(SEEDS)) -- $(MATRIX)

# Tests of the built book, which come after the build.
BUILT := $(addprefix tests/book/,test_pages.py test_downloads.py test_results_filter.py)

test: lint tests  ## lint, tests, every chapter at profile smoke, strict book, every page in a browser
	@$(MAKE) --no-print-directory book PROFILE=smoke
	@EMSEG_HTML=_build/html/smoke $(PYTEST) -n $(WORKERS) --dist loadgroup $(BUILT)

tests: setup  ## the tests alone, in WORKERS processes of THREADS threads
	@$(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests $(BUILT:%=--ignore %)

lab: setup  ## open the book in JupyterLab
	@$(VENV_PYTHON) -m jupyter lab --notebook-dir=. book

bench: setup  ## run the benchmarks and print their ratios
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(VENV_PYTHON) $$script || exit 1; done

lock: setup  ## renew requirements.lock, and all that installs it, from the ranges in pyproject.toml
	@$(VENV_PYTHON) tools/lock.py

screenshots: setup  ## picture every page of the built book, wide and narrow, light and dark
	@EMSEG_HTML=$(HTML) $(VENV_PYTHON) tests/book/screenshots.py

pdf: book  ## print the whole book at PROFILE to one PDF (needs Chrome or Chromium)
	@$(VENV_PYTHON) tools/book_pdf.py $(HTML) _build/pdf/wafer-to-membrane-$(PROFILE).pdf

archive: book  ## pack pages, executed notebooks and records at PROFILE into a ZIP with RO-Crate metadata
	@$(VENV_PYTHON) tools/book_archive.py $(PROFILE) _build/archive/wafer-to-membrane-$(PROFILE).zip

clean:  ## remove all that was built (not .venv)
	@rm -rf _build .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis
