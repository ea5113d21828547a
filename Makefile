# Countersign: every task there is. `make` alone lists them; each sets the environment up first if it must.
# Kept to what GNU make 3.81 (macOS) and a POSIX shell understand.

BIN := .venv/bin
MEMBERS := $(wildcard libs/*/pyproject.toml services/*/pyproject.toml cli/pyproject.toml examples/*/pyproject.toml)
READY := .venv/ready

.DEFAULT_GOAL := help
.PHONY: help setup demo up test all-tests test-compose test-cluster check format docs bench faults pictures lock clean

help: ## List these tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## Build .venv from requirements.lock (PYTHON=... names the Python)
	@echo "The environment in .venv is up to date."

demo: $(READY) ## Watch one governed action end to end, in five acts
	@$(BIN)/countersign demo

up: $(READY) ## Run Countersign on this machine; Ctrl-C stops it
	@$(BIN)/countersign up

test: $(READY) ## Run everything CI runs
	@$(MAKE) --no-print-directory -j 2 check all-tests

# Python keeps what it compiled even where the environment says not to: workers and commands would compile it each time.
all-tests: $(READY)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --durations=15

test-compose: $(READY) ## The containers on a real engine; skipped where there is none
	@PYTHONPATH=tests/harness $(BIN)/python tests/compose/run.py

test-cluster: $(READY) ## Three nats-servers, each killed in turn under traffic
	$(BIN)/python -m pytest -m cluster -s tests/faults/test_cluster.py

check: $(READY) ## Style, types, import rules and drift of generated documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/generate.py --check
	$(BIN)/python tools/generate_kubernetes.py --check

format: $(READY) ## Format the code and mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## Write the generated documents anew
	$(BIN)/python tools/generate.py
	$(BIN)/python tools/generate_kubernetes.py

bench: $(READY) ## Measure speed and memory beside the plain-NATS floor
	$(BIN)/python benchmarks/run.py

faults: $(READY) ## Faults under traffic (SECONDS=300 SEED=...), or memory under traffic alone (SOAK=300)
	$(BIN)/python tests/faults/explore.py $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) \
		$(if $(SOAK),--soak $(SOAK))

pictures: $(READY) ## Draw the dashboards' panels from a real run, for docs/operate (needs Debian's prometheus)
	@PYTHONPATH=tools:tests/harness $(BIN)/python tests/observability/pictures.py

lock: $(READY) ## Bring requirements.lock to what the members ask for (UPGRADE=1: newest versions)
	$(BIN)/python tools/lock.py $(if $(UPGRADE),--upgrade)

clean: ## Remove .venv and every cache; data of `make up` stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stale when a pin or a member changed, and when the folder was moved or its Python is gone.
ifneq ($(shell test -x $(BIN)/python && cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

$(READY): requirements.lock requirements-bootstrap.lock pyproject.toml $(MEMBERS) tools/environment.py tools/workspace.py
	@python=$$(PYTHON='$(PYTHON)' sh tools/find-python) && "$$python" tools/environment.py
