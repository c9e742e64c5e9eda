# fastmta: `make demo` shows the server at work, `make test` proves it; both do all the set-up.

PYTHON   ?= python3
MINUTES  ?= 30
VENV     := .venv
BIN      := $(VENV)/bin
DEPS     := $(VENV)/.dependencies
BUILT    := $(VENV)/.built
SOURCES  := setup.py $(wildcard ext/*/*.pyx ext/*/*.pxd ext/*/*.h ext/*/*.c ext/pxd/*/*.pxd)
CHECKED  := fastmta bench tests setup.py
.PHONY: demo test test-long bench charts lint build packages clean help

help:
	@echo "make demo                 build, start the server on loopback, relay a small load"
	@echo "make test                 lint, types and every test (at most 12 minutes on 2 cores)"
	@echo "make test-long MINUTES=n  the random harnesses, resumed where the last run ended"
	@echo "make bench                Postfix and fastmta in turn, a table and a JSON file"
	@echo "make charts               redraw docs/charts with the simulator"
	@echo "make lint | build | clean"

demo: build
	@$(BIN)/fastmta demo

test: packages lint
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not long" --durations=15

test-long: packages build
	@FASTMTA_LONG_MINUTES=$(MINUTES) $(BIN)/python -m pytest -m long -s

bench: packages build
	@$(BIN)/fastmta bench $(BENCH)

charts: build
	@$(BIN)/python -m fastmta.lab.simulate docs/charts

lint: build
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy --strict
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cython-lint ext

build: $(BUILT)

packages:
	@.ci/packages $(PYTHON)

$(DEPS): pyproject.toml
	@.ci/packages --build $(PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fastmta needs Python 3.11 or newer: make PYTHON=python3.11 ... (and rm -r $(VENV))"; exit 1; }
	@echo "installing dependencies into $(VENV)"
	@$(BIN)/python .ci/requirements.py | xargs -d '\n' $(BIN)/python -m pip install -q --upgrade-strategy only-if-needed
	@touch $@

$(BUILT): $(DEPS) $(SOURCES)
	@echo "compiling"
	@flock $${TMPDIR:-/tmp}/fastmta-build.lock $(BIN)/python setup.py -q build_ext --inplace
	@test -x $(BIN)/fastmta-sendmail || $(BIN)/python -m pip install -q --no-build-isolation --no-deps --config-settings editable_mode=compat -e .
	@touch $@

clean:
	rm -rf build dist *.egg-info $(BUILT) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find fastmta ext \( -name '*.so' -o -name '*.c' -path 'ext/*' \) -delete
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
