# Everything a newcomer types. `make` alone lists it.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
VENV ?= .venv
# A room full of workers only slows the real servers down that the tests start.
PYTEST_ARGS ?= -q -n logical --maxprocesses 8 --dist worksteal

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
COMPILE_TRANSLATIONS := $(BIN)/pybabel --quiet compile --directory demo/webapp1/locale --domain django

.DEFAULT_GOAL := help
.PHONY: help serve test check bench docs clean

help:  ## show this list
	@echo "Yamabiko. What you can type:"
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
	@echo "Settings: PORT=$(PORT) HOST=$(HOST) PYTHON=$(PYTHON), for instance: make serve PORT=9000"

serve: $(VENV)/.demo  ## prepare everything and serve the demo site
	@$(BIN)/python demo/manage.py migrate --verbosity 0
	@$(COMPILE_TRANSLATIONS)
	@exec $(BIN)/yamabiko serve webapp1.asgi:application --app-dir demo --host $(HOST) --port $(PORT)

test: $(VENV)/.dev  ## prepare everything and run the tests
	@$(COMPILE_TRANSLATIONS)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.dev docs  ## lint, types, container files, documentation
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml
	@echo "All checks passed."

bench: $(VENV)/.dev  ## measure: connections, deliveries, memory
	@$(BIN)/python -m bench

docs: $(VENV)/.docs  ## build the documentation into docs/_build/html
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs docs/_build/html
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html -D language=ja docs docs/_build/html/ja
	@echo "Documentation: docs/_build/html/index.html"

clean:  ## remove the environment and everything that was built
	@rm -rf $(VENV) build dist docs/_build .coverage .coverage.* htmlcov
	@rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Each stamp says: this extra is installed as pyproject.toml asks. Newer pyproject.toml, new installation.
$(VENV)/.demo $(VENV)/.dev $(VENV)/.docs: $(VENV)/.%: pyproject.toml | $(BIN)/python
	@echo "Installing what '$*' needs into $(VENV) (once; a minute or two) ..."
	@$(PIP_INSTALL) --editable '.[$*]'
	@touch $@

# Debian takes ensurepip out of Python; its own pip can still fill an environment.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Yamabiko needs Python 3.11 or newer, which '$(PYTHON)' is not. Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Creating the environment $(VENV) ..."
	@{ $(PYTHON) -m venv --clear $(VENV) || { \
	     $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	     $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check pip; }; \
	} >/dev/null 2>&1 || { rm -rf $(VENV); \
	  echo "'$(PYTHON)' cannot create an environment here. On Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
