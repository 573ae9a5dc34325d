# The environment is .venv; every target that needs it makes it first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# faiss-cpu by default; `make setup FAISS=gpu` on a machine with a CUDA 12 GPU.
FAISS ?= cpu
BUNDLE ?= build/demo/bundle

.PHONY: setup demo test check serve up bench format openapi clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(FAISS),demo,dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/momok demo

test: $(STAMP)
	$(BIN)/pytest

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_imports.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Rewrites docs/openapi.json after a change of the API; a test holds the two together.
openapi: $(STAMP)
	$(BIN)/python -c 'import json; from momok.service.http.app import build_api; \
	  print(json.dumps(build_api().openapi(), indent=2, ensure_ascii=False))' > docs/openapi.json.new
	mv docs/openapi.json.new docs/openapi.json

serve: $(STAMP)
	$(BIN)/momok serve $(BUNDLE)

# The service, Prometheus and Grafana in containers; docs/operations.md.
up:
	deploy/secrets.sh
	docker compose up --build --detach

# What a bundle's server, engines and discovery do, and what a step and an evaluation cost: a quarter of an hour, few rounds.
bench: $(STAMP)
	$(BIN)/python benchmarks/serve.py $(BUNDLE)
	$(BIN)/python benchmarks/retrieval.py --bundle $(BUNDLE)
	$(BIN)/python benchmarks/encode.py
	$(BIN)/python benchmarks/discover.py $(BUNDLE)
	$(BIN)/python benchmarks/evaluate.py --rounds 1
	$(BIN)/python benchmarks/train_step.py --rounds 1

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
