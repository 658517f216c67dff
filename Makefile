# `make` lists the targets. They need Rust, a C compiler and, for what they install, Debian.

CARGO ?= cargo
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/imglife

# Tests use the loopback interface only, never the machine's proxy.
export NO_PROXY := 127.0.0.1,localhost
export no_proxy := $(NO_PROXY)

# Time for each fuzzed reader.
FUZZ_SECONDS ?= 60

# Number of random repositories for `worlds`.
WORLDS ?= 1000

.DEFAULT_GOAL := help
.PHONY: help setup test fuzz worlds soak lint format clippy doc deny typos subjects ci bench bench-short demo

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Install what the tests need
	@sh tests/setup.sh

test: setup ## Run all tests
	$(CARGO) test --locked

fuzz: ## Feed broken input to every reader of untrusted text, FUZZ_SECONDS each
	IMGLIFE_FUZZ_SECONDS=$(FUZZ_SECONDS) $(CARGO) test --locked --lib -- fuzzing_

worlds: setup ## Clean up WORLDS random repositories on real registries, kill runs, restore
	IMGLIFE_TEST_WORLDS=$(WORLDS) $(CARGO) test --locked --test integration -- cleanup::random_worlds

soak: setup ## Kill runs of every writing command at 50 random moments each, instead of 5
	IMGLIFE_SOAK=50 $(CARGO) test --locked --test integration faults::kills

lint: format clippy doc deny typos subjects ## Run all checks of the sources that run no tests

format: ## Check the formatting
	$(CARGO) fmt --check

clippy: ## Check for warnings, with and without S3
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --no-default-features --all-targets -- -D warnings

doc: ## Check the API documentation for warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items

deny: ## Check licences, bans and sources of dependencies; needs cargo-deny
	$(CARGO) deny --locked check bans licenses sources

typos: setup ## Check the spelling; _typos.toml lists accepted words
	$(CACHE)/python/bin/typos

subjects: ## Check the subjects of new commits
	.ci/check-commit-subjects

ci: lint test ## Run what must pass before a change is merged

# The measuring program is built like a test, the measured one like a release.
MEASURE = program=$$(.ci/release build) && $(CARGO) bench --locked --profile dev --bench peers -- --imglife "$$program"

bench: ## Compare times, requests and memory with similar tools; see bench/README.md
	sh tests/setup.sh bench
	$(MEASURE) $(BENCH_ARGS)

bench-short: ## Run a minute of the comparison, without judging times
	sh tests/setup.sh bench
	$(MEASURE) --short $(BENCH_ARGS)

demo: ## Show the whole life of some images, without a server
	$(CARGO) run --locked --release -- demo
