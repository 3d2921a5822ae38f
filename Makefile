# The whole project in a few words: make setup | demo | test | proof | lint | clean
PYTHON ?= python3
BIN := .venv/bin

# Tests start python often: modules are compiled once, and nothing is left beside the sources.
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test proof lint docs format clean

help:
	@echo "make demo    compile and check a small model, on this machine alone"
	@echo "make test    linters and the quick tests (installs the cross compiler and the emulator where it may)"
	@echo "make proof   the same tests with many more generated cases; writes bench/proof.md"
	@echo "make lint    ruff, mypy, and pyright where node exists"
	@echo "make docs    write the reference of all passes"
	@echo "make format  let ruff put the code in order"

# Two stamps: the demo needs the core alone, which installs in half the time.
.venv/core: pyproject.toml
	@$(PYTHON) -c 'import ensurepip' || { echo "make: $(PYTHON) cannot create environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip --disable-pip-version-check install --quiet --editable .
	@touch $@

.venv/full: .venv/core
	$(BIN)/pip --disable-pip-version-check install --quiet --editable '.[test,dev,mobile]'
	@touch $@

setup: .venv/full

# int8 C for this machine, then the compiled program against the reference interpreter on images that it has not seen.
demo: .venv/core
	$(BIN)/planish compile examples/digits/dscnn.onnx --target c --dim N=1 --quantize int8 \
		--calib examples/digits/calib.npz -o build/demo
	$(BIN)/planish verify build/demo --data examples/digits/eval.npz
	$(BIN)/planish report build/demo

test: setup
	tools/install-cross-tools.sh
	$(MAKE) --no-print-directory ruff mypy
	$(BIN)/pytest -n 2 --dist worksteal

# Within an hour on two cores; what was counted is in bench/proof.md.
proof: setup
	@mkdir -p build
	PLANISH_PROFILE=proof $(BIN)/pytest -n 2 --dist worksteal -o junit_family=xunit1 --junitxml build/proof.xml
	$(BIN)/python bench/proof.py build/proof.xml --out bench/proof.md

.PHONY: ruff mypy pyright
lint: ruff mypy pyright

ruff: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

mypy: setup
	$(BIN)/mypy -p planish

pyright: setup
	@if command -v node >/dev/null; then $(BIN)/pyright; else echo "pyright: skipped, there is no node here"; fi

docs: setup
	$(BIN)/python tools/passes_page.py
	$(BIN)/python tools/operators_page.py

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf build dist .venv
