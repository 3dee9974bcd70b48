# make demo    a rehearsed rollout, offline         make docs        build the manual into site/
# make test    everything that must hold            make signatures  accept a changed public surface
# make lint    only style and types                 make faults      every fault at every AWS call
# make bench   the judge against its peers (QUICK=1) make overlap     how soon the overlap is known
# make pictures  draw the manual's pictures anew    make test-terraform  the recipe of the manual
# make clean   remove what make has made             make test-browser  reports and manual in a real
#                                                     chromium, screenshots into build/screenshots/

PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
# --verifytypes ignores --pythonpath; it takes the first python on the path.
PYRIGHT := PATH="$(CURDIR)/.venv/bin:$$PATH" python -m pyright

# One pyright, the one in the venv: no looking for newer ones, none from the environment.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
unexport PYRIGHT_PYTHON_FORCE_VERSION PYRIGHT_PYTHON_PYLANCE_VERSION PYTHONPATH

.PHONY: demo test test-browser test-terraform lint style mypy pyright pytest bench docs faults \
  overlap signatures pictures clean
.DELETE_ON_ERROR:

demo: .venv/.testing
	@$(PY) docs/examples/demo.py

test: lint docs pytest

lint: style mypy pyright

style: .venv/.dev
	@echo "==> ruff"
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --check --quiet . || { \
	  echo "Not formatted; run: $(PY) -m ruff format ."; exit 1; }

mypy: .venv/.dev
	@echo "==> mypy --strict"
	@$(PY) -m mypy

pyright: .venv/.dev
	@echo "==> pyright"
	@$(PYRIGHT)
	@$(PYRIGHT) --verifytypes apigw_canary --ignoreexternal

docs: .venv/.dev
	@echo "==> mkdocs"
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

pytest: .venv/.dev
	@echo "==> pytest"
	@$(PY) -m pytest --numprocesses=auto --dist=worksteal --cov --cov-report=term

test-browser: .venv/.browser docs
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	  echo "==> installing chromium"; \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null || { \
	    echo "Needed: the programs chromium and chromedriver. On Debian, as root:"; \
	    echo "  apt-get install chromium chromium-driver"; exit 1; }; \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
	    apt-get -qq install --no-install-recommends chromium chromium-driver fonts-dejavu-core; }
	@echo "==> pytest, in chromium"
	@$(PY) -m pytest tests/browser/check_pages.py

test-terraform: .venv/.dev
	@command -v terraform >/dev/null || { echo "Needed: the program terraform, 1.5 or later."; exit 1; }
	@echo "==> pytest, with terraform"
	@$(PY) -m pytest tests/terraform/check_recipe.py

bench: .venv/.bench
	@$(PY) benchmarks/run.py $(if $(QUICK),--quick)

faults: .venv/.dev
	@$(PY) tests/fault_matrix.py

overlap: .venv/.testing
	@$(PY) benchmarks/overlap.py

signatures: .venv/.dev
	@$(PY) tests/test_house.py

pictures: .venv/.dev
	@$(PY) docs/pictures/draw.py

clean:
	rm -rf .venv site .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find docs src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, $(PYTHON) is " + sys.version)'
	@echo "==> creating .venv"
	@$(PYTHON) -m venv .venv

# Stamps: what is installed follows pyproject.toml.
.venv/.testing: pyproject.toml | .venv/bin/python
	@echo "==> installing apigw-canary[testing]"
	@$(PIP) -e '.[testing]'
	@touch $@

.venv/.bench: pyproject.toml | .venv/bin/python
	@echo "==> installing apigw-canary[bench]"
	@$(PIP) -e '.[bench]'
	@touch $@

.venv/.browser: pyproject.toml | .venv/bin/python
	@echo "==> installing apigw-canary[browser]"
	@$(PIP) -e '.[browser]'
	@touch $@ .venv/.dev .venv/.testing

.venv/.dev: pyproject.toml | .venv/bin/python
	@echo "==> installing apigw-canary[dev]"
	@$(PIP) -e '.[dev]'
	@touch $@ .venv/.testing
