# Calls tools, holds no logic. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# venv makes python before pip: a folder without pip is one that was interrupted, and made anew.
HAS_PIP := $(BIN)/python -m pip --version >/dev/null 2>&1
PAYERS := tests/payers
# Tools with many dependencies of their own, which are none of Kite's.
AUDIT := .venv-audit
UV := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv
COMPILE := $(UV) pip compile --universal --generate-hashes --no-header --no-emit-index-url --quiet
export PYTHONUNBUFFERED := 1

.PHONY: help install lock image test-image env test-compose run down status smoke check lint types imports spelling drift test test-unit test-containers payers sbom audit-dependencies bench chaos openapi contracts clean test-k8s test-rules break-rules

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*## "} {printf "  make %-19s %s\n", $$1, $$2}'

run: install ## start Kafka, Valkey, a local chain and all services on this machine; Ctrl-C stops them
	@$(BIN)/kitectl up

smoke: install ## send one message through a running stack and print its journey (ARGS=--stats: memory, cold start)
	@$(BIN)/kitectl smoke $(ARGS)

down: install ## stop a stack that another terminal has started
	@$(BIN)/kitectl down

status: install ## what runs, and where
	@$(BIN)/kitectl status

test: install ## all tests, on a real Kafka, Valkey and ClickHouse engine that they start themselves
	@$(BIN)/python -m pytest $(ARGS)

test-unit: install ## tests without IO
	@$(BIN)/python -m pytest tests/unit tests/contracts $(ARGS)

test-rules: install ## promtool tests when the rules in deploy/observe tell somebody (needs Go or promtool 3; builds promtool once)
	@$(BIN)/python scripts/test_rules.py

break-rules: install ## break those rules one by one, some hundred times, and look whether a test sees it (ARGS='slo-api': some of them)
	@$(BIN)/python scripts/break_rules.py $(ARGS)

payers: install $(PAYERS)/node_modules/.installed ## the official x402 clients of npm pay a real Kite; `make test` has the Python one
	@$(BIN)/python -m pytest $(PAYERS) $(ARGS)

image: ## build the image that runs every service (needs Docker; PYTHON_IMAGE=... for another base)
	@docker build $(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE)) --tag kite:0.1.0 $(ARGS) .

test-image: install ## all services from the image, restricted as in production, against a local stack (after `make image`)
	@$(BIN)/python -m pytest tests/image $(ARGS)

env: ## write .env for docker-compose.yml, every secret drawn (ARGS="demo observe": the profiles)
	@$(PYTHON) scripts/write_env.py $(ARGS)

test-compose: install ## docker-compose.yml as a whole: a message, a payment, a restart (after `make image`; STAND_INS=1 where no registry is)
	@KITE_STAND_INS=$(STAND_INS) $(BIN)/python -m pytest tests/compose $(ARGS)

test-k8s: install ## deploy/k8s before a real API server, built from source by Go (the first time 20 minutes or more, then about five)
	@$(BIN)/python -m pytest tests/k8s $(ARGS)

sbom: $(AUDIT)/.installed ## write dist/kite.cdx.json, the list of all that is in the image (CycloneDX), from requirements-image.lock
	@mkdir -p dist
	@PYTHONWARNINGS=ignore::UserWarning $(AUDIT)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file dist/kite.cdx.json requirements-image.lock

audit-dependencies: $(AUDIT)/.installed ## ask the package index for known vulnerabilities of what is locked (ARGS="-s osv": another database)
	@$(AUDIT)/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off --requirement requirements-image.lock --requirement requirements.lock $(ARGS)

# The tests that break Kafka, Valkey and ClickHouse need those of the local stack.
test-containers: install ## the end-to-end tests with Kafka, Valkey and ClickHouse of docker-compose.yml as containers (needs Docker; STAND_INS=1 where no registry is)
	@KITE_STAND_INS=$(STAND_INS) $(BIN)/python -m pytest tests/e2e --containers --ignore tests/e2e/test_e2e_chaos.py $(ARGS)

check: lint types imports spelling drift ## everything that needs no running stack: style, types, borders, spelling, contracts, unit tests with coverage
	@$(BIN)/python -m pytest tests/unit tests/contracts -q --cov --cov-report=
	@$(BIN)/coverage report --include='*/domain/*,*/application/*' --skip-covered --fail-under=98

lint: install
	@$(BIN)/ruff check .

types: install
	@$(BIN)/mypy

imports: install
	@$(BIN)/lint-imports --no-logo

spelling: install
	@$(BIN)/codespell

drift: install
	@$(BIN)/python scripts/write_openapi.py --check
	@$(BIN)/python scripts/write_examples.py --check
	@$(BIN)/python scripts/write_schemas.py --check
	@$(BIN)/python scripts/write_metrics.py --check
	@$(BIN)/python scripts/write_alerts.py --check
	@$(BIN)/python scripts/write_dashboards.py --check
	@$(BIN)/python scripts/write_slo_tests.py --check
	@$(BIN)/python scripts/check_compose.py

bench: install ## measure this tree on this machine and write docs/benchmarks.md (ARGS=--quick: a minute, written nowhere)
	@$(BIN)/kitectl bench $(or $(ARGS),--write docs/benchmarks.md)

chaos: install ## break a Kite of its own in every way and see that it kept its promises (ARGS="--seed 7 --minutes 2 --faults kill,stop")
	@$(BIN)/kitectl chaos $(ARGS)

openapi: install ## write contracts/openapi.json from the code
	@$(BIN)/python scripts/write_openapi.py

contracts: install ## write contracts/examples and contracts/schemas from the code; never changes what a released version wrote
	@$(BIN)/python scripts/write_examples.py
	@$(BIN)/python scripts/write_schemas.py

install: $(VENV)/.installed ## install everything into the checkout (.venv); needs Python >= 3.11 and nothing else

$(VENV)/.installed: requirements.lock requirements-bootstrap.txt pyproject.toml
	@echo "install: python packages into $(VENV), as pinned in requirements.lock"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Kite needs Python >= 3.11, found %s: set PYTHON=/path/to/python3.11" % sys.version.split()[0])'
	@$(HAS_PIP) || $(PYTHON) -m venv --clear $(VENV) || { echo "install: could not create $(VENV); on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.txt
	@$(UV) pip sync --quiet --require-hashes requirements.lock requirements-bootstrap.txt
	@$(UV) pip install --quiet --no-deps -e .
	@touch $@

$(PAYERS)/node_modules/.installed: $(PAYERS)/package-lock.json $(PAYERS)/package.json
	@echo "payers: npm packages into $(PAYERS)/node_modules, as pinned in package-lock.json"
	@$(BIN)/python scripts/npm.py ci --prefix $(PAYERS) --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error
	@touch $@

$(AUDIT)/.installed: requirements-audit.lock $(VENV)/.installed
	@echo "audit: its tools into $(AUDIT), as pinned in requirements-audit.lock"
	@$(PYTHON) -m venv --clear --without-pip $(AUDIT)
	@VIRTUAL_ENV=$(CURDIR)/$(AUDIT) $(BIN)/uv pip sync --quiet --require-hashes requirements-audit.lock
	@touch $@

lock: ## resolve the newest allowed versions into requirements.lock
	@test -x $(BIN)/uv || { { $(HAS_PIP) || $(PYTHON) -m venv --clear $(VENV); } && $(BIN)/python -m pip install --quiet --require-hashes -r requirements-bootstrap.txt; }
	@$(COMPILE) --upgrade pyproject.toml --all-extras --group dev -o requirements.lock
	@$(COMPILE) pyproject.toml --extra facilitator --constraint requirements.lock -o requirements-image.lock
	@echo hatchling | $(COMPILE) --upgrade - -o requirements-build.lock
	@$(COMPILE) --upgrade --group audit -o requirements-audit.lock

clean: ## remove caches; .kite (data) and .venv stay
	@rm -rf $(AUDIT) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .import_linter_cache
