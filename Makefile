# Everything goes into .venv in this checkout; a second run installs nothing.
# Needs make, Python 3.11+ with venv (another one: make PYTHON=/path/to/python) and Linux on x86-64.

ARGS ?=
SUITES ?=
N ?=
SEED ?= 1
STEPS ?= 10000
WATCHED ?= 1000
STARTED := $(shell date +%s)
BIN := .venv/bin
LOCKED := requirements.lock requirements-dev.lock pyproject.toml .ci/environment
export PYTHON

.NOTPARALLEL:
.PHONY: help demo test check bench chaos image venv lock clean

help:
	@echo "make demo   liquidate on a local chain with the real Aave and Uniswap (ARGS='--json --borrowers 100')"
	@echo "make test   everything that must pass (SUITES='unit chain' for some of it)"
	@echo "make check  formatting, lint, types, import layers"
	@echo "make bench  measure, print, write build/bench.json (ARGS='folding screen' for some of it)"
	@echo "make chaos  faults between keeper and node (N=1000 SEED=7 for that many scenarios,"
	@echo "            after STEPS=10000 steps of the nonce machine and WATCHED=1000 margin calls)"
	@echo "make image  the Dockerfile's steps without Docker, and what they made"
	@echo "make venv   only the development environment"
	@echo "make lock   the lock files again, from pyproject.toml"
	@echo "make clean  remove .venv, build and tool caches"

demo: .venv/run.stamp
	@$(BIN)/keeper demo $(ARGS)

test: .venv/dev.stamp
	@$(BIN)/python -m tests.suites --since $(STARTED) $(SUITES)

check: .venv/dev.stamp
	@$(BIN)/python -m tests.suites lint types layers

bench: .venv/dev.stamp
	@$(BIN)/python -m tests.bench $(ARGS)

chaos: .venv/dev.stamp
ifdef N
	@$(BIN)/python -m tests.property.test_nonce_machine $(STEPS) $(SEED)
	@$(BIN)/python -m tests.margin_killed $(WATCHED) $(SEED)
	@$(BIN)/python -m tests.chaos --n $(N) --seed $(SEED)
else
	@$(BIN)/python -m tests.suites chaos
endif

image: .venv/dev.stamp
	@$(BIN)/python -m tests.tools.image_check

venv: .venv/dev.stamp

.venv/run.stamp: $(LOCKED)
	@.ci/environment run
	@touch $@

.venv/dev.stamp: $(LOCKED)
	@.ci/environment dev
	@touch $@

# The run lock first; the development lock keeps every version it chose.
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11
lock: .venv/dev.stamp
	@$(COMPILE) pyproject.toml -o requirements.lock
	@$(COMPILE) -c requirements.lock pyproject.toml --group dev -o requirements-dev.lock

clean:
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
