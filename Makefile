# What one types in a checkout. Needs the Rust toolchain, and Python 3 with pip where there is no nats-server or Postgres to be found.
# Always the whole workspace: one set of features, so nothing is compiled twice.

.POSIX:

CARGO = cargo
# How binaries are built: `release`, or `dist`, as in the image: a tenth less CPU in the services, for a longer build.
PROFILE = release
# Flags for `waybill up`: make up ARGS=--ephemeral
ARGS =

# For `make faults`: rows of the matrix (ROWS=7,8), how often each (N=20), and the seed of its choices (SEED=1).

# For `make fuzz`: seconds for each target (SECONDS=60), and the seed (SEED=1).
# For `make soak`: minutes (MINUTES=10), and the seed (SEED=1).

.PHONY: help up build test contracts schemathesis faults soak fuzz lint doc deny

help:
	@echo 'make up     build (release) and run everything until Ctrl-C; flags: make up ARGS=--ephemeral'
	@echo 'make test   build and run all tests, on a real nats-server and Postgres'
	@echo 'make contracts  whether docs/ has the contracts of this build; written anew: WAYBILL_WRITE_CONTRACTS=1 make contracts'
	@echo 'make schemathesis  cases made of the OpenAPI documents, so many seconds for each service: make schemathesis SECONDS=60'
	@echo 'make faults  the whole matrix of faults, each row 20 times: make faults N=3 ROWS=7,8 SEED=1'
	@echo 'make soak    faults at random under load, from a seed: make soak MINUTES=10 SEED=1'
	@echo 'make fuzz    every decoder that faces the outside, so many seconds each: make fuzz SECONDS=60'
	@echo 'make lint   formatting and clippy, warnings are errors'
	@echo 'make doc     the documentation of all crates, in target/doc; warnings are errors'
	@echo 'make deny   licenses, sources and banned crates (needs cargo-deny)'
	@echo 'make build  binaries in target/release; those of the image, in target/dist: make build PROFILE=dist'

up: build
	@exec target/$(PROFILE)/waybill up $(ARGS)

# Without the tests, so that what only they ask for gets into no binary that is used.
# `waybill bench` names the commit its figures belong to.
build: export WAYBILL_COMMIT ?= $(shell git describe --always --dirty 2>/dev/null)
build:
	$(CARGO) build --workspace --exclude waybill-tests --profile $(PROFILE) --locked --bins

# Everything is built first: tests start the services' own binaries. nextest runs the tests of all crates side by side, and each in
# a process of its own; it leaves out the examples in the documentation.
test:
	$(CARGO) build --workspace --locked --all-targets
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run --workspace --locked --no-fail-fast; \
	else \
		set -x; $(CARGO) test --workspace --locked --all-targets --no-fail-fast; \
	fi
	$(CARGO) test --workspace --locked --doc

contracts:
	$(CARGO) test --workspace --locked --test e2e -- contracts::the_committed

schemathesis:
	WAYBILL_SCHEMATHESIS_SECONDS=$${SECONDS:-60} $(CARGO) test --workspace --locked --test e2e -- --ignored --nocapture clients::nothing

# The tests' build, so that nothing is compiled for this alone. docs/reliability.md says what each row means.
faults:
	$(CARGO) build --workspace --locked --all-targets
	@exec target/debug/waybill-proof faults $${ROWS:+--rows=$$ROWS} $${N:+--times=$$N} $${SEED:+--seed=$$SEED}

soak:
	$(CARGO) build --workspace --locked --all-targets
	@exec target/debug/waybill-proof soak $${MINUTES:+--minutes=$$MINUTES} $${SEED:+--seed=$$SEED}

# Inputs that break a decoder are written to its corpus, fuzz/corpus/<target>.
fuzz:
	@WAYBILL_FUZZ_SECONDS=$${SECONDS:-10} WAYBILL_FUZZ_SEED=$$SEED \
		$(CARGO) test --workspace --locked --lib --bins fuzz:: -- --test-threads=2 --nocapture

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --locked --all-targets -- -D warnings

doc: export RUSTDOCFLAGS = -D warnings
doc:
	$(CARGO) doc --workspace --locked --no-deps

# Advisories are left to `cargo deny check advisories`: they change from day to day and need a network.
deny:
	$(CARGO) deny --locked check bans licenses sources
