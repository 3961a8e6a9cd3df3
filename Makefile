# Everything sets itself up: git, make and Python 3.11 or later are enough.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
UV = $(shell command -v uv || echo $(BIN)/uv)
READY := $(VENV)/.ready

.PHONY: demo test test-all test-matrix kill lint format bench fidelity constraints clean

demo: $(READY)
	@$(BIN)/costmeter demo

test: $(READY)
	@$(BIN)/python -m pytest -m "not slow"

test-all: $(READY)
	@$(BIN)/python -m pytest

# The suite against several LiveKit versions; VERSIONS="1.5.17 newest" picks some.
test-matrix: $(READY)
	@$(BIN)/python -m tests.matrix $(VERSIONS)

# 1,000 writers and 200 shippers killed over a million records, into every store; KILLS=100 is what `make test-all` runs.
KILLS ?= 1000
kill: $(READY)
	@COSTMETER_TEST_KILLS=$(KILLS) $(BIN)/python -m pytest -s tests/delivery/test_kills_everywhere.py

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_architecture.py

format: $(READY)
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

# All of it takes half an hour and 7 GB of temporary files; PARTS="report reconcile" runs these alone.
bench: $(READY)
	@$(BIN)/python -m tests.bench $(PARTS)

fidelity: $(READY)
	@$(BIN)/python -m tests.fidelity

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed" >&2; exit 1; }
	@echo "setting up $(VENV) (once; a minute or less)" >&2
	@$(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --compile-bytecode --require-hashes -r constraints.txt
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

constraints: $(READY)
	@VIRTUAL_ENV=$(VENV) $(UV) pip compile --quiet --universal --upgrade --generate-hashes --no-header --no-annotate \
		--python-version 3.11 --all-extras --group dev pyproject.toml -o constraints.txt

clean:
	@rm -rf $(VENV) .matrix .pytest_cache .mypy_cache .ruff_cache .hypothesis
