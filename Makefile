# Calls tools, holds no logic. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONUNBUFFERED := 1

.PHONY: help install lock run up down smoke check lint types imports test test-unit bench openapi contracts clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk 'BEGIN {FS = ":.*## "} {printf "  make %-10s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## install everything into the checkout (.venv, .kite); needs Python >= 3.11 only

$(VENV)/.installed: requirements.lock requirements-bootstrap.txt pyproject.toml
	@echo "install: python packages into $(VENV) (pinned in requirements.lock)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Kite needs Python >= 3.11, found %s: set PYTHON=/path/to/python3.11" % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "install: could not create $(VENV); on Debian: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-bootstrap.txt
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation-package none -e .
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-bootstrap.txt
	@touch $@
