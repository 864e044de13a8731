.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: help demo test test-project check soak wheel format catalogue lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(VENV)/.installed ## two users upload, watch their jobs and search, on the embedded Supabase
	@$(RUN) pipeline demo

test: $(VENV)/.installed ## all tests, with seeded samples of the long suites
	@$(RUN) python -m pytest

test-project: $(VENV)/.installed ## what can face any project, on the throw-away one that UPLOAD_PIPELINE_… names (docs/testing.md)
	@$(RUN) python -m pytest --project

soak: $(VENV)/.installed ## the long suites, whole
	@$(RUN) python -m pytest --soak

check: $(VENV)/.installed ## formatting, lint, types, import contracts, SQL
	@$(RUN) ruff format --check pipeline cli tests bench
	@$(RUN) ruff check pipeline cli tests bench
	@$(RUN) pyright
	@$(RUN) lint-imports
	@$(RUN) squawk --config .squawk.toml supabase/migrations/*.sql

wheel: $(VENV)/.installed ## build the wheel and run the demo from it, in an empty environment
	@.ci/wheel

format: $(VENV)/.installed ## format and mend what can be mended
	@$(RUN) ruff format pipeline cli tests bench
	@$(RUN) ruff check --fix pipeline cli tests bench

catalogue: $(VENV)/.installed ## write supabase/catalogue.sql anew, after a change of the migrations
	@$(RUN) python -m pipeline.embedded.golden

lock: ## pin the dependencies anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes --no-emit-index-url --no-header --no-annotate pyproject.toml -o requirements.lock

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
