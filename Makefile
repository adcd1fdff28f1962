# A newcomer starts here: `make demo` shows featx at work, `make test` runs its tests. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
FLOWERS17 ?= ../shared/data/flowers17

.PHONY: help install lock demo browser test fuzz check lint types docs coverage audit matrix bench-extract bench-gpu bench-heads bench-finetune clean

help: ## List what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

install: $(READY) ## Make .venv and install featx with all extras

$(READY): setup.cfg pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
ifdef LOCKED
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
else
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
endif
	touch $@

lock: $(READY) ## Write requirements.lock anew, which LOCKED=1 installs (UPGRADE=--upgrade for the newest releases)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet $(UPGRADE) --extra dev --generate-hashes --no-annotate --no-header --python-version 3.11.7 --output-file requirements.lock setup.cfg

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

check: lint types docs audit coverage ## One gate: lint, format, types, layers, documentation, vulnerabilities, tests with coverage

lint: $(READY) ## Ruff, lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## Mypy, strict on the package
	$(BIN)/mypy

docs: $(READY) ## The documentation site: build/docs/index.html
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs

coverage: $(READY) browser ## The tests, with at least 95 % of the package covered
	$(BIN)/python -m pytest --cov --cov-report=term

audit: $(READY) ## Known vulnerabilities of what requirements.lock names, if the index tells them
	@mkdir -p build && rm -f build/audit
	@$(BIN)/pip-audit --requirement requirements.lock --disable-pip --require-hashes --progress-spinner off --output build/audit 2>build/audit.log; found=$$?; \
	test -f build/audit || { echo "The index does not answer: nothing is audited, see build/audit.log"; exit 0; }; \
	grep -v 'could not be audited\|^Name *Skip Reason\|^-* -*$$' build/audit; tail -n 1 build/audit.log; \
	echo "$$(grep -c 'could not be audited' build/audit) of $$(grep -c == requirements.lock) packages are not known to the index"; exit $$found

matrix: $(READY) ## The tests on the oldest and the newest of what setup.cfg allows
	$(BIN)/nox

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

# Not of bench-extract by itself: with its torch 2.0 it takes 6 GB.
.venv-thingsvision/ready:
	test -x .venv-thingsvision/bin/python || $(PYTHON) -m venv .venv-thingsvision
	.venv-thingsvision/bin/python -m pip install --quiet thingsvision
	touch $@

clean: ## Remove what the targets made
	rm -rf .venv .venv-peers .venv-thingsvision demo bench build *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache
