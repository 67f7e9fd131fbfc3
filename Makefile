# Everything a newcomer, a developer and CI do with Crossdock; `make` alone lists it.
# Needs: a Python of 3.11 or later, this make and a POSIX shell.

VENV := .venv
PY := $(VENV)/bin/python
# What Python compiled is kept, also where the environment forbids it: that is half of what collecting tests takes.
unexport PYTHONDONTWRITEBYTECODE
# More workers than this wait for the one database they share.
PYTEST := $(PY) -m pytest -n logical --maxprocesses 4 --dist worksteal
# Set-up, rights, and of the SQL that is written by hand what depends most on the version of PostgreSQL, and on being
# an ordinary role of it: locks, races, plans. The rest would say the same twice.
OUTSIDE = -m outside $(shell grep -rl --include='test_*.py' 'pytest\.mark\.outside' tests)
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
# Packages are compiled once they are installed, by all cores: where Python may not write what it compiled
# (PYTHONDONTWRITEBYTECODE, as in many containers), every command would do it again. Three quarters of all files belong
# to vendors' packages of which a test or two use a little: that is compiled as it is used.
COMPILE := $(PY) -m compileall -q -j 0 -x 'site-packages/(hubspot|moto|mypyc?|pip|setuptools|square|stripe|twilio)/' src $(VENV)/lib

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# An environment that was copied here, or whose Python is gone, is made anew.
ifneq ($(shell $(PY) -c 'print(open("$(VENV)/made-for").read())' 2>/dev/null),$(CURDIR))
ENVIRONMENT := environment
endif

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: $(VENV)/runs ## Start the hub with its own database and a demo tenant; Ctrl-C stops everything
	@$(VENV)/bin/crossdock serve --demo

.PHONY: test
test: setup ## Set up and check everything: what CI runs
	@# Types take as long as all the other checks, and one core.
	@$(MAKE) -j 2 -k -O types test-outside structure lint
	@$(PYTEST)

.PHONY: setup
setup: $(VENV)/develops ## Make .venv with all that developing needs; `run` and `test` do it by themselves

.PHONY: check
check: setup ## Lint, types, import contracts, dead code, dependencies, generated files
	@$(MAKE) -j 2 -k -O lint types structure

.PHONY: format
format: setup ## Bring the code into the one format and mend what the linter can
	@$(PY) -m ruff check --quiet --fix-only .
	@$(PY) -m ruff format .

.PHONY: generate
generate: setup ## Write the files under docs/ that are made from the code
	@$(PY) -m tests.generated_files

.PHONY: test-outside
test-outside: setup ## A part of the tests on the machine's own PostgreSQL (15 or later), where it has one
	@$(PY) -m tests.outside_postgres $(PYTEST) $(OUTSIDE)

.PHONY: test-slow
test-slow: setup ## The tests that take long: of the benches that start and kill many processes
	@$(PYTEST) -m slow

.PHONY: bench
bench: $(VENV)/runs ## Measure this machine and say which bars are met: all (half an hour), or one with NAME=drain
	@$(PY) -m bench $(or $(NAME),all)

.PHONY: soak
soak: $(VENV)/runs ## Ten minutes at half of the maximum with random kills; SECONDS=60 for less
	@$(PY) -m bench soak $(if $(SECONDS),--seconds $(SECONDS))

.PHONY: clean
clean: ## Delete .venv, caches and build results; the database and keys in the data folder stay
	@rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: lint
lint:
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --quiet --check . || { echo 'Run: make format'; exit 1; }

.PHONY: types
types:
	@$(PY) -m mypy --no-error-summary

.PHONY: structure
structure:
	@$(VENV)/bin/lint-imports --no-logo
	@$(PY) -m tests.dead_code
	@$(PY) -m deptry --no-ansi src
	@$(PY) -m tests.generated_files --check

define FIND_PYTHON
found=; \
for candidate in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
  "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
  found="$$candidate"; \
  "$$candidate" -c 'import ensurepip, venv' 2>/dev/null && break; \
  found="$$found without venv"; \
done; \
case "$$found" in \
  '') echo 'Crossdock needs Python 3.11 or later, and found none. Install one, or say where it is: make PYTHON=/path/to/python3 ...' >&2; exit 1;; \
  *' without venv') echo "$${found% without venv} has no venv or no ensurepip. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1;; \
esac
endef

.PHONY: environment
environment:

# The pip that comes with Python may be years old; what it takes to find out what to install, a newer one does in a third.
$(VENV)/made-for: $(ENVIRONMENT)
	@$(FIND_PYTHON); \
	echo "Setting up with $$($$found --version); this is done once and takes a minute."; \
	rm -rf $(VENV) && "$$found" -m venv $(VENV) && $(PIP_INSTALL) --upgrade pip && printf %s '$(CURDIR)' > $@

$(VENV)/runs: $(VENV)/made-for pyproject.toml constraints.txt
	@$(PIP_INSTALL) -e .
	@$(COMPILE)
	@touch $@

$(VENV)/develops: $(VENV)/made-for pyproject.toml constraints.txt
	@$(PIP_INSTALL) -e '.[dev]'
	@$(COMPILE)
	@# A real authorization server for the tests of OAuth, where there is Node; without it they are skipped.
	@if command -v npm >/dev/null; then npm ci --silent --no-audit --no-fund --prefix tests/oidc || true; fi
	@touch $(VENV)/runs $@
