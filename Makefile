# The commands of README.md. On a fresh machine: python3 (3.11 or newer),
# python3-venv and make; everything else is put into .venv, pinned by hashes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test check format lint types readme container bench torture lock assets clean

help: ## Show what can be made
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1|/' | column -t -s '|'

run: $(VENV)/.runs ## Start authority and service, move a seed, check a code; Ctrl-C stops
	@$(BIN)/otpseal demo

test: $(VENV)/.tests ## Unit, property, contract, HTTP and command-line tests
	@# Many tests start programs: each would compile all modules where Python writes no bytecode.
	@$(BIN)/python -m compileall -q src
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: format lint types test readme ## Everything that must hold before a merge

format: $(VENV)/.tests
	$(BIN)/ruff format --check .

lint: $(VENV)/.tests
	$(BIN)/ruff check .

types: $(VENV)/.tests
	$(BIN)/mypy

readme: $(VENV)/.tests ## Run README's transcript and compare
	$(BIN)/python -m pytest -q tests/test_readme.py

container: $(VENV)/.tests ## Build and run the container for real (root, Debian)
	tests/container/run

bench: $(VENV)/.bench ## Measure against an empty endpoint, bare RSA, django-otp and others (needs wrk)
	$(BIN)/python bench/bench.py

torture: $(VENV)/.tests ## The tests of faults with full repetition counts
	OTPSEAL_TORTURE=1 $(BIN)/python -m pytest -q --timeout 3600 -m torture

lock: ## Pin requirements*.in anew (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --upgrade -q -o requirements.txt requirements.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -q -c requirements.txt -o requirements-dev.txt requirements-dev.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -q -c requirements-dev.txt -o requirements-bench.txt requirements-bench.in

assets: ## Bring the interactive page's files anew: make assets VERSION=5.35.0 (needs npm)
	scripts/vendor_swagger_ui.sh $(VERSION)

clean: ## Remove what was built; keeps .otpseal, the demo's keys and seeds
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. A stamp is touched last, so that a failed step is done again.

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "python3 is missing: install it (Debian: apt-get install python3 python3-venv)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "python3-venv is missing: install it (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "making $(VENV)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runs: requirements.txt pyproject.toml | $(BIN)/python
	@echo "installing what otpseal needs (pinned by hashes)"
	@$(PIP) install --require-hashes -r requirements.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.tests: requirements-dev.txt $(VENV)/.runs
	@echo "installing what the tests need (pinned by hashes)"
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

$(VENV)/.bench: requirements-bench.txt $(VENV)/.tests
	@echo "installing what the benchmark compares with (pinned by hashes)"
	@$(PIP) install --require-hashes -r requirements-bench.txt
	@touch $@
