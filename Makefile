# What there is to run, one recipe each; `make` alone lists them.
#
# Needs git, make and Python 3.11 or newer. A suitable uv on the PATH is used, else one is installed into .tools/.
# Another Python: `UV_PYTHON=3.13 make test`, or `make PYTHON=python3.13` where no uv is installed yet.

PYTHON := python3
UV_VERSION := 0.13.9
# uv refuses to run here where it does not fit `required-version` of pyproject.toml.
UV := $(shell uv cache dir >/dev/null 2>&1 && echo uv || echo .tools/bin/uv)
RUN := $(UV) run --locked
# Most of what the laws do is waiting, for leases and processes: five tests at a time for two processors.
TESTERS = $(shell $(PYTHON) -c 'import os; print(5 * (os.cpu_count() or 1) // 2)')
FAST_TESTERS = $(shell $(PYTHON) -c 'import os; print(3 * (os.cpu_count() or 1) // 2)')
# The tests start hundreds of processes, and each would compile again whatever it imports.
unexport PYTHONDONTWRITEBYTECODE
REFERENCES := MemoryBroker SqliteBroker MemoryBackend SqliteBackend
SUITES = $(REFERENCES:%=tests/conformance/test_references.py::Test%) \
	$(shell grep -Ho '^class Test[A-Za-z]*' tests/b*/*/test_laws.py | sed 's/:class /::/')

.PHONY: help demo check test lint types docs conformance matrix mutants services bench bench-redis bench-services soak format clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: uv  ## real work on real processes, no server needed
	$(RUN) --package anybroker --no-default-groups --group demo python examples/thumbnails/demo.py

check: uv  ## linter, types and the fast tests, side by side: before every commit
	$(MAKE) --jobs=4 lint mypy public-types fast

.PHONY: mypy public-types fast
mypy: uv
	$(RUN) mypy

public-types: uv
	$(RUN) pyright core/src

fast: uv
	$(RUN) pytest -n $(FAST_TESTERS) -m "not slow" --ignore-glob='*/test_laws.py' tests

test: lint types docs installed-services  ## everything but the long soak: also crashes, packages, real servers, the documentation
	$(RUN) pytest -n $(TESTERS) -m "not soak"

lint: uv  ## style and formatting
	$(RUN) ruff check
	$(RUN) ruff format --check

types: mypy  ## mypy and pyright, of every member
	$(RUN) pyright

docs: uv  ## the documentation, into docs/_build
	$(RUN) python -m anybroker_conformance.reports.matrix --check docs/reports/*.json
	$(RUN) sphinx-build --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build

conformance: uv  ## every law on every adapter, with reports in docs/reports, and the matrix of them
	mkdir -p docs/reports
	echo $(SUITES) | xargs -n 1 -P 3 sh -c '$(RUN) pytest -n 2 --dist=load $$0 \
		--conformance-report docs/reports/$${0##*::Test}.json'
	$(MAKE) matrix

matrix: uv  ## docs/matrix.md, from docs/reports
	$(RUN) python -m anybroker_conformance.reports.matrix docs/reports/*.json

mutants: uv  ## 20 runs of the suite against each wrong broker and backend, and the table of them
	$(RUN) python -m anybroker_conformance.ledger --markdown docs/mutants.md

services: uv  ## the real servers that adapters are tested against, installed where they are missing
	$(RUN) python -m anybroker_conformance.services up --install

# With a state of its own, in a folder that is gone afterwards: services that somebody works with go on.
.PHONY: installed-services
installed-services: export ANYBROKER_SERVICES_DIR := $(shell mktemp --directory --dry-run)
installed-services: uv
	$(RUN) python -m anybroker_conformance.services up --local --install
	$(RUN) python -m anybroker_conformance.services down

bench: uv  ## how fast it is here, and how fast its peers are
	$(RUN) python benchmarks/run.py

bench-redis: uv  ## the same on Redis, with its peers in Python and, where Go is found, in Go
	$(RUN) python benchmarks/run_redis.py

bench-services: uv  ## the other adapters beside bare clients, on servers that are started for it
	$(RUN) python benchmarks/services.py

soak: uv  ## 100,000 tasks through workers that are killed at random
	$(RUN) pytest -m soak

format: uv  ## let ruff format and repair what it can
	$(RUN) ruff check --fix
	$(RUN) ruff format

clean:  ## remove all that make made
	rm -rf .tools .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache dist docs/_build demo-output
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: uv
uv: $(filter .tools/%,$(UV))

.tools/bin/uv:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("anybroker needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0])'
	@$(PYTHON) -m venv .tools || { rm -rf .tools; echo "Install python3-venv (apt install python3-venv), or uv, and run make again." >&2; exit 1; }
	.tools/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
