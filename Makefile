# `make demo` and `make test` need Python 3.11 and nothing else; each makes its own virtual environment first.
PYTHON ?= python3.11
VENV := .venv
PROTO_VENV := .venv-proto
BIN := $(VENV)/bin
VIDEO ?=
TEACHER ?=
DEMO_ARGS ?=

# What plays in real time for an hour, between two real processes.
PROMISE := $(addprefix benchmarks/,budget_promise.py slow_link.py model_age.py busy_edge.py)

.PHONY: demo test check protos benchmarks promise clean

run = for script in $(1); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# A Hugging Face teacher needs one more extra.
demo: $(VENV)/.installed-eval $(if $(filter hf:%,$(TEACHER)),$(VENV)/.installed-zoo)
	$(BIN)/ams-eval demo $(if $(VIDEO),--video '$(VIDEO)') $(if $(TEACHER),--teacher '$(TEACHER)') $(DEMO_ARGS)

test: $(VENV)/.installed-dev $(PROTO_VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(PROTO_VENV)/bin/python scripts/generate_protos.py --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest

protos: $(PROTO_VENV)/.installed
	$(PROTO_VENV)/bin/python scripts/generate_protos.py

benchmarks: $(VENV)/.installed-eval
	$(call run,$(filter-out $(PROMISE),$(wildcard benchmarks/*.py)))

promise: $(VENV)/.installed-eval
	$(call run,$(PROMISE))

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# PyTorch first and by its exact version: the other packages then find it there and fetch no second build.
$(VENV)/.installed-eval: pyproject.toml scripts/constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c scripts/constraints.txt torch
	$(BIN)/python -m pip install --quiet -c scripts/constraints.txt -e '.[eval]'
	touch $@

$(VENV)/.installed-zoo: $(VENV)/.installed-eval
	$(BIN)/python -m pip install --quiet -c scripts/constraints.txt -e '.[eval,zoo]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-eval
	$(BIN)/python -m pip install --quiet -c scripts/constraints.txt -e '.[dev]'
	touch $@

# The generator of the protobuf code needs an older protobuf than the product may use.
$(PROTO_VENV)/.installed:
	$(PYTHON) -m venv $(PROTO_VENV)
	$(PROTO_VENV)/bin/python -m pip install --quiet grpcio-tools==1.71.2 mypy-protobuf==3.6.0 'setuptools<81'
	touch $@

clean:
	rm -rf $(VENV) $(PROTO_VENV) build dist out .mypy_cache .pytest_cache .ruff_cache .hypothesis
