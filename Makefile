# A newcomer starts here: `make demo` shows featx at work, `make test` runs its tests. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
FLOWERS17 ?= ../shared/data/flowers17

.PHONY: help install demo browser test fuzz check lint types docs coverage bench-extract bench-gpu bench-heads bench-finetune clean

help: ## List what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

install: $(READY) ## Make .venv and install featx with all extras

$(READY): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(READY) ## Handwritten digits: images to accuracy a block and a head, in two minutes once installed, which takes some more
	$(BIN)/python examples/digits_early_blocks.py demo

browser: $(READY) ## A Chromium, in which the report's test opens it: installed where there is none
	@command -v chromium-headless-shell chromium google-chrome | grep -q . \
	|| (apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium-headless-shell fonts-liberation) \
	|| $(BIN)/python -m playwright install --with-deps chromium-headless-shell \
	|| echo "No Chromium could be installed: the tests that open a report will fail"

test: $(READY) browser ## Run the tests
	$(BIN)/python -m pytest

SECONDS ?= 600
fuzz: $(READY) ## Mutated files at every reader (SECONDS=600 for each); what is found is kept in build/fuzz
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(SECONDS) --keep build/fuzz

check: lint types docs coverage ## One gate: lint, format, types, layers, documentation, tests with coverage

lint: $(READY) ## Ruff, lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## Mypy, strict on the package
	$(BIN)/mypy

docs: $(READY) ## The documentation site: build/docs/index.html
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs

coverage: $(READY) browser ## The tests, with at least 95 % of the package covered
	$(BIN)/python -m pytest --cov --cov-report=term

bench-extract: $(READY) .venv-peers/ready ## Extraction against torchvision and Keras (FLOWERS17=folder)
	$(BIN)/python benchmarks/extract.py "$(FLOWERS17)" bench

bench-gpu: $(READY) ## Extraction on a CUDA GPU beside torchvision (FLOWERS17=folder)
	$(BIN)/python benchmarks/gpu.py "$(FLOWERS17)" bench

bench-heads: $(READY) .venv-peers/ready ## Choosing C against GridSearchCV and others (FLOWERS17=folder)
	$(BIN)/python benchmarks/heads.py "$(FLOWERS17)" bench

bench-finetune: $(READY) .venv-peers/ready ## Fine-tuning beside the Keras recipe (FLOWERS17=folder)
	$(BIN)/python benchmarks/finetune.py "$(FLOWERS17)" bench --compare

.venv-peers/ready:
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet tensorflow-cpu h5py scikit-learn scikit-learn-intelex
	touch $@

clean: ## Remove what the targets made
	rm -rf .venv .venv-peers demo bench build *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache
