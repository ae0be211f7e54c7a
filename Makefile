# Everything runs in .venv, which `make setup` builds; Python >= 3.10, a C++ compiler and make are all it needs.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin

KERNELS := geo3d/ops/native

MUTANTS ?= --number 10 --seed 0

.PHONY: setup test torture mutants demo bench sanitize clean

setup: .venv/.stamp

.venv/.stamp: pyproject.toml .ci/constraints.txt $(wildcard $(KERNELS)/src/*) $(KERNELS)/CMakeLists.txt
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
	$(BIN)/pytest -q -n auto --dist loadfile

# All torture tests: kills at every file event, mutated files, wrong commands, damaged checkpoints. `make test` runs a
# small part of them. One to two hours on two cores. SEED=n draws other cases; tests/torture/run.py runs one campaign or
# one case.
SEED ?= 0
torture: setup
	$(BIN)/python tests/torture/run.py --large --seed $(SEED)

# Makes small changes to the sources and reports those that no test notices; about an hour. MUTANTS="--written" repeats
# the changes that tests once missed.
mutants: setup
	$(BIN)/python tests/mutants/run_mutants.py $(MUTANTS)

# Makes every table of geo3d/ops/BENCHMARKS.md on this machine; about half an hour, best on an idle machine.
bench: setup
	$(BIN)/pip install -qq -c .ci/constraints.txt -e ".[bench]"
	for what in kernels encoder train segment room data scaling; do PYTHONPATH=tests $(BIN)/python -m speed $$what || exit 1; done

# Runs the compiled kernels' own tests under AddressSanitizer and UBSan, then under ThreadSanitizer.
sanitize:
	for checks in address,undefined thread; do \
	  cmake -S $(KERNELS) -B build/sanitize-$$checks -DGEO3D_SANITIZE=$$checks && \
	  cmake --build build/sanitize-$$checks --parallel && \
	  for test in build/sanitize-$$checks/sanitized_*; do echo $$test && $$test || exit 1; done || exit 1; \
	done

demo: setup
	$(BIN)/geo3d demo out=runs/demo

clean:
	rm -rf .venv build dist runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
