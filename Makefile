# The list of things one can do here. Every target sets up what it needs.
SYSTEM  ?= researchflow
RELEASE ?=
PYTHON  ?=
# Test processes side by side: most tests wait more than they count.
WORKERS ?= 4

BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup gate alerts test test-docker test-all lint format lock wheel images bench bench-judge kubernetes-api mutation clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup:  ## make .venv with everything from uv.lock; quick when it is there
	@PYTHON='$(PYTHON)' .ci/setup

gate: setup  ## bring up SYSTEM, roll RELEASE out under load, judge, report, tear down
	@$(BIN)/rollgate gate $(SYSTEM) --provider native --plan quick $(if $(RELEASE),--release '$(RELEASE)')

lint: setup  ## ruff, pyright, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup  ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

test: lint  ## lint, the selftests, and the conformance cases that start nothing
	$(BIN)/pytest suites/selftest suites/conformance/test_env_template.py \
		suites/conformance/test_flags.py suites/conformance/test_inventory.py suites/conformance/test_plans.py \
		-n $(WORKERS) --dist worksteal -m 'not alone' --junitxml=reports/test-junit.xml
	$(BIN)/pytest suites/selftest -m alone --junitxml=reports/test-alone-junit.xml
	$(BIN)/rollgate rules check
	$(BIN)/rollgate dashboards check
	$(BIN)/rollgate bench judge --minute --out reports/bench-judge-minute

alerts: setup  ## every alert's fault struck on the running stack, and the table of all alerts (some 3 minutes)
	$(BIN)/pytest suites/alerts --system $(SYSTEM) --junitxml=reports/alerts-junit.xml
	$(BIN)/rollgate rules table --live "$$(ls -t reports/*-alerts-*/alerts.json | head -1)"

test-docker: setup  ## the suites that need a Docker Engine, on images built here; as root starts one where none runs
	$(BIN)/python .ci/engine.py .ci/docker-suites

test-all: test alerts  ## everything that this machine can run: also every known release and drill, once
	$(BIN)/rollgate bench gate --matrix --quick --system minimal --out reports/test-all-minimal
	$(BIN)/rollgate bench gate --matrix --quick --out reports/test-all

lock: setup  ## bring uv.lock up to date with the pyproject files (make lock; UPGRADE=1 for newer versions)
	@$(BIN)/python .ci/lock.py $(if $(UPGRADE),--upgrade)

wheel: setup  ## build the wheel into dist/
	$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist

images: setup  ## build the container images that have a Dockerfile (needs a Docker Engine)
	$(BIN)/rollgate stack images

bench: setup  ## time a gate by phase
	$(BIN)/rollgate bench gate --system $(SYSTEM)

bench-judge: setup  ## measure the judge on simulated rollouts, hours long; goes on where it was interrupted
	$(BIN)/rollgate bench judge --table docs/benchmarks/judge

kubernetes-api: setup  ## build Kubernetes' own API server for the tests of its routers, with Go (some 15 minutes)
	cd suites/selftest/kubernetes_api && go build -ldflags='-s -w' \
		-o "$$($(CURDIR)/$(BIN)/python -c 'from harness.paths import cache_root; print(cache_root())')/tools/kubernetes-api" .

mutation: setup  ## change the judge in small ways, one at a time, and list what no test notices (hours; the last tenth, quicker, by .ci/mutants.py)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python 'mutmut>=3.8,<4'
	@$(BIN)/mutmut run
	@$(BIN)/mutmut results

clean:  ## remove what was generated, .venv included; the cache folder stays
	rm -rf .venv dist mutants .pytest_cache .ruff_cache .hypothesis .import_linter_cache
