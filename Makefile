# Two commands need nothing but python3 and make:  `make demo` and `make test`.
# Each makes .venv when it is missing, and makes it up to date when pyproject.toml or constraints.txt changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# One thread per process: two processes with two threads each on two cores are several times slower than with one each.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test check bench clean install

help:  ## show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
	@echo
	@echo "Options: PYTHON=python3.12 picks the interpreter for .venv; ARGS='--quick' is passed on to demo, test and bench."

demo: $(STAMP)  ## the main job: build, measure, train, serve, play live against every baseline, report
	@echo "== drlctl demo $(ARGS)"
	@$(BIN)/drlctl demo $(ARGS)

test: $(STAMP)  ## every test
	@echo "== pytest $(ARGS)"
	@$(BIN)/python -m pytest -n 2 $(ARGS)

check: $(STAMP)  ## lint, types and the import rules
	@echo "== ruff check"
	@$(BIN)/ruff check .
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== lint-imports"
	@$(BIN)/lint-imports

bench: $(STAMP)  ## the benchmarks; prints ratios measured in one run
	@echo "== benchmarks $(ARGS)"
	@$(BIN)/python -m benchmarks $(ARGS)

install: $(STAMP)  ## only make .venv

clean:  ## remove .venv, caches and build products; runs/ and the model cache stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) here; install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1); drlctl needs Python 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 1; }
	@test -x $(BIN)/python || { echo "== making $(VENV) with $$($(PYTHON) -V)"; $(PYTHON) -m venv $(VENV); }
	@test -x $(BIN)/pip || { echo "error: $(VENV) has no pip; on Debian: apt-get install python3-venv, then make clean" >&2; exit 1; }
	@echo "== installing drlctl and its extras into $(VENV) (about 1 GB; the first time takes some minutes)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[train,report,dev]' -c constraints.txt
	@touch $@
