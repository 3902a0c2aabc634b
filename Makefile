# `make demo` and `make test` each make the environment first, if it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Red digits are even and blue ones odd, but for 3 % of each class: the rare groups.
DEMO := --data digits --shift two-colours --bias 0.97 --ipc 10 --steps 300

# Where it is set, every process would compile all that it imports anew: seconds each.
unexport PYTHONDONTWRITEBYTECODE

# Large pages, of which a step that maps much memory takes fewer; glibc alone reads it.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: demo test thorough check lint format docs clean

demo: $(READY)
	rm -rf runs/demo-plain runs/demo-robust
	$(BIN)/rdd distill kip $(DEMO) --out runs/demo-plain
	$(BIN)/rdd distill kip $(DEMO) --robust --out runs/demo-robust
	$(BIN)/rdd compare runs/demo-plain runs/demo-robust --out runs/demo-robust/compare.png

test: $(READY)
	$(BIN)/python -m pytest

# The tests that `make test` leaves out, so that it stays short: of speed, memory and faults of machines, second looks.
thorough: $(READY)
	$(BIN)/python -m pytest -m thorough

# While working: the lint and the quick tests.
check: lint
	$(BIN)/python -m pytest -m "not slow and not thorough and not real_data"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Into site/, without network; a link or a name that leads nowhere is an error. The variable silences an announcement.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	# Without compiling it all: Python compiles what it imports.
	$(BIN)/python -m pip install -qq --no-compile --constraint constraints.txt --editable '.[test,docs,experiments]'
	$(BIN)/python -m pip install -qq --no-deps neural-tangents==0.6.5
	touch $(READY)

clean:
	rm -rf $(VENV) site
