# Keyward's five commands; `make` alone lists them.

.PHONY: help run test bench bench-large check gen

help:
	@echo "make run          build and serve with embedded SQLite in ./keyward-data"
	@echo "make test         the whole suite, on SQLite and PostgreSQL; installs what it needs"
	@echo "make bench        speed beside bare hyper and axum, as a table and as JSON"
	@echo "make bench-large  the same with a million cached and ten million stored keys"
	@echo "make check        format, lints, house rules, generated files"
	@echo "make gen          write openapi.json"

run:
	cargo run --release -p keyward-server --bin keyward -- serve

test:
	cargo xtask tidy
	cargo xtask test

bench:
	cargo build --profile bench -p keyward-server -p keyward-bench
	target/release/keyward-bench
	target/release/keyward-bench --sign-ins --output bench/results/sign-ins.json

bench-large:
	cargo build --profile bench -p keyward-server -p keyward-bench
	target/release/keyward-bench --cached-memory 1000000 --database-keys 10000000

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo xtask tidy
	cargo xtask gen --check

gen:
	cargo xtask gen
