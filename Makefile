# Everything runs in .venv, which `make setup` builds; Python >= 3.10, a C++ compiler and make are all it needs.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: setup test demo clean

setup: .venv/.stamp

.venv/.stamp: pyproject.toml .ci/constraints.txt
	@echo "setting up .venv (a few minutes)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq "$(TORCH)"
	$(BIN)/pip install -qq -c .ci/constraints.txt -e ".[dev]"
	touch $@

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest -q

demo: setup
	$(BIN)/geo3d demo out=runs/demo

clean:
	rm -rf .venv build dist runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
