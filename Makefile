# What people and pipelines call. `make test` needs Rust, a C compiler and, for what it installs, Debian.

CARGO ?= cargo

# The tests speak to 127.0.0.1 only; a proxy of the machine has no part in that.
export NO_PROXY := 127.0.0.1,localhost
export no_proxy := $(NO_PROXY)

FUZZ_SECONDS ?= 60

.PHONY: test soak fuzz bench bench-short setup lint ci demo

test: setup ## all tests, and what they need
	$(CARGO) test --locked

soak: setup ## runs of all commands that write, killed at fifty random moments each instead of five
	IMGLIFE_SOAK=50 $(CARGO) test --locked --test integration faults::kills

fuzz: ## readers of what comes from outside, each fed for FUZZ_SECONDS
	IMGLIFE_FUZZ_SECONDS=$(FUZZ_SECONDS) $(CARGO) test --locked --lib -- fuzzing_

# The program that measures is built as tests are; what is measured is what a release has.
MEASURE = program=$$(.ci/release build) && $(CARGO) bench --locked --profile dev --bench peers -- --imglife "$$program"

bench: ## imglife beside its peers: times, requests, memory; see bench/README.md
	sh tests/setup.sh bench
	$(MEASURE) $(BENCH_ARGS)

bench-short: ## a minute of it, which judges no times
	sh tests/setup.sh bench
	$(MEASURE) --short $(BENCH_ARGS)

setup: ## the Debian packages that tests need
	sh tests/setup.sh

lint: ## format, clippy, licences, sources and bans of dependencies
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) deny --locked check bans licenses sources

ci: lint test ## what must pass before a change is merged

demo: ## the whole life of some images, without a server
	$(CARGO) run --locked --release -- demo
