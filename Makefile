# The verbs of this project; README and CI call the same ones.
PY := .venv/bin/python
STAMP := .venv/.installed
WARM := .venv/.warm
AT_ONCE ?= 3# tests at once: most of their time is waiting for processes to start and die
unexport PYTHONDONTWRITEBYTECODE# set by some images: each of a pipeline's processes would compile its modules at every start
KERNELS := $(shell grep -lE 'njit|intrinsic' -r shared services --include=*.py)

.PHONY: help install lock format check test test-all test-cluster test-page chaos mutants bench soak curves demo browser screenshots \
  containers alerts sbom clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) $(WARM) ## a venv with the locked packages and this project

$(STAMP): requirements.lock pyproject.toml
	test -x $(PY) || python3 -m venv .venv
	$(PY) -m pip install --quiet --require-hashes --no-compile -r requirements.lock
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	$(PY) -m compileall -qq -j 0 .venv/lib services shared
	@touch $(STAMP)

# Kernels are compiled here once, and again when one has changed, so that no service does it while data waits.
$(WARM): $(STAMP) $(KERNELS)
	$(PY) -m services.warm
	@touch $(WARM)

lock: ## write requirements.lock anew from pyproject.toml
	.venv/bin/uv pip compile -q --generate-hashes --python-version 3.11 --universal --no-emit-index-url \
	  --no-emit-find-links --extra all --extra dev pyproject.toml -o requirements.lock
	echo "hatchling>=1.27" | .venv/bin/uv pip compile -q --generate-hashes --python-version 3.11 --universal \
	  --no-emit-index-url --no-emit-find-links --no-header -c requirements.lock --extra ingest --extra gateway \
	  --extra persist --extra parquet pyproject.toml - -o requirements.runtime.lock

format: install ## format the code
	.venv/bin/ruff format . && .venv/bin/ruff check --fix .

check: install ## ruff, mypy strict (tests too), import contracts, wheel smoke test
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) -m tests.deploy.wheel_smoke

test: install ## all tests that fit into a few minutes
	$(PY) -m pytest -q -n $(AT_ONCE) --dist loadfile -m "not slow and not browser"

test-all: install browser test-cluster ## every test, the long proofs too
	$(PY) -m pytest -q

test-cluster: install ## the pipeline's tests once more, on a Redis Cluster of three nodes
	MBO_TEST_BROKER_URL=cluster $(PY) -m pytest -q -m "not browser" tests/e2e

chaos: install ## random faults on a running pipeline for MINUTES (default 1), then compare everything (CHAOS="--broker pair" …)
	$(PY) -m tests.chaos --minutes $(or $(MINUTES),1) $(CHAOS)

mutants: install ## break the kernel on purpose: tests must notice
	$(PY) -m tests.property.mutation_check

browser: install ## what the page's tests need: chromium, node and their packages
	command -v chromium >/dev/null || apt-get install -y -qq --no-install-recommends chromium
	cd tests/e2e/page && npm ci --silent --no-audit --no-fund

test-page: browser ## the page: unit tests in node, end to end in Chromium
	node --test tests/unit/page
	$(PY) -m pytest -q -m "browser and not slow" tests/e2e/page tests/integration/gateway

.PHONY: page-soak
page-soak: browser ## two hours of market through the page's model, then the page itself for MINUTES (default 30)
	cd tests/e2e/page && node --expose-gc hour.mjs && node soak.mjs --minutes $(or $(MINUTES),30)

screenshots: install browser ## take the README's pictures anew, of a real pipeline with a simulated market
	$(PY) -m tests.e2e.page.pictures

containers: install ## build the images, run compose and Kubernetes files on podman (CONTAINERS=--stand-ins: no registry)
	$(PY) -m tests.deploy.containers $(CONTAINERS)

alerts: install ## a real Prometheus on a running pipeline: which alerts fire when something dies, and clear
	$(PY) -m tests.deploy.alerts_live

sbom: install ## dist/sbom.cdx.json: what is in the images, by CycloneDX
	$(PY) -m tests.deploy.sbom

bench: install ## every benchmark; rewrites its sections of tests/benchmarks/RESULTS.md (INTO=FILE: of another file, in a slow hour)
	$(PY) -m tests.benchmarks.report $(if $(INTO),--into $(INTO))

soak: install ## the pipeline at 500,000 records/s for MINUTES (default 60): memory and lags must stay flat
	$(PY) -m tests.benchmarks.soak --minutes $(or $(MINUTES),60)

curves: install ## cost of the pipeline by instruments, shards, workers, clients, entry size, records (an hour)
	$(PY) -m tests.benchmarks.curves

demo: install ## the whole pipeline with a simulated market, page on http://127.0.0.1:8080
	.venv/bin/mbo demo

clean: ## remove what the tools leave behind
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
