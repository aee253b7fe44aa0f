# Every errand of the house. Each is a script in ci/ that CI runs too: what passes here passes there.
#
# Variables (also from the environment):
#   PYTHON=python3.12                     the interpreter of .venv (default: python3.11 if there, else python3)
#   PYTHONS="python3.12 python3.13"       further interpreters for test and conformance, each with its own environment
#   ARGS="..."                            arguments for the program or the test runner behind the target

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo build test check bench conformance ecosystem model stress san wheel clean

help: ## list the errands
	@echo "usage: make <errand> [PYTHON=python3.12] [PYTHONS=\"python3.12 python3.13\"] [ARGS=\"...\"]"
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-14s%s\n", $$1, $$2 }'

demo: ## read the whole standard library inline, on threads and on processes, and compare (ARGS="--workers 4 DIRECTORY")
	@ci/demo.sh $(ARGS)

build: ## make .venv and build the extension into it (release)
	@ci/build.sh

test: ## Rust tests of core, shm and proc, then the Python tests (ARGS="-k pool" goes to pytest)
	@ci/test.sh $(ARGS)

check: ## format, clippy, ruff, mypy --strict, stubtest, invariants, cargo-deny
	@ci/check.sh

bench: ## Raddle beside the standard library and its peers; writes docs/benchmarks.md
	@ci/bench.sh $(ARGS)

conformance: ## CPython's own tests of concurrent.futures and of multiprocessing's pools against Raddle's drop-ins
	@ci/conformance.sh $(ARGS)

ecosystem: ## joblib's and Dask's own tests with Raddle under them
	@ci/ecosystem.sh $(ARGS)

model: ## model checking (loom) of core, shm and proc (ARGS="-p raddle-shm" for one crate)
	@ci/model.sh $(ARGS)

stress: ## the tests that run under load: killed workers, many tasks (TIME=60 for a minute each)
	@ci/stress.sh $(ARGS)

san: ## Rust tests of core, shm and proc under the address and the thread sanitizer (needs nightly)
	@ci/san.sh $(ARGS)

wheel: ## build a wheel into dist/ and try it in an empty environment
	@ci/wheel.sh

clean: ## remove environments, build outputs and caches
	@ci/clean.sh
