# make quickstart   the whole pipeline on the nano model, then runs/quickstart/report.html
# make test         the tests
# make lint         ruff and mypy

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HAS_CUDA := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo yes)

.PHONY: setup quickstart test lint
setup: $(VENV)/.installed

# torch first and pinned: where no CUDA device is present the plain name could bring gigabytes of CUDA.
$(VENV)/.installed: pyproject.toml requirements.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifeq ($(HAS_CUDA),yes)
	$(BIN)/pip install -q torch torchvision
else
	$(BIN)/pip install -q torch==2.13.0
	$(BIN)/pip install -q --no-deps torchvision==0.28.0
endif
	$(BIN)/pip install -q -r requirements.txt
	$(BIN)/pip install -q --no-deps -e .
	touch $@

quickstart: setup
	$(BIN)/seethink quickstart --out runs/quickstart

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
