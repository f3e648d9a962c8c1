# The verbs of this project; README and CI call the same ones.
PY := .venv/bin/python
STAMP := .venv/.installed

.PHONY: help install lock format check test test-all chaos mutants bench demo browser screenshots containers clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## a venv with the locked packages and this project

$(STAMP): requirements.lock pyproject.toml
	test -x $(PY) || python3 -m venv .venv
	$(PY) -m pip install --quiet --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	$(PY) -m services.warm
	@touch $(STAMP)

lock: ## write requirements.lock anew from pyproject.toml
	.venv/bin/uv pip compile -q --generate-hashes --python-version 3.11 --universal --no-emit-index-url \
	  --no-emit-find-links --extra all --extra dev pyproject.toml -o requirements.lock

format: install ## format the code
	.venv/bin/ruff format . && .venv/bin/ruff check --fix .

check: install ## ruff, mypy strict, import contracts, wheel smoke test
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) -m tests.deploy.wheel_smoke

test: install ## all tests that fit into a few minutes
	$(PY) -m pytest -q -m "not slow and not browser"

test-all: install browser ## every test, the long proofs too
	$(PY) -m pytest -q

chaos: install ## random faults on a running pipeline for MINUTES (default 1), then compare everything
	$(PY) -m tests.chaos --minutes $(or $(MINUTES),1)

mutants: install ## break the kernel on purpose: tests must notice
	$(PY) -m tests.property.mutation_check

demo: install ## the whole pipeline with a simulated market, page on http://127.0.0.1:8080
	.venv/bin/mbo demo

clean: ## remove what the tools leave behind
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
