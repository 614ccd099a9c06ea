# The two commands of a fresh machine (Debian 12, Python 3.11, pip): `make demo` and `make test`.
# Everything is installed into .venv; nothing outside the checkout is touched but the cache of real test models.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint docs bench fuzz clean
.DEFAULT_GOAL := test

# The CPU build of PyTorch first, so that nothing after it asks for a larger one.
$(STAMP): pyproject.toml hatch_build.py src/assay/packing/_planes.c
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(STAMP)
	@$(BIN)/python tools/demo.py

# Two workers: the suite is made for small machines. Whoever is done takes over what the other has not begun, so that no
# long file is waited for. Tests that need root or real servers run in .ci/run. Tests that kill processes do so a few
# times; ASSAY_KILLS=100 says how often instead, and ASSAY_MEMORY_GIB how much is moved where memory is measured.
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not root"

lint: $(STAMP)
	$(BIN)/ruff check src tests tools benchmarks hatch_build.py
	$(BIN)/ruff format --check src tests tools benchmarks hatch_build.py
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/house.py --check
	$(BIN)/python tools/reference.py --check

docs: $(STAMP)
	$(BIN)/python tools/house.py
	$(BIN)/python tools/reference.py

bench: $(STAMP)
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# Each target for FUZZ_SECONDS; FUZZ_TARGETS names some of them. Guided by coverage where atheris has a wheel.
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?=
fuzz: $(STAMP)
	test $(VENV)/fuzz/made -nt pyproject.toml || { $(BIN)/python -m venv $(VENV)/fuzz \
	  && $(VENV)/fuzz/bin/python -m pip install --quiet --editable ".[lz4,sign]" "atheris==3.0.0" \
	  && touch $(VENV)/fuzz/made; } \
	  || { rm -rf $(VENV)/fuzz; echo "no atheris here: fuzzing by mutation"; }
	$(BIN)/python tools/fuzz.py --seconds $(FUZZ_SECONDS) $(FUZZ_TARGETS)

clean:
	rm -rf $(VENV) .demo build dist
