# Each target prepares .venv as far as it needs it; a stamp says what is installed.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
RUNTIME := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
SERVING := $(VENV)/serving.stamp
DEV := $(VENV)/dev.stamp

.PHONY: demo test lint types audit bench default-bundle clean

demo: $(SERVING)
	$(VENV)/bin/phosphene demo

test: $(DEV)
	$(VENV)/bin/python -m pytest

lint: $(DEV)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(DEV)
	$(VENV)/bin/mypy

# is anything that we install known to be unsafe? asks the network, so it is no part of `test`
audit: $(DEV)
	$(PIP) install -q pip-audit
	$(VENV)/bin/pip-audit --skip-editable

bench: $(SERVING)
	$(VENV)/bin/phosphene bench

# the shipped bundle again, from nothing: half an hour on two cores, goes on where a kill left it
default-bundle: $(DEV)
	$(VENV)/bin/python -m training.default_bundle

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "found $$($(PYTHON) -V 2>&1), expected Python 3.11 or newer; name one with make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(SERVING): pyproject.toml | $(VENV)/bin/python
	$(PIP) install -q -e ".[$(RUNTIME)]"
	$(VENV)/bin/phosphene doctor
	touch $@

# torch first, by its exact version: what follows then finds it there and does not choose another
$(DEV): pyproject.toml | $(VENV)/bin/python
	$(if $(filter cpu,$(RUNTIME)),$(PIP) install -q torch==2.13.0)
	$(PIP) install -q -e ".[$(RUNTIME),train,dev]"
	touch $(SERVING) $@
