# OmniNervous: `make demo` and `make test` are all that is needed on a fresh machine with Rust.

SHELL := /bin/bash
CARGO ?= cargo
PYTHON ?= python3
TARGET := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help demo test sim build check clean deps need-root need-cargo

help:
	@echo 'make demo    two nodes on this machine: ping, TCP, UDP and a look at the wire (root)'
	@echo 'make test    all tests; some load BPF programs and make network namespaces (root)'
	@echo 'make sim     whole fabrics in virtual time: SEEDS=100 FIRST=1 NODES=20 MINUTES=30'
	@echo 'make build   omni-engine and omni, optimised, in $(TARGET)/release'
	@echo 'make check   formatting and lints'
	@echo 'make clean   remove all that was built'
	@echo
	@echo 'demo, test, sim and build first install the Debian packages that are missing:'
	@echo 'scripts/install-deps.sh lists them. Rust comes from https://rustup.rs'

demo: need-root build
	$(PYTHON) lab/demo.py --programs '$(TARGET)/release'

test: need-root need-cargo deps
	cd lab && $(PYTHON) -m unittest discover -s tests -t .
	$(CARGO) test --workspace --locked --no-fail-fast
	$(CARGO) test -p omni-replay --locked --features loom --release --test loom

# What `make test` lives through is the first 50 seeds, for 10 minutes each.
SEEDS ?= 100
FIRST ?= 1
NODES ?= 20
MINUTES ?= 30

sim: need-cargo deps
	$(CARGO) run --profile sim --locked -p omni-sim -- --seeds '$(SEEDS)' --first '$(FIRST)' \
	    --nodes '$(NODES)' --minutes '$(MINUTES)'

build: need-cargo deps
	$(CARGO) build --release --locked -p omni-engine

check: need-cargo
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy -p omni-replay --locked --features loom --test loom -- -D warnings

clean: need-cargo
	$(CARGO) clean
	find lab -name __pycache__ -type d -prune -exec rm -rf {} +

deps:
	@scripts/install-deps.sh

need-root:
	@[ "$$(id -u)" -eq 0 ] || { \
	    echo 'This needs root: it loads BPF programs and makes network namespaces.' >&2; \
	    echo 'Try: sudo env "PATH=$$PATH" make $(MAKECMDGOALS)' >&2; exit 1; }

need-cargo:
	@command -v $(CARGO) >/dev/null || { \
	    echo 'There is no cargo: install Rust from https://rustup.rs, or put it into PATH.' >&2; \
	    exit 1; }
