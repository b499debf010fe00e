# make demo: a model from real pairs. make test: what has to hold before a change is taken. Needs Python 3.11 or newer and a package index.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCHMARKS := step gradient_cache tiled_loss decoding data_check objectives stored_teachers compress_speed embedding
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help demo test test-slow test-e2e test-gpu bench docs frozen lint format install
.DEFAULT_GOAL := help

help:
	@echo "make demo       train on the shipped pairs, evaluate, write runs/demo/report.html"
	@echo "make test       lint, types and the suite"
	@echo "make test-slow  tests marked slow        make test-e2e   tests marked e2e"
	@echo "make test-gpu   tests marked gpu, on a machine that has one"
	@echo "make bench      speed against peers      make frozen     pretrained parts that run offline"
	@echo "make docs       the documentation, site/index.html"
	@echo "make lint       ruff and pyright alone   make format     let ruff mend what it can"

install: $(STAMP)

# The stamp makes every later call quick. A half-made environment (no working pip) is made anew.
$(STAMP): requirements-dev.txt pyproject.toml
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  for python in "$$PYTHON" python3.11 python3.12 python3.13 python3 python; do \
	    if [ -n "$$python" ] && "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then echo "No Python 3.11 or newer with venv was found; install one, or run make PYTHON=/path/to/python." >&2; exit 1; fi; \
	  echo "Making $(VENV) with $$($$found --version)"; \
	  rm -rf $(VENV) && "$$found" -m venv $(VENV); \
	fi
	@echo "Installing requirements-dev.txt into $(VENV) (the first time takes some minutes)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements-dev.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/frugalclip demo --out runs/demo

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --threads 2

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

test: lint
	$(PYTEST) -n 2

test-slow: $(STAMP)
	$(PYTEST) -m slow --timeout 1200

test-e2e: $(STAMP)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade --target $(VENV)/loggers -r requirements-loggers.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade --no-deps --target $(VENV)/clients -r requirements-clients.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade --no-deps --target $(VENV)/frozen -r requirements-frozen.txt
	@mkdir -p $(VENV)/node && echo '{"type": "module"}' > $(VENV)/node/package.json
	@if command -v npm > /dev/null; then ONNXRUNTIME_NODE_INSTALL=skip npm install --prefix $(VENV)/node --no-audit --no-fund --silent onnxruntime-node@1.30.0 @huggingface/transformers@4.3.2; fi
	PYTHONPATH=$(abspath $(VENV))/frozen$${PYTHONPATH:+:$$PYTHONPATH} FRUGALCLIP_LOGGERS=$(VENV)/loggers FRUGALCLIP_CLIENTS=$(VENV)/clients FRUGALCLIP_NODE=$(abspath $(VENV))/node $(PYTEST) -m e2e --timeout 1200

test-gpu: $(STAMP)
	FRUGALCLIP_TEST_GPU=1 $(PYTEST) -m gpu --timeout 600

bench: $(STAMP)
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py; done; $(BIN)/python benchmarks/page.py

# Nothing is downloaded: theme and fonts are in the wheels, or the reader's own.
docs: $(STAMP)
	@$(BIN)/python scripts/reference_pages.py
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs site
	@echo "Open site/index.html"

frozen: $(STAMP)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -r requirements-frozen.txt
	@$(BIN)/frugalclip doctor
