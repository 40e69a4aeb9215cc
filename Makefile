# perdure: each goal does the set-up it needs, once; a second call goes straight to its job.
#
#   make demo     store this machine's packages as objects, in DEMO (default: demo/)
#   make test     the Rust tests and the Python tests
#   make lint     formatters, linters, types, stubs, import layers
#   make crash    power losses, failing calls and random steps, CAMPAIGN times as many as in make test
#   make races    the engine's threads in all orders with a few preemptions, CAMPAIGN more than in make test
#   make kill     a real program, killed or let down at each system call that changes a file (strace)
#   make model    three members against a plain model, CAMPAIGN times 500 steps
#   make soak     threads, members, processes and kills, and a checker of their history, CAMPAIGN times
#   make flip     every byte of a database of a megabyte changed, or PERDURE_FLIP of them
#   make mutate   damaged records and export files, CAMPAIGN times
#   make fuzz     damaged files and noise for every parser, CAMPAIGN times as many
#   make bench    perdure side by side with stock ZODB and others
#   make setup    only the set-up: .venv with perdure, built in release mode
#   make wheel    a wheel in dist/
#   make clean    remove what was built
#
# Needed on the machine: Python 3.10 or later, Rust, a C compiler. The rest comes from PyPI and crates.io.

PYTHON ?= python3
JOBS ?= 2
DEMO ?= demo
PYTEST_ARGS ?=
BENCH_ARGS ?= --scale 0.1

VENV := .venv
BIN := $(abspath $(VENV)/bin)
STAMPS := $(VENV)/.stamps
BUILD_SOURCES := $(shell find crates packaging -type f) Cargo.toml Cargo.lock pyproject.toml

# What maturin sets when it calls cargo. Set for every cargo call, or each caller would rebuild what the other built.
export PYO3_PYTHON := $(BIN)/python
export PYO3_BUILD_EXTENSION_MODULE := 1
export CARGO_BUILD_JOBS ?= $(JOBS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1

.PHONY: help setup setup-test demo test test-rust test-python lint lint-rust lint-python format bench wheel clean crash fuzz races kill model soak flip mutate
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

setup: $(STAMPS)/built
setup-test: $(STAMPS)/built $(STAMPS)/test

demo: setup
	@$(BIN)/perdure demo $(DEMO)

test: test-rust test-python

test-rust: $(STAMPS)/venv
	cargo test --workspace --quiet
	cargo test --package perdure-engine --features races --test races --quiet

test-python: setup-test
	$(BIN)/python -m pytest -n $(JOBS) $(PYTEST_ARGS)

crash: setup-test
	PERDURE_CAMPAIGN=$(CAMPAIGN) cargo test --release -p perdure-engine --test engine -- faults:: joint:: model::
	PERDURE_CAMPAIGN=$(CAMPAIGN) $(BIN)/python -m pytest -n $(JOBS) tests/fault/test_power_loss.py $(PYTEST_ARGS)

races: setup-test
	PERDURE_RACES=all PERDURE_CAMPAIGN=$(CAMPAIGN) cargo test --release --package perdure-engine --features races --test races -- --nocapture
	PERDURE_RACES=all $(BIN)/python -m pytest tests/property/test_orders.py $(PYTEST_ARGS)

kill: setup-test
	@command -v strace >/dev/null || { echo "make kill needs strace: apt-get install strace" >&2; exit 1; }
	PERDURE_KILL=all $(BIN)/python -m pytest -n $(JOBS) tests/fault/test_kill.py $(PYTEST_ARGS)

model: setup-test
	PERDURE_CAMPAIGN=$(CAMPAIGN) $(BIN)/python -m pytest tests/property/test_members.py $(PYTEST_ARGS)

soak: setup-test
	PERDURE_CAMPAIGN=$(CAMPAIGN) $(BIN)/python -m pytest tests/property/test_isolation.py tests/property/test_memory.py $(PYTEST_ARGS)

flip: setup-test
	PERDURE_FLIP=$${PERDURE_FLIP:-all} cargo test --release --package perdure-engine --test engine -- --nocapture flips::
	PERDURE_FLIP=$${PERDURE_FLIP:-all} $(BIN)/python -m pytest -n $(JOBS) tests/fault/test_flip.py $(PYTEST_ARGS)

mutate: setup-test
	PERDURE_CAMPAIGN=$(CAMPAIGN) $(BIN)/python -m pytest tests/fault/test_mutations.py $(PYTEST_ARGS)

fuzz: $(STAMPS)/venv
	PERDURE_CAMPAIGN=$(CAMPAIGN) cargo test --release -p perdure-engine --test engine -- hostile::

lint: lint-rust lint-python

lint-rust: $(STAMPS)/venv
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings

lint-python: setup-test
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest perdure._native --mypy-config-file pyproject.toml \
		--allowlist .ci/stubtest-allowlist --ignore-unused-allowlist
	$(BIN)/lint-imports --no-logo

format: setup-test
	cargo fmt --all
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(STAMPS)/built $(STAMPS)/bench
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

wheel: $(STAMPS)/venv
	$(BIN)/maturin build --release --out dist

$(STAMPS)/venv:
	@command -v cargo >/dev/null || { echo "perdure is built with Rust: install it from https://rustup.rs, then try again." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "perdure needs Python 3.10 or later: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade "pip>=25.1" "maturin>=1.9.4,<2"
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/test: $(STAMPS)/venv pyproject.toml
	$(BIN)/python -m pip install --group dev
	@touch $@

$(STAMPS)/bench: $(STAMPS)/venv pyproject.toml
	$(BIN)/python -m pip install --group bench
	@touch $@

$(STAMPS)/built: $(STAMPS)/venv $(BUILD_SOURCES)
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --quiet
	@touch $@

clean:
	rm -rf $(VENV) target dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src -name '*.so' -delete
