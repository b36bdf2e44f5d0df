# Keyward's five commands; `make` alone lists them.

.PHONY: help run test bench bench-large check gen

help:
	@echo "make run          build and serve with embedded SQLite in ./keyward-data"
	@echo "make test         the whole suite, on SQLite and PostgreSQL; installs what it needs"
	@echo "make bench        speed beside bare hyper, axum, Redis and inserts, and an audit log of 5 million events"
	@echo "make bench-large  the same with 10 million stored keys and usage records, and 50 million events"
	@echo "make check        format, lints, house rules, generated files"
	@echo "make gen          write openapi.json"

run:
	cargo run --release -p keyward-server --bin keyward -- serve

test:
	cargo xtask tidy
	cargo xtask test

bench:
	cargo build --release -p keyward-server -p keyward-bench
	target/release/keyward-bench --audit 5000000
	target/release/keyward-bench --shared-limits --output bench/results/shared-limits.json
	target/release/keyward-bench --one-budget --output bench/results/one-budget.json
	target/release/keyward-bench --usage-records 1000000 --output bench/results/usage-sqlite.json
	target/release/keyward-bench --usage-records 1000000 --postgres --output bench/results/usage-postgres.json
	target/release/keyward-bench --sign-ins --output bench/results/sign-ins.json

bench-large:
	cargo build --release -p keyward-server -p keyward-bench
	target/release/keyward-bench --cached-memory 1000000 --database-keys 10000000 --audit 50000000
	target/release/keyward-bench --usage-records 10000000 --output bench/results/usage-sqlite.json
	target/release/keyward-bench --usage-records 10000000 --postgres --output bench/results/usage-postgres.json

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo xtask tidy
	cargo xtask gen --check

gen:
	cargo xtask gen
