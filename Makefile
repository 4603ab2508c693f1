# Two commands set everything up: `make run` and `make test`. Each makes .venv if there is none.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: run test test-slow check bench clean

run: $(READY)  ## the main job: an ensemble on scikit-learn's digits, on local Ray
	$(BIN)/python -m distclust.run

test: $(READY)  ## the quick tests, in two processes
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(READY)  ## the rest, in two processes, of which one has all that start Ray
	$(BIN)/python -m pytest -m slow -n 2 --dist loadgroup

check: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## the ratios that the README promises
	$(BIN)/python benchmarks/ratios.py

clean:  ## everything that was made here
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "distclust needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; say which with make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)
