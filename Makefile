PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
.DEFAULT_GOAL := help

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# Two sizes of one environment: what the demo needs, and on top of that what tests and checks need.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("penstock needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements/demo.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.demo
	$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(VENV)/.demo ## raw data to a live model on this machine; sets everything up
	@cd examples/tumours && rm -rf .penstock && ../../$(BIN)/python demo.py

setup: $(VENV)/.dev ## make the environment for tests and checks

test: $(VENV)/.dev ## every test but those on real engines; sets everything up
	$(BIN)/python -m pytest -n 3 --dist loadfile

engines: $(VENV)/.dev ## install the real engines (Airflow, Prefect, Kubeflow's SDK, Ray and Dask, podman) under .engines/
	$(BIN)/python -m engines install

ENGINE_TESTS ?= tests/engines
test-engines: engines ## the tests that run on the real engines (ENGINE_TESTS=… for some)
	$(BIN)/python -m pytest $(ENGINE_TESTS)

lint: $(VENV)/.dev ## style
	$(BIN)/ruff check src tests bench soak engines examples
	$(BIN)/ruff format --check src tests bench soak engines examples

types: $(VENV)/.dev ## mypy --strict
	$(BIN)/mypy
	$(BIN)/mypy --exclude engines/kfp_runner.py engines

layers: $(VENV)/.dev ## the rules between rooms
	$(BIN)/lint-imports

check: lint types layers test ## what CI runs before test-engines

bench: $(VENV)/.dev ## measure; writes docs/performance.md (about an hour)
	$(BIN)/python -m bench

bench-peers: $(VENV)/.dev ## measure other libraries; writes bench/peers/peers.json (installs them, an hour)
	$(BIN)/python -m bench.peers

bench-engines: engines ## measure what a step costs on each real engine; writes docs/performance-engines.md
	$(BIN)/python -m bench.engines

CONFORMANCE ?= local,apart,airflow,prefect,kubeflow
conformance: $(VENV)/.dev ## hold every engine against the local one; writes docs/backends.md (hours; CONFORMANCE=local,apart for some)
	PENSTOCK_TEST_EXAMPLES=300 $(BIN)/python -m pytest tests/conformance/test_conformance_generated.py
	$(BIN)/python -m penstock.testing.conformance --engines $(CONFORMANCE) --output docs/backends.md

soak: $(VENV)/.dev ## kill and resume real runs, 300 times; writes docs/soak.md
	$(BIN)/python -m soak

pictures: $(VENV)/.dev ## draw the README's pictures again, from a real run
	$(BIN)/python docs/pictures/draw.py

docs: $(VENV)/.dev ## write the generated pages again
	$(BIN)/python docs/generate_cli.py

# Not ray and dask: they are heavy, and tested in an environment of their own (make engines).
EXTRAS := $(addprefix --extra ,postgres s3 sql pandas polars sklearn pandera gx mlflow serve ml)

requirements: ## pin every dependency again, with hashes
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make requirements" $(EXTRAS) --group lint --group test requirements/build.in pyproject.toml -o requirements/dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make requirements" --extra ml -c requirements/dev.txt requirements/build.in pyproject.toml -o requirements/demo.txt

engines-requirements: ## pin what the engines' environments hold again, with hashes
	for each in airflow kubeflow; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make engines-requirements" engines/$$each.in -o engines/$$each.txt || exit 1; done
	for each in cluster prefect; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make engines-requirements" --extra postgres --extra s3 engines/$$each.in pyproject.toml -o engines/$$each.txt || exit 1; done

clean: ## remove the environment and what runs left in the examples
	rm -rf $(VENV) .engines examples/*/.penstock examples/*/data

.PHONY: help demo pictures docs setup test engines test-engines lint types layers check bench bench-peers bench-engines conformance soak requirements engines-requirements clean
