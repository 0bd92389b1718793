PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help env demo quick test nightly golden check format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(STAMP) ## create .venv with all dependencies (PYTHON=python3.12 chooses the interpreter)

$(STAMP): pyproject.toml constraints.txt
	@printf '== environment\n'
	@if [ ! -x $(BIN)/pip ]; then \
	  command -v $(PYTHON) >/dev/null || { \
	    echo "$(PYTHON) was not found: install Python 3.11 or 3.12, or name one: make env PYTHON=/path/to/python" >&2; exit 1; }; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { \
	    echo "tti needs Python 3.11 or 3.12, but $(PYTHON) is $$($(PYTHON) -V 2>&1): make env PYTHON=python3.12" >&2; exit 1; }; \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) cannot create virtual environments (no ensurepip): install your system's python3-venv package, or name another Python: make env PYTHON=/path/to/python" >&2; exit 1; }; \
	  echo "creating .venv with $$($(PYTHON) -V)"; \
	  $(PYTHON) -m venv .venv; \
	fi
	@echo "installing tti and what it needs into .venv (the first time takes minutes)"
	@$(BIN)/pip install -qq --no-input --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: env ## train and evaluate the demo, try the metrics on a small court, and report: runs/demo/report.html
	$(BIN)/python -m tti.train -m experiment=demo
	$(BIN)/python -m tti.evaluate run=runs/demo 'subjects=[trained,rotation,random_init]' \
	  'parts=[performance,geometry,utilisation,selectivity,contexts,effects,ground_truth,causality]'
	$(BIN)/python -m tti.court trial=small folder=runs/demo/court \
	  'evaluation=[selectivity,utilisation,geometry,ground_truth]'
	$(BIN)/python -m tti.report runs=runs/demo court=runs/demo/court/court.md

# Of the folders that are one package's arithmetic each.
QUICK := $(addprefix tests/,autoencoders callbacks constraints interventions loggers metrics models modules regularizers weightings)

quick: env ## the unit tests of what is trained: under a minute
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m 'not slow and not nightly' $(QUICK)

# One thread for each of the two workers: with more, PyTorch's threads compete for the cores.
test: check ## everything that CI runs: the checks, then the tests
	@printf '== tests\n'
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

nightly: env ## the tests that take long: other instruction sets, kills at many places, all experiments, the notebook
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m nightly

golden: env ## recompute the figures of the pinned runs (tests/golden/golden.json); explain why in the commit
	$(BIN)/pytest tests/golden --rewrite-golden

check: env ## lint, format, types, layers
	@printf '== checks\n'
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: env ## format the code and apply ruff's automatic fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove caches and build output; .venv and runs/ stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
