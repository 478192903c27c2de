# What a clone can do. Each target makes the environment it needs; `make` alone lists them.
#   PYTHON=python3.12 make demo      another interpreter, 3.11 or newer
#   RELGRADE_DATA=FOLDER make ...    labelled pairs, for train-default and quality
#   make train-default TRAIN="--base FOLDER"      the encoder from a folder instead of the Hub
#   make story STORY="--train --base FOLDER"      train a student as well; needs the extra train in .venv
#   make quality QUALITY="--encoder FOLDER"       the cosine baseline beside BM25

PYTHON ?= python3
DEMO := .venv
DEV := .venv-test
PIP := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# A stamp is written last, so that an interrupted installation is taken up again.
DEMO_STAMP := $(DEMO)/.installed
STORY_STAMP := $(DEMO)/.installed-story
DEV_STAMP := $(DEV)/.installed
EXTRAS := dev,candidates,client,corpus,evaluate,haystack,hub,label,langchain,langgraph,large,llamaindex,mcp,parquet,pgvector,qdrant,serve,train

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo story test lint format train-default quality size clean check-python check-data

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO_STAMP) ## grade the example corpus with the embedded grader
	@$(DEMO)/bin/python examples/demo.py

story: $(STORY_STAMP) ## from queries and documents to a grader of your own, on the example corpus
	@$(DEMO)/bin/python examples/make_your_own.py $(STORY)

test: lint ## lint, types and tests, in an environment of their own
	@$(DEV)/bin/python -m mypy
	@$(DEV)/bin/python -m pytest

lint: $(DEV_STAMP) ## ruff: rules and format
	@$(DEV)/bin/python -m ruff check .
	@$(DEV)/bin/python -m ruff format --check .

format: $(DEV_STAMP) ## let ruff format the code and mend what it can
	@$(DEV)/bin/python -m ruff check --fix .
	@$(DEV)/bin/python -m ruff format .

train-default: check-data $(DEV_STAMP) ## make the embedded grader again: recipes/default.toml
	$(DEV)/bin/relgrade train --config recipes/default.toml --data-folder "$(RELGRADE_DATA)" --output runs/default $(TRAIN)

quality: check-data $(DEV_STAMP) ## measure the embedded grader beside its baselines
	$(DEV)/bin/python -m benchmarks.quality --data "$(RELGRADE_DATA)" $(QUALITY)

size: check-python ## measure a fresh plain installation
	@$(PYTHON) -m benchmarks.install_size

clean: ## remove the environments and caches; training runs and results stay
	rm -rf $(DEMO) $(DEV) .mypy_cache .ruff_cache .hypothesis dist build

$(DEMO_STAMP): pyproject.toml constraints.txt | check-python
	@echo "Installing relgrade into $(DEMO), without torch ..."
	@$(PYTHON) -m venv $(DEMO)
	@$(DEMO)/bin/python $(PIP) --editable .
	@touch $@

$(STORY_STAMP): $(DEMO_STAMP)
	@echo "Installing the extras candidates,evaluate,label into $(DEMO) ..."
	@$(DEMO)/bin/python $(PIP) --editable ".[candidates,evaluate,label]"
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt Makefile | check-python
	@echo "Installing relgrade and its extras $(EXTRAS) into $(DEV); with torch, this takes minutes ..."
	@$(PYTHON) -m venv $(DEV)
	@$(DEV)/bin/python $(PIP) --editable ".[$(EXTRAS)]"
	@touch $@

check-python:
	@command -v $(PYTHON) > /dev/null || { \
		echo "$(PYTHON) was not found; install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "relgrade needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1); name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "$(PYTHON) comes without venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

check-data:
	@test -n "$(RELGRADE_DATA)" -a -d "$(RELGRADE_DATA)" || { \
		echo "RELGRADE_DATA must name the folder of labelled pairs, found '$(RELGRADE_DATA)'" >&2; exit 1; }
