# A clone, this file and a Python of 3.11 or later are enough: every target makes what it needs.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CLIENTS := .venv-clients
NODE := examples/typescript/node_modules
# Many tests wait for processes they start: two at a time for each processor.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(2 * os.cpu_count())')

# The first of these that is new enough; `make PYTHON=/path/to/python3 ...` overrides it.
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11, \
	$(shell $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))

# Without bytecode every process compiles every import again, which takes it four seconds.
unexport PYTHONDONTWRITEBYTECODE

# What installs, what checks and what types wait for one another only where they say so.
MAKEFLAGS += --jobs=2

.DEFAULT_GOAL := help
.PHONY: help demo test clients generators tools check format openapi migration requirements vendor
.PHONY: bench soak fuzz bench-simulation bench-poller screenshots chaos token-sequences image-steps sbom

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-18s%s\n", $$1, $$2 }' Makefile

demo: $(READY) ## Make a video on this machine: gateway and sandbox, no account, no money
	@$(BIN)/gateway demo

test: bytecode check generators ## What CI runs: check, then every test on SQLite and on Postgres
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal

clients: generators ## Generate clients from the OpenAPI document: TypeScript in examples/, Python in build/
	@cd examples/typescript && npm run --silent types && npm run --silent build
	@PATH="$(abspath $(BIN)):$$PATH" $(CLIENTS)/bin/openapi-python-client generate --path openapi/openapi.json --meta none \
		--output-path build/gateway_client --overwrite >/dev/null
	@echo "examples/typescript/gateway.ts and build/gateway_client are up to date."

generators: tools $(CLIENTS)/.ready $(NODE)/.ready

tools: $(READY) # what tests start and pip cannot install; after it, as both may ask apt-get
	@$(TOOLS)

.PHONY: style types bytecode
check: style types ## The static part: style, layers, dependencies, types

style: $(READY)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/deptry .

types: $(READY)
	@$(BIN)/mypy

bytecode: $(READY) # once: the workers import all this at the same time, and would each compile it
	@$(BIN)/pytest --collect-only -qq >/dev/null || true # what is wrong, the run itself tells

format: $(READY) ## Put the code into shape, and mend what ruff can mend
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

bench: $(READY) ## Measure beside nginx, FastAPI and LiteLLM, into bench/results.md: make bench [quick=1]
	@$(BIN)/python -m bench.run $(if $(quick),--quick)

soak: $(READY) ## Hold a share of the capacity; nothing may grow or fail: make soak minutes=30 share=0.5
	@$(BIN)/python -m bench.soak --minutes $(or $(minutes),30) --share $(or $(share),0.5)

fuzz: $(READY) ## Random bytes for everything that reads what others sent: make fuzz minutes=5
	@$(BIN)/python -m bench.fuzz --minutes $(or $(minutes),5)

bench-simulation: $(READY) ## A day with a million jobs: the learned poll schedule beside others
	@$(BIN)/python bench/simulation.py

bench-poller: $(READY) ## What a poll costs with 10,000 and 100,000 jobs in flight
	@$(BIN)/python -m bench.poller

chaos: $(READY) ## Kill, freeze and restart everything under load: make chaos minutes=10 jobs=2000 [on=sqlite]
	@$(BIN)/python -m bench.chaos --minutes $(or $(minutes),3) --jobs $(or $(jobs),1000) $(and $(on),--$(on))

token-sequences: $(READY) ## 1,000 random sequences of client-token use over two replicas, on either database
	@$(BIN)/pytest -q --durations=2 --hypothesis-profile=long --timeout=7200 tests/properties/test_client_token_bounds.py

image-steps: $(READY) ## Install as the Dockerfile does, from the registry, in a scratch folder
	@root=$$(mktemp -d) && trap 'rm -rf "$$root"' EXIT && \
	$(BIN)/python deploy/image_steps.py "$$root" && cd "$$root" && \
	opt/gateway/bin/gateway db upgrade

screenshots: $(READY) tools ## Take the README's pictures of the pages anew, from the demo's data
	@PYTHONPATH=. $(BIN)/python docs/screenshots.py

openapi: $(READY) ## Write openapi/openapi.json anew
	@$(BIN)/gateway openapi > openapi/openapi.json

migration: $(READY) ## Write the migration that the models ask for: make migration m="add a column"
	@test -n "$(m)" || { echo 'Say what it does: make migration m="add a column"'; exit 1; }
	@$(BIN)/python -c "$$NEW_MIGRATION" "$(m)"
	@$(BIN)/ruff format --quiet migrations

vendor: ## Copy the pages' libraries out of their npm packages anew
	@cd app/web/vendor && npm ci --silent --ignore-scripts && node copy.mjs && rm -rf node_modules

requirements: ## Compile requirements/*.txt anew; with u=--upgrade to the newest versions
	@$(USABLE_PYTHON)
	@uv=$$(mktemp -d) && trap 'rm -rf "$$uv"' EXIT && \
	$(PYTHON) -m venv "$$uv" && "$$uv/bin/pip" install -qq uv && \
	"$$uv/bin/uv" $(COMPILE) --extra postgres --extra otel -o requirements/prod.txt && \
	"$$uv/bin/uv" $(COMPILE) --all-extras --group dev -o requirements/dev.txt && \
	"$$uv/bin/uv" $(COMPILE_OPTIONS) --group clients -o requirements/clients.txt && \
	"$$uv/bin/uv" $(COMPILE_OPTIONS) --group build -o requirements/build.txt && \
	"$$uv/bin/uv" $(COMPILE_OPTIONS) --group uv -o requirements/uv.txt

sbom: ## Write build/sbom.json: what an image holds, by name, version and hash (CycloneDX)
	@$(USABLE_PYTHON)
	@tool=$$(mktemp -d) && trap 'rm -rf "$$tool"' EXIT && mkdir -p build && \
	$(PYTHON) -m venv "$$tool" && "$$tool/bin/pip" install -qq cyclonedx-bom && \
	"$$tool/bin/cyclonedx-py" requirements requirements/prod.txt --pyproject pyproject.toml \
		--output-reproducible --validate -o build/sbom.json && echo "build/sbom.json is written."

COMPILE_OPTIONS = pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate $(u)
COMPILE = $(COMPILE_OPTIONS) pyproject.toml

$(CLIENTS)/.ready: requirements/clients.txt $(READY)
	@$(BIN)/python -m venv --clear --without-pip $(CLIENTS)
	@$(call install,$(CLIENTS),requirements/clients.txt)
	@touch $@

$(NODE)/.ready: examples/typescript/package-lock.json | tools
	@cd examples/typescript && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

$(READY): requirements/uv.txt requirements/dev.txt pyproject.toml
	@$(BIN)/pip --version >/dev/null 2>&1 || { $(USABLE_PYTHON) && \
		echo "Making $(VENV) with $$($(PYTHON) --version)." && $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing what the lock names; the first time takes half a minute."
	@$(BIN)/pip install -qq --require-hashes -r requirements/uv.txt
	@$(call install,$(VENV),requirements/dev.txt)
	@$(BIN)/pip install -qq --no-deps --no-build-isolation -e .
	@touch $@

# A mirror that pip's settings name is unknown to uv.
install = $(BIN)/uv pip install --quiet --python $(1) --require-hashes -r $(2) || \
	$(BIN)/pip --python $(1) install -qq --no-compile --require-hashes -r $(2)

# Debian keeps a part of venv in a package of its own.
define USABLE_PYTHON
if [ -z "$(PYTHON)" ]; then \
	echo "No Python 3.11 or later was found: install one, or name it with make PYTHON=..."; exit 1; \
elif ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	echo "$(PYTHON) is older than Python 3.11: name a later one with make PYTHON=..."; exit 1; \
elif $(PYTHON) -c 'import ensurepip' 2>/dev/null; then :; \
elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	echo "Installing python3-venv."; \
	apt-get -qq update && apt-get -qq install -y python3-venv >/dev/null; \
else \
	echo "Python's venv module is incomplete: install the package python3-venv."; exit 1; \
fi
endef

# Each as program:package. Where they cannot be installed, the test that needs one says so.
define TOOLS
missing=; for tool in curl:curl openssl:openssl node:nodejs npm:npm; do \
	command -v "$${tool%:*}" >/dev/null || missing="$$missing $${tool#*:}"; \
done; \
command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || \
	missing="$$missing chromium-headless-shell"; \
if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	echo "Installing$$missing."; \
	apt-get -qq update && \
	DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing >/dev/null; \
elif [ -n "$$missing" ]; then \
	echo "Some tests start programs that are not here; install the packages$$missing."; exit 1; \
fi
endef

define NEW_MIGRATION
import sys
import tempfile

from alembic import command
from app.db import migrate
from app.db.engine import parse_url

with tempfile.TemporaryDirectory() as folder:
    url = f"sqlite:///{folder}/schema.db"
    migrate.upgrade(url)
    config = migrate.configuration(parse_url(url))
    config.set_main_option(
        "file_template", "%%(year)d-%%(month).2d-%%(day).2d_%%(rev)s_%%(slug)s"
    )
    command.revision(config, sys.argv[1], autogenerate=True)
endef
export NEW_MIGRATION
