# OmniNervous: `make demo` and `make test` are all that is needed on a fresh machine with Rust.

SHELL := /bin/bash
CARGO ?= cargo
PYTHON ?= python3
TARGET := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help demo lab lab-100 faults test count sim soak fuzz schedules sanitize supply sbom \
    reproducible dissector-test metrics-test mistakes book build build-perf deb package-test \
    recipes image-test check clean deps need-root need-cargo

help:
	@echo 'make demo    three nodes and a Nucleus on this machine: ping, TCP, UDP, the wire (root)'
	@echo 'make lab     ten nodes: all-reduce, iperf3, latency, ARP, chaos, beside others; a report (root)'
	@echo 'make lab-100 the same with a hundred nodes (root)'
	@echo 'make faults  kill -9, restarts, clocks, full disks, what is missing: CYCLES=1000 (root)'
	@echo 'make mistakes  what people do wrong: is the cause named? MISTAKES="firewall" chooses (root)'
	@echo 'make test    all tests; some load BPF programs and make network namespaces (root)'
	@echo 'make count   instructions a frame against their budget, of an optimised build'
	@echo 'make sim     whole fabrics in virtual time: SEEDS=100 FIRST=1 NODES=20 MINUTES=30'
	@echo 'make soak    a small fabric under faults, must not wear out: MINUTES=30 (root)'
	@echo 'make fuzz    targets against libFuzzer: FUZZED=inner SECONDS=60 TOGETHER=1 TIMEOUT=1'
	@echo 'make schedules  threads by a million random schedules of each program: SCHEDULES=1000000'
	@echo 'make sanitize   tests with address and thread sanitizers'
	@echo 'make supply  dependencies: advisories, licences, sources (cargo-deny)'
	@echo 'make sbom    a bill of materials, CycloneDX, in $(TARGET)/sbom.json'
	@echo 'make reproducible  two release builds in two folders, compared octet by octet'
	@echo 'make dissector-test  the dissector for Wireshark in tshark, which is installed (root)'
	@echo 'make book    the documents as a web site, in target/book/index.html (mdBook, links checked)'
	@echo 'make metrics-test  a fabric and its Nucleus in Prometheus, which is installed (root)'
	@echo 'make build   omni-engine, omni and omni-nucleus, optimised, in $(TARGET)/release'
	@echo 'make deb     a Debian package of these, in $(TARGET)/debian'
	@echo 'make package-test  that package and the quick start on two clean systems (root)'
	@echo 'make recipes   docs/recipes.md on such systems: RECIPES=netplan chooses (root)'
	@echo 'make image-test  the container image, two of them on one wire: IMAGE=--help (root, podman)'
	@echo 'make check   formatting and lints'
	@echo 'make clean   remove all that was built'
	@echo
	@echo 'All but check and clean first install the Debian packages that are missing:'
	@echo 'scripts/install-deps.sh lists them. Rust comes from https://rustup.rs'

demo: need-root build
	$(PYTHON) lab/demo.py --programs '$(TARGET)/release'

# Beside the tunnels of others that are installed: LAB='--install' installs them. LAB takes whatever
# `lab/lab all --help` tells of.
LAB ?=

lab: need-root build build-perf
	lab/lab all --nodes 10 --up '--programs $(TARGET)/release' $(LAB)

lab-100: need-root build build-perf
	lab/lab all --nodes 100 --seconds 4 --rest 360 --chaos 15 --up '--programs $(TARGET)/release' $(LAB)

# For an hour and a half; TRIALS="kill clock" chooses.
CYCLES ?= 1000
TRIALS ?= all

faults: need-root build
	lab/faults.py $(TRIALS) --cycles '$(CYCLES)' --programs '$(TARGET)/release'

# `make test` makes those that take the shortest.
MISTAKES ?=

mistakes: need-root build
	lab/mistakes.py $(MISTAKES) --programs '$(TARGET)/release'

build-perf: need-cargo deps
	$(CARGO) build --release --locked -p omni-perf

test: need-root need-cargo deps
	$(CARGO) test --workspace --locked --no-fail-fast
	$(CARGO) test -p omni-replay -p omni-shared --locked --features loom --release --test loom
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

# MINUTES=480 is what a release has to stand. SOAK takes whatever `lab/soak.py --help` tells of.
SOAK ?=

soak: need-root build
	$(PYTHON) lab/soak.py --minutes '$(MINUTES)' --programs '$(TARGET)/release' $(SOAK)

# Without the nightly that `cargo fuzz` asks for: stable has coverage and the runtime of
# AddressSanitizer, and lacks the permission. SANITIZER= does without. Only what is in this
# repository is instrumented, by fuzz/rustc.sh; the folder is another one for each sanitizer, as
# cargo does not see what that adds.
SANITIZER ?= address
FUZZED ?= $(notdir $(wildcard fuzz/seeds/*))
SECONDS ?= 60
CORES ?= 1
TOGETHER ?= 1
TIMEOUT ?= 1
FUZZERS = $(TARGET)/fuzz/$(or $(SANITIZER),plain)

# With a target named, build scripts are left alone.
fuzz: need-cargo deps
	host=$$($(CARGO) -vV | sed -n 's/^host: //p'); \
	RUSTC_BOOTSTRAP=1 RUSTC_WORKSPACE_WRAPPER='$(CURDIR)/fuzz/rustc.sh' \
	    FUZZ_SANITIZER='$(SANITIZER)' $(CARGO) build --profile fuzz --locked \
	    -p omni-fuzz --features libfuzzer $(addprefix --bin ,$(FUZZED)) \
	    --target "$$host" --target-dir '$(FUZZERS)' && \
	$(PYTHON) fuzz/campaign.py --programs "$(FUZZERS)/$$host/fuzz" --work '$(TARGET)/fuzz' \
	    --seconds '$(SECONDS)' --cores '$(CORES)' --together '$(TOGETHER)' \
	    --timeout '$(TIMEOUT)' $(FUZZED)

SCHEDULES ?= 1000000

schedules: need-cargo
	SCHEDULES='$(SCHEDULES)' $(CARGO) test --release --locked -p omni-shared --features shuttle \
	    --test schedules

sanitize: need-cargo deps
	scripts/sanitize.sh

# Installs cargo-deny when it is missing, which takes some minutes. It gets the list of advisories;
# DENY=--offline takes the one that was got before.
DENY ?=

supply: need-cargo
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny $(DENY) check --hide-inclusion-graph

sbom: need-cargo
	@mkdir -p '$(TARGET)'
	$(PYTHON) lab/sbom.py --output '$(TARGET)/sbom.json'

reproducible: need-cargo deps
	scripts/reproducible.sh

# tshark takes 120 MB, so `make test` does without where it is not there.
DISSECTED ?= 3000

dissector-test: need-root need-cargo deps
	command -v tshark >/dev/null && command -v lua5.4 >/dev/null || \
	    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
	        tshark lua5.2 lua5.4
	$(CARGO) build --locked -p omni-engine
	cd lab && OMNI_PROGRAMS='$(abspath $(TARGET))/debug' DISSECTED='$(DISSECTED)' \
	    $(PYTHON) -m unittest tests.test_keylog tests.test_dissector

# Installs mdBook when it is missing: some minutes, and nothing else here needs it.
MDBOOK ?= $(or $(shell command -v mdbook),$(TARGET)/tools/bin/mdbook)

book: need-cargo
	command -v '$(MDBOOK)' >/dev/null || $(CARGO) install --locked --version '^0.5' \
	    --root '$(TARGET)/tools' mdbook --no-default-features --features search
	$(PYTHON) lab/book.py --mdbook '$(MDBOOK)'

# Prometheus takes 100 MB, so `make test` does without where it is not there.
metrics-test: need-root need-cargo deps
	command -v prometheus >/dev/null && command -v promtool >/dev/null || \
	    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends prometheus
	$(CARGO) build --locked -p omni-engine -p omni-nucleus
	cd lab && OMNI_PROGRAMS='$(abspath $(TARGET))/debug' $(PYTHON) -m unittest tests.test_prometheus

build: need-cargo deps
	$(CARGO) build --release --locked -p omni-engine -p omni-nucleus

deb: build
	scripts/deb.sh

# Needs mmdebstrap and dpkg-dev, and a mirror of Debian the first time.
package-test: need-root build
	$(PYTHON) lab/package.py --programs '$(TARGET)/release'

RECIPES ?=

recipes: need-root build
	$(PYTHON) lab/package.py --programs '$(TARGET)/release' --recipes '$(RECIPES)'

# Takes whatever `lab/containers.py --help` tells of.
IMAGE ?=

image-test: need-root build
	$(PYTHON) lab/containers.py --programs '$(TARGET)/release' $(IMAGE)

check: need-cargo
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy -p omni-replay -p omni-shared --locked --features loom --test loom -- -D warnings
	$(CARGO) clippy -p omni-shared --locked --features shuttle --test schedules -- -D warnings

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
