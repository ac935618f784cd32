# `make` lists the commands. `make demo` and `make test` work in a bare clone: both install first what is missing.

PYTHON ?= python3
VENV ?= .venv
# Versions for a reproducible CPU install. With CUDA: `make setup CONSTRAINTS=` lets pip choose the build of torch.
CONSTRAINTS ?= constraints.txt
SEED ?= 0
DEMO_OUTPUT ?= $(if $(filter 0,$(SEED)),demo_output,demo_output/seed_$(SEED))
GOLDEN ?= ../shared/golden

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Two processes of one thread each are faster on small networks than one process of two threads.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format parity clean

help: ## list the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create the virtual environment and install everything into it

demo: $(STAMP) ## Labelme folder -> trained model -> predictions, on a CPU in minutes (SEED=n)
	$(ONE_THREAD) $(BIN)/python -m sam3.demo --seed $(SEED) --output $(DEMO_OUTPUT)

test: $(STAMP) ## the test suite: CPU, no network
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2

lint: $(STAMP) ## style and simple mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## rewrite the files in the project's style
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ufmt format .

parity: $(STAMP) ## compare with the reference's numbers in GOLDEN (default ../shared/golden)
	$(ONE_THREAD) $(BIN)/python -m tests.parity.tokenizer $(GOLDEN)/detector/tokenizer.json
	$(ONE_THREAD) $(BIN)/python -m tests.parity.detector $(GOLDEN)/detector
	$(ONE_THREAD) $(BIN)/python -m tests.parity.training $(GOLDEN)/training
	$(ONE_THREAD) $(BIN)/python -m tests.parity.evaluation $(GOLDEN)/eval

clean: ## remove caches, builds and the demonstration's output, not the virtual environment
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis demo_output
	find sam3 tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml $(wildcard $(CONSTRAINTS))
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[train,dev]'
	@touch $@
