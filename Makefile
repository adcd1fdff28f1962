# Start with `make demo`, which runs featx on digits, or `make test`, which runs the tests. Both create .venv first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
FLOWERS17 ?= ../shared/data/flowers17

.PHONY: help install lock demo browser test test-all fuzz check lint types docs coverage audit matrix bench-extract bench-gpu bench-heads bench-finetune bench-layouts clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

install: $(READY) ## Create .venv and install featx with everything that the tests need

$(READY): setup.cfg pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
ifdef LOCKED
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
else
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
endif
	touch $@

lock: $(READY) ## Update requirements.lock, which `make install LOCKED=1` installs (UPGRADE=--upgrade: use the newest releases)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet $(UPGRADE) --extra dev --generate-hashes --no-annotate --no-header --python-version 3.11.7 --output-file requirements.lock setup.cfg

demo: $(READY) ## Run featx on handwritten digits and print the accuracy per block and head (two minutes once installed)
	$(BIN)/python examples/digits_early_blocks.py demo

browser: $(READY) ## Install Chromium, which the tests of reports need, unless it is installed
	@command -v chromium-headless-shell chromium google-chrome | grep -q . \
	|| (apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium-headless-shell fonts-liberation) \
	|| $(BIN)/python -m playwright install --with-deps chromium-headless-shell \
	|| echo "No Chromium could be installed: the tests that open a report will fail"

# Run one process per core, and one thread per process. With more threads, the processes would slow each other down.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

test: $(READY) ## Run all tests except the slow ones (under five minutes on two cores)
	$(PYTEST) -m "not slow"

test-all: $(READY) browser ## Run all tests, including fuzzing, killed processes, Ray, a browser and examples
	$(PYTEST)

SECONDS ?= 600
fuzz: $(READY) ## Test every reader on mutated files, for SECONDS=600 each; files that fail are kept in build/fuzz
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(SECONDS) --keep build/fuzz

check: lint types docs audit coverage ## Run every check: lint, format, types, documentation, vulnerabilities, all tests with coverage

lint: $(READY) ## Check lint and format with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## Check types with mypy, strictly
	$(BIN)/mypy

docs: $(READY) ## Build the documentation site: build/docs/index.html
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs

coverage: $(READY) browser ## Run all tests, and require that they cover 97 % of the package
	$(PYTEST) --cov --cov-report=term

audit: $(READY) ## Look up known vulnerabilities of the packages in requirements.lock
	@mkdir -p build && rm -f build/audit
	@$(BIN)/pip-audit --requirement requirements.lock --disable-pip --require-hashes --progress-spinner off --output build/audit 2>build/audit.log; found=$$?; \
	test -f build/audit || { echo "The index does not answer: nothing is audited, see build/audit.log"; exit 0; }; \
	grep -v 'could not be audited\|^Name *Skip Reason\|^-* -*$$' build/audit; tail -n 1 build/audit.log; \
	echo "$$(grep -c 'could not be audited' build/audit) of $$(grep -c == requirements.lock) packages are not known to the index"; exit $$found

matrix: $(READY) ## Run tests with the oldest and the newest packages that setup.cfg allows
	$(BIN)/nox

bench-extract: $(READY) .venv-peers/ready ## Compare the speed of extraction with torchvision and Keras (FLOWERS17=folder)
	$(BIN)/python benchmarks/extract.py "$(FLOWERS17)" bench

bench-gpu: $(READY) ## Compare the speed of extraction on a CUDA GPU with torchvision (FLOWERS17=folder)
	$(BIN)/python benchmarks/gpu.py "$(FLOWERS17)" bench

bench-heads: $(READY) .venv-peers/ready ## Compare the head search with GridSearchCV and others (FLOWERS17=folder)
	$(BIN)/python benchmarks/heads.py "$(FLOWERS17)" bench

bench-finetune: $(READY) .venv-peers/ready ## Compare fine-tuning with the Keras recipe (FLOWERS17=folder)
	$(BIN)/python benchmarks/finetune.py "$(FLOWERS17)" bench --compare

bench-layouts: $(READY) .venv-peers/ready ## Compare what featx, torchvision, datasets and Keras make of layouts of files
	rm -rf bench/layouts && mkdir -p bench
	$(BIN)/python benchmarks/layouts.py bench/layouts

.venv-peers/ready:
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet tensorflow-cpu h5py scikit-learn scikit-learn-intelex
	touch $@

# This environment takes 6 GB, because thingsvision needs torch 2.0. bench-extract also runs without it.
.venv-thingsvision/ready:
	test -x .venv-thingsvision/bin/python || $(PYTHON) -m venv .venv-thingsvision
	.venv-thingsvision/bin/python -m pip install --quiet thingsvision
	touch $@

clean: ## Remove everything that the targets created
	rm -rf .venv .venv-peers .venv-thingsvision demo bench build *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache
