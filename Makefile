# Everything runs in a virtual environment that the first target makes: `make test` is enough after a clone.
#
#   make test PYTHON=python3.12 ARGS="-k drain"

PYTHON ?= python3
VENV ?= .venv
# Processes that share the tests. Each has databases of its own on the one server; 0 runs everything in one process.
WORKERS ?= 2
ARGS ?=

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)
# The version is in its name, so that another PYTHON makes the environment anew instead of being ignored.
STAMP := $(VENV)/.ready-$(VERSION)
RUN := $(VENV)/bin/python -m
PIP := $(RUN) pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help setup test test-fast test-faults test-property test-mutation test-matrix test-browser test-queues test-clouds lint format templates demo demo-serve bench bench-full wheel clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  PYTHON=python3.12 chooses the Python, ARGS="..." goes to pytest, WORKERS=0 tests in one process.'

setup: $(STAMP) ## Make the virtual environment (every other target does it when needed)

test: $(STAMP) ## Run all tests, on a PostgreSQL server that is started for them
	$(RUN) pytest -n $(WORKERS) $(ARGS)

test-fast: $(STAMP) ## Run the tests in one process, those that failed last first, until the first failure
	$(RUN) pytest -n 0 --exitfirst --failed-first $(ARGS)

test-faults: $(STAMP) ## Kill drains, connections and servers for some minutes, and print what that did
	$(RUN) pytest -n 0 -p no:randomly tests/faults $(ARGS)

# SEED repeats a run: make test-property SEED=1234, with the number that the failed one printed.
ifndef SEED
SEED := $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
endif

test-property: $(STAMP) ## Let writers and drains do whatever they may at the same time, anew each time, for minutes
	@echo "seed: $(SEED)"
	HYPOTHESIS_PROFILE=thorough $(RUN) pytest -n 0 -p no:randomly --hypothesis-seed=$(SEED) tests/property $(ARGS) || \
		{ echo "To repeat it: make test-property SEED=$(SEED)" >&2; exit 1; }

test-queues: $(STAMP) $(VENV)/queues/.ready ## Let workers of Celery and of django-tasks-db delete 100,000 files
	PYTHONPATH=$(abspath $(VENV)/queues) $(RUN) pytest -n 0 -p no:randomly --capture=no tests/queues $(ARGS)

$(VENV)/queues/.ready: $(STAMP) tests/queues/requirements.txt
	@echo "Installing the queues into $(VENV)/queues"
	@$(PIP) install --no-deps --upgrade --target $(VENV)/queues -r tests/queues/requirements.txt
	@touch $@

test-clouds: $(STAMP) $(VENV)/clouds/.ready ## Delete from S3, Google Cloud and Azure, as real servers and emulators speak them
	PYTHONPATH=$(abspath $(VENV)/clouds) PGCLEANUP_TEST_NODE_MODULES=$(abspath $(VENV)/clouds/node_modules) \
		$(RUN) pytest -n 0 -p no:randomly tests/clouds $(ARGS)

$(VENV)/clouds/.ready: $(STAMP) tests/clouds/requirements.txt
	@echo "Installing the clouds into $(VENV)/clouds"
	@$(PIP) install --no-deps --upgrade --target $(VENV)/clouds -r tests/clouds/requirements.txt
	@# Azurite, for Azure, is an npm package; without npm its tests are skipped.
	@if command -v npm >/dev/null; then npm install --silent --no-save --prefix $(VENV)/clouds azurite@3.35.0 >/dev/null; fi
	@touch $@

test-mutation: $(STAMP) ## Switch off each safety step in turn, and see that a test notices
	$(RUN) tests.mutation $(ARGS)

# Playwright is large, and nothing else needs it: it is no development requirement. It drives the machine's own Chromium.
test-browser: $(STAMP) ## Use the admin in a real Chromium, and take the screenshots of the documentation
	@$(PIP) install -r tests/browser/requirements.txt
	$(RUN) pytest -n 0 -p no:randomly tests/browser $(ARGS)

test-matrix: $(STAMP) ## Run the tests on each PostgreSQL, Django and Python; PAIRS="14-5.2-3.10 18-6.1-3.13" chooses
	$(RUN) tests.matrix --workers $(WORKERS) --pairs "$(PAIRS)" $(ARGS)

lint: $(STAMP) ## Check style, format and types
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy

format: $(STAMP) ## Format the code and make the fixes that are safe
	$(RUN) ruff check --fix
	$(RUN) ruff format

templates: $(STAMP) ## List the digests of new and unreleased templates
	$(RUN) tests.released

demo: $(STAMP) ## Show in the terminal what it does
	$(RUN) demo

demo-serve: $(STAMP) ## The same, to look at in a browser
	$(RUN) demo --serve

bench: $(STAMP) $(VENV)/bench/.ready ## Measure what it costs, in some minutes; ARGS="draining" measures a part
	PYTHONPATH=$(abspath $(VENV)/bench) $(RUN) benchmarks $(ARGS)

bench-full: $(STAMP) $(VENV)/bench/.ready ## The same with as much as the targets name, into docs/performance.md
	PYTHONPATH=$(abspath $(VENV)/bench) $(RUN) benchmarks --full --write docs/performance.md $(ARGS)

$(VENV)/bench/.ready: $(STAMP) benchmarks/requirements.txt
	@echo "Installing what is measured beside it into $(VENV)/bench"
	@$(PIP) install --no-deps --upgrade --target $(VENV)/bench -r benchmarks/requirements.txt
	@touch $@

wheel: $(STAMP) ## Build the wheel into dist/
	$(RUN) build --wheel --no-isolation

clean: ## Remove the virtual environment and everything that was built
	rm -rf $(VENV) .matrix dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml requirements-dev.txt
	@[ -n "$(VERSION)" ] || { echo "There is no Python at '$(PYTHON)'. Install Python 3.10 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "'$(PYTHON)' is Python $(VERSION), and pgcleanup needs 3.10 or newer. Name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "'$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(VENV)/bin/python -c 'import pip, sys; sys.exit("%d.%d.%d" % sys.version_info[:3] != "$(VERSION)")' 2>/dev/null || \
		{ echo "Making $(VENV) with Python $(VERSION)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing the development requirements into $(VENV)"
	@$(PIP) install -r requirements-dev.txt
	@# hatchling is among the requirements: no isolated build, which would fetch it once more.
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@
