# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LS_VENV := .venv-labelstudio
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo demo-stop test test-slow soak check fuzz bench labelstudio clean

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[train,postgres,dev]'
	touch $@

$(LS_VENV)/.ready: Makefile
	$(PYTHON) -m venv $(LS_VENV)
	$(LS_VENV)/bin/pip install -q label-studio==1.23.2
	touch $@

labelstudio: $(LS_VENV)/.ready ## Install Label Studio in its own environment.

demo: $(VENV)/.ready $(LS_VENV)/.ready ## Run the main loop with a real Label Studio (KEEP=1 leaves it running, CATALOG=dir).
	$(BIN)/python -m tests.e2e.demo $(if $(CATALOG),--catalog $(CATALOG)) $(if $(KEEP),--keep)

demo-stop: ## Stop what `make demo KEEP=1` left running.
	$(BIN)/python -m tests.e2e.demo --stop

check: $(VENV)/.ready ## ruff, mypy, import-linter.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## Checks and tests (under 10 minutes on 2 cores).
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/.ready $(LS_VENV)/.ready ## The tests that need minutes or a real Label Studio.
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

soak: $(VENV)/.ready $(LS_VENV)/.ready ## Ten minutes of people, lost webhooks and kills, then a comparison with Label Studio's export.
	$(BIN)/python -m tests.soak --minutes 10

fuzz: $(VENV)/.ready ## Look for inputs that break us, for SECONDS (default 60) each way: payloads, photos, the API, every parser.
	$(BIN)/python -m tests.fuzz payloads --seconds $(or $(SECONDS),60)
	$(BIN)/python -m tests.fuzz photos --seconds $(or $(SECONDS),60)
	$(BIN)/python -m tests.fuzz api --seconds $(or $(SECONDS),60)
	HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest -n 2 tests/property/test_parsers.py

bench: $(VENV)/.ready ## Show the benchmarks; each is run by hand.
	@ls tests/benchmarks/*.py | grep -v __init__ | sed 's|^|$(BIN)/python |'

clean: ## Remove environments, caches and demo data.
	rm -rf $(VENV) $(LS_VENV) .demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
