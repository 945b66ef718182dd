# make quickstart   the whole pipeline on the nano model, then runs/quickstart/report.html
# make test         the fast tests, which reach every module: minutes
# make test-all     the slow tests: kills and signals, every model family, the report in a browser, fuzzing
# make test-vllm    the tests that vLLM serves seethink's models and samples for it (CPU; an environment of 1.4 GB more)
# make test-ray     the tests that a Ray cluster trains, and goes on when it loses a machine (CPU; its own environment)
# make smoke-vllm, smoke-ray   the shortest of them
# make lint         ruff, mypy and import-linter (a package imports only packages below it)
# make docs         the pages of docs/ and the Python API as a site: build/site/index.html

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
RAY := .venv-ray
HAS_CUDA := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo yes)

# Compiled sources are kept: some hundred processes of the tests import the package.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup quickstart test test-all test-vllm smoke-vllm test-ray smoke-ray lint docs
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
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m "not slow"

test-all: setup
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "slow and not vllm and not ray"

# vLLM beside seethink's own environment, whose torch and transformers it takes: the .pth file adds them, and lets
# torchvision import in all of vLLM's processes.
$(VLLM)/.installed: tests/serving/requirements.txt $(VENV)/.installed
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install -q --no-deps -r tests/serving/requirements.txt
	{ echo "$(CURDIR)/src"; $(BIN)/python -c 'import site; print(site.getsitepackages()[0])'; \
	  echo "import seethink.models.torchvision_shim"; } \
	  > "$$($(VLLM)/bin/python -c 'import site; print(site.getsitepackages()[0])')/seethink.pth"
	touch $@

test-vllm: setup $(VLLM)/.installed
	$(BIN)/python -m pytest tests/serving

smoke-vllm: setup $(VLLM)/.installed
	$(BIN)/python -m pytest tests/serving/test_vllm_rollouts.py -k "trainers_at_the_sampling_temperature or a_run_of_grpo"

# Ray beside seethink's own environment, which the .pth file adds.
$(RAY)/.installed: tests/dist/ray_requirements.txt $(VENV)/.installed
	test -x $(RAY)/bin/python || $(PYTHON) -m venv $(RAY)
	$(RAY)/bin/pip install -q --no-deps -r tests/dist/ray_requirements.txt
	{ echo "$(CURDIR)/src"; $(BIN)/python -c 'import site; print(site.getsitepackages()[0])'; } \
	  > "$$($(RAY)/bin/python -c 'import site; print(site.getsitepackages()[0])')/seethink.pth"
	touch $@

test-ray: setup $(RAY)/.installed
	$(BIN)/python -m pytest tests/dist/test_ray.py

smoke-ray: setup $(RAY)/.installed
	$(BIN)/python -m pytest tests/dist/test_ray.py::test_a_cluster_takes_a_step

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

$(VENV)/.docs: docs/requirements.txt $(VENV)/.installed
	$(BIN)/pip install -q -r docs/requirements.txt
	touch $@

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "pages: build/site/index.html"
