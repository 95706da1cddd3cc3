# Everything a developer runs. `make` lists it.

.PHONY: help setup setup-tools setup-servers setup-moto setup-huggingface setup-promtool build lint test property bench huge demo fuzz reference clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: setup-tools setup-servers setup-moto setup-huggingface setup-promtool ## install the test servers and tools that are missing

setup-tools:
	@scripts/setup-tools

setup-servers:
	@scripts/setup-servers

setup-moto:
	@scripts/setup-moto

setup-huggingface:
	@scripts/setup-huggingface

setup-promtool:
	@scripts/setup-promtool

build: ## build the release binary, target/release/pgark
	cargo build --release --locked --package pgark

lint: setup-tools ## check formatting, lints, dependencies, the reference and scripts
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings
	cargo check --quiet --locked --manifest-path fuzz/Cargo.toml --target-dir target
	cargo deny --locked check --hide-inclusion-graph bans licenses sources
	cargo run --quiet --locked --package xtask -- reference --check
	RUSTDOCFLAGS="--deny warnings" cargo doc --quiet --workspace --no-deps --locked
	scripts/lint-text

test: setup ## run all tests against real servers
	cargo test --workspace --locked --doc --quiet
	cargo nextest run --workspace --locked

property: setup ## run scripts made by chance against real clusters; RUNS=50 on each version, MAJOR=17 on that one
	PGARK_PROPERTY_RUNS=$(or $(RUNS),5) cargo nextest run --locked --profile property --package pgark --test property \
		--run-ignored only many_scripts_on_$(MAJOR)

bench: build ## measure side by side with pgBackRest; QUICK=1 for a tenth of the data, ARGS=--help for more
	scripts/bench $(if $(QUICK),--quick) $(ARGS)

huge: setup ## measure what a simulated cluster of ten terabytes takes; needs 6 GB of disk
	cargo test --release --locked --package pgark --test huge -- --ignored --nocapture

demo: build ## show a backup, a loss and a restore
	scripts/demo

fuzz: ## run every fuzz target for 30 seconds
	scripts/fuzz

reference: ## write docs/reference.md from the option table
	cargo run --quiet --locked --package xtask -- reference

clean: ## remove what was built
	cargo clean
