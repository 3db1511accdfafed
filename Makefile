# OmniNervous: `make demo` and `make test` are all that is needed on a fresh machine with Rust.

SHELL := /bin/bash
CARGO ?= cargo
PYTHON ?= python3
TARGET := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help demo lab lab-100 test count sim fuzz build build-perf check clean deps need-root \
    need-cargo

help:
	@echo 'make demo    three nodes and a Nucleus on this machine: ping, TCP, UDP, the wire (root)'
	@echo 'make lab     ten nodes: all-reduce, iperf3, latency, ARP, chaos, beside others; a report (root)'
	@echo 'make lab-100 the same with a hundred nodes (root)'
	@echo 'make test    all tests; some load BPF programs and make network namespaces (root)'
	@echo 'make count   instructions a frame against their budget, of an optimised build'
	@echo 'make sim     whole fabrics in virtual time: SEEDS=100 FIRST=1 NODES=20 MINUTES=30'
	@echo 'make fuzz    targets against libFuzzer: FUZZED=inner SECONDS=60 CORES=1 TIMEOUT=1'
	@echo 'make build   omni-engine, omni and omni-nucleus, optimised, in $(TARGET)/release'
	@echo 'make check   formatting and lints'
	@echo 'make clean   remove all that was built'
	@echo
	@echo 'demo, lab, test, count, sim and build first install the Debian packages that are missing:'
	@echo 'scripts/install-deps.sh lists them. Rust comes from https://rustup.rs'

demo: need-root build
	$(PYTHON) lab/demo.py --programs '$(TARGET)/release'

# Beside the tunnels of others that are installed: LAB='--install' installs them. LAB takes whatever
# `lab/lab all --help` tells of.
LAB ?=

lab: need-root build build-perf
	lab/lab all --nodes 10 --up '--programs $(TARGET)/release' $(LAB)

lab-100: need-root build build-perf
	lab/lab all --nodes 100 --seconds 4 --chaos 15 --up '--programs $(TARGET)/release' $(LAB)

build-perf: need-cargo deps
	$(CARGO) build --release --locked -p omni-perf

test: need-root need-cargo deps
	$(CARGO) test --workspace --locked --no-fail-fast
	$(CARGO) test -p omni-replay --locked --features loom --release --test loom
	cd lab && OMNI_PROGRAMS='$(abspath $(TARGET))/debug' $(PYTHON) -m unittest discover -s tests -t .

# `make test` counts too, in the program that it built.
count: need-cargo deps
	$(CARGO) run --release --locked -p omni-perf -- instructions

# What `make test` lives through is the first 25 seeds, for 10 minutes each.
SEEDS ?= 100
FIRST ?= 1
NODES ?= 20
MINUTES ?= 30

sim: need-cargo deps
	$(CARGO) run --profile sim --locked -p omni-sim -- --seeds '$(SEEDS)' --first '$(FIRST)' \
	    --nodes '$(NODES)' --minutes '$(MINUTES)'

# What `cargo fuzz` passes to the compiler, without the nightly that it asks for: coverage, and
# AddressSanitizer, of which stable has the runtime and lacks the permission. SANITIZER= does
# without.
COVERAGE := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
SANITIZER ?= address
FUZZED ?= $(notdir $(wildcard fuzz/seeds/*))
SECONDS ?= 60
CORES ?= 1
TIMEOUT ?= 1
INSTRUMENTED = $(COVERAGE) $(addprefix -Zsanitizer=,$(SANITIZER)) --cfg=fuzzing

# With a target named, build scripts are left alone.
fuzz: need-cargo deps
	host=$$($(CARGO) -vV | sed -n 's/^host: //p'); \
	RUSTC_BOOTSTRAP=1 RUSTFLAGS='$(INSTRUMENTED)' $(CARGO) build --profile fuzz --locked \
	    -p omni-fuzz --features libfuzzer $(addprefix --bin ,$(FUZZED)) \
	    --target "$$host" --target-dir '$(TARGET)/fuzz' && \
	$(PYTHON) fuzz/campaign.py --programs "$(TARGET)/fuzz/$$host/fuzz" --work '$(TARGET)/fuzz' \
	    --seconds '$(SECONDS)' --cores '$(CORES)' --timeout '$(TIMEOUT)' $(FUZZED)

build: need-cargo deps
	$(CARGO) build --release --locked -p omni-engine -p omni-nucleus

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
