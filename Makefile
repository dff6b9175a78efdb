# `make test` and `make demo` work on a machine that has only Python 3.11+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: test demo check setup slow clean

test: $(VENV)/.test-done check

demo: $(VENV)/.demo-done
	$(BIN)/speechssl demo $(ARGS)

check:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -m "not slow and not gpu" --numprocesses auto --dist loadfile

slow: $(VENV)/.test-done
	$(BIN)/python -m pytest -m slow

setup: $(VENV)/.test-done

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "speechssl needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# The versions of torch are pinned to the torchaudio pair in both sets, so that neither undoes the other.
$(VENV)/.test-done: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.demo-done

$(VENV)/.demo-done: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
