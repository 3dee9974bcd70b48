# make demo    a rehearsed rollout, offline         make docs        build the manual into site/
# make check   style, types and the quick tests     make signatures  accept a changed public surface
# make test    everything that must hold            make faults      every fault at every AWS call
# make test-all  the same, and the tests on each other Python found (NEWEST=1: the newest of them)
# make lint    only style and types                 make overlap     how soon the overlap is known
# make bench   the judge against its peers (ROLLOUTS=n) make test-terraform  the recipe of the manual
# make hostile 2,000 damaged answers of AWS (ANSWERS=n SEED=n)
# make search  50,000 whole rollouts drawn at random: what must never happen (ROLLOUTS=n FIRST=n)
# make search-proof  the same on the code of 2026-11-24, where it must find known faults
# make pictures  draw the manual's pictures anew    make test-browser  reports and manual in a real
# make outputs   write the outputs of examples anew    chromium, screenshots into build/screenshots/
# make clean   remove what make has made
# make test-emulators  rollouts on LocalStack and ministack, in environments of their own (Python 3.11)
# make kills   processes killed at calls of theirs, in 30 rollouts (SEEDS=n FIRST=n)
# make fuzz    100,000 random series through the evidence (SERIES=n)
# make guards  how often the guard at 100 % fires, and how soon (DAYS=n)
# make production  how many healthy rollouts the rule about production delays (ROLLOUTS=n)
# make dist    source archive and wheel of the last commit, into dist/ (PROJECT_URL=https://...)
# make unknown  tables of detection and promotion with unknown outcomes (ROLLOUTS=n)
# make forecasts  forecasts and backtests against an independent simulation (ROLLOUTS=n)
# make low-traffic  how long a verdict takes at low traffic (ROLLOUTS=n)
# make latency  what latency by default finds, and rolls back wrongly (ROLLOUTS=n)
# make sharpness  confirmation beside its limit, late changes and bursts (ROLLOUTS=n)
# make log-routes  what an observation of 400 routes from access logs takes
# make evidence  run all of these that the manual quotes, and write docs/evidence (NAME=one of them)

PYTHON ?= python3
PY := .venv/bin/python
PIP := -m pip install --quiet --disable-pip-version-check
# Installs with a given Python. Dependency groups need pip 25.1, which a new venv may not have.
install = $(1) $(PIP) 'pip>=25.1' && $(1) $(PIP)
# --verifytypes ignores --pythonpath; it takes the first python on the path.
PYRIGHT := PATH="$(CURDIR)/.venv/bin:$$PATH" python -m pyright

PYTEST := -m pytest --numprocesses=auto --dist=worksteal
# Beside each other; the output of each in one piece, where make is 4 or later.
BESIDE = @$(MAKE) --no-print-directory -j \
  $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
# The other Pythons that are there; PYENV_VERSION is for those that are pyenv's.
OTHERS = $(filter-out $(shell $(PY) -c 'import sys; print("%d.%d" % sys.version_info[:2])'), \
  $(foreach v,3.11 3.12 3.13 3.14,$(if $(shell PYENV_VERSION=$v python$v -m venv -h 2>&-),$v)))

# One pyright, the one in the venv: no looking for newer ones, none from the environment.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
unexport PYRIGHT_PYTHON_FORCE_VERSION PYRIGHT_PYTHON_PYLANCE_VERSION PYTHONPATH
# Images of containers often set it; then each process that a test starts compiles all it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo check test test-all test-browser test-emulators test-terraform lint style mypy pyright pytest quick \
  bench dist docs evidence faults forecasts fuzz guards hostile interleavings kills latency log-routes low-traffic overlap production \
  unknown signatures pictures outputs clean search search-proof sharpness
.DELETE_ON_ERROR:

demo: .venv/.testing
	@$(PY) docs/examples/demo.py

check: .venv/.dev
	$(BESIDE) lint quick

test: .venv/.dev
	@echo "==> style, types, manual and tests, beside each other"
	$(BESIDE) lint docs pytest

test-all: test
	@for v in $(if $(NEWEST),$(lastword $(OTHERS)),$(OTHERS)); do \
	  $(MAKE) --no-print-directory pytest-$$v || exit 1; done

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
	@$(PY) $(PYTEST) --cov --cov-report=term

quick: .venv/.dev
	@echo "==> pytest, the quick tests"
	@HYPOTHESIS_PROFILE=quick $(PY) $(PYTEST) --quiet -m "not long"

pytest-%: .venv/%/.dev
	@echo "==> pytest, on Python $*"
	@.venv/$*/bin/python $(PYTEST)

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
	@$(PY) benchmarks/run.py $(if $(QUICK),--quick) $(if $(ROLLOUTS),--rollouts $(ROLLOUTS))

faults: .venv/.dev
	@$(PY) tests/fault_matrix.py

interleavings: .venv/.dev
	@$(PY) tests/interleavings.py 500

test-emulators: .venv/.dev .venv/emulators/.done .venv/ministack/.done
	@echo "==> pytest, on LocalStack and ministack"
	@timeout 600 $(PY) -m pytest -qs tests/emulators/check_*.py

kills: .venv/.dev
	@$(PY) tests/served_processes.py $(or $(SEEDS),30) $(or $(FIRST),0)

hostile: .venv/.dev
	@$(PY) tests/hostile.py $(or $(ANSWERS),2000) $(or $(SEED),0)

fuzz: .venv/.dev
	@$(PY) tests/fuzz_evidence.py $(SERIES)

unknown: .venv/.testing
	@$(PY) benchmarks/unknown.py $(ROLLOUTS)

guards: .venv/.testing
	@$(PY) benchmarks/guards.py $(DAYS)

production: .venv/.testing
	@$(PY) benchmarks/production.py $(ROLLOUTS)

forecasts: .venv/.testing
	@$(PY) benchmarks/forecasts.py $(ROLLOUTS)

latency: .venv/.testing
	@$(PY) benchmarks/latency.py $(ROLLOUTS)

log-routes: .venv/.testing
	@$(PY) benchmarks/log_routes.py

low-traffic: .venv/.testing
	@$(PY) benchmarks/low_traffic.py $(ROLLOUTS)

sharpness: .venv/.testing
	@$(PY) benchmarks/sharpness.py $(ROLLOUTS)

evidence: .venv/.testing $(if $(filter-out judges,$(or $(NAME),judges)),,.venv/.bench)
	@$(PY) benchmarks/evidence.py $(NAME)

overlap: .venv/.testing
	@$(PY) benchmarks/overlap.py

search: .venv/.testing
	@PYTHONPATH=tests $(PY) -m search --rollouts $(or $(ROLLOUTS),50000) --first-seed $(or $(FIRST),0)

# The code before its faults were known, from the history; without a history there is no proof.
FAULTY := 6e9fb79
search-proof: .venv/.testing
	@if git cat-file -e $(FAULTY) 2>/dev/null; then \
	  rm -rf build/faulty && mkdir -p build/faulty && \
	  git archive $(FAULTY) src | tar -x -C build/faulty && \
	  PYTHONPATH=build/faulty/src:tests $(PY) -m search --proof --rollouts $(or $(ROLLOUTS),5000); \
	else echo "Skipped: commit $(FAULTY) is not in this history."; fi

signatures: .venv/.dev
	@$(PY) tests/test_house.py

outputs: .venv/.dev
	@$(PY) tests/test_examples.py
	@$(PY) tests/test_architecture.py

pictures: .venv/.dev
	@$(PY) docs/pictures/draw.py

# From the last commit, so that no other file gets in. PROJECT_URL, such as https://github.com/o/r:
# the README's links lead there, to the files of the version's tag.
TAG = v$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
dist: .venv/.dev
	@rm -rf build/dist dist && mkdir -p build/dist && git archive HEAD | tar -x -C build/dist
	@if [ -n "$(PROJECT_URL)" ]; then sed -E \
	  -e 's#(!\[[^]]*\]\()(docs/[^)]*)#\1$(PROJECT_URL)/raw/$(TAG)/\2#g' \
	  -e 's#(\]\()(docs/|[A-Z]+[.)])#\1$(PROJECT_URL)/blob/$(TAG)/\2#g' \
	  README.md >build/dist/README.md; fi
	@$(PY) -m build --outdir dist build/dist >build/dist.log || { cat build/dist.log; exit 1; }
	@$(PY) -m twine check --strict dist/*

clean:
	rm -rf .venv site .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find benchmarks docs src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, $(PYTHON) is " + sys.version)'
	@echo "==> creating .venv"
	@$(PYTHON) -m venv .venv

# Stamps: what is installed follows pyproject.toml.
.venv/.testing: pyproject.toml | .venv/bin/python
	@echo "==> installing apigw-canary[testing]"
	@$(call install,$(PY)) -e '.[testing]'
	@touch $@

.venv/.bench: pyproject.toml | .venv/bin/python
	@echo "==> installing apigw-canary and the group bench"
	@$(call install,$(PY)) -e . --group bench
	@touch $@

.venv/.browser: pyproject.toml | .venv/bin/python
	@echo "==> installing apigw-canary[testing] and the group browser"
	@$(call install,$(PY)) -e '.[testing]' --group browser
	@touch $@ .venv/.dev .venv/.testing

.venv/.dev: pyproject.toml | .venv/bin/python
	@echo "==> installing apigw-canary[testing] and the group dev"
	@$(call install,$(PY)) -e '.[testing]' --group dev
	@touch $@ .venv/.testing

# The last LocalStack without an account, and what of its requirements it does not run with newer.
.venv/emulators/.done: Makefile
	@command -v python3.11 >/dev/null || { echo "Needed: Python 3.11."; exit 1; }
	@echo "==> installing LocalStack"
	@python3.11 -m venv .venv/emulators
	@.venv/emulators/bin/python $(PIP) 'localstack-core[runtime]==4.13.1' 'cbor2<6' \
	  'pyopenssl<24.3' 'cryptography<43' 'service-identity<25' 'joserfc<1.4'
	@touch $@

# It pins botocore, so it cannot share an environment.
.venv/ministack/.done: Makefile
	@command -v python3.11 >/dev/null || { echo "Needed: Python 3.11."; exit 1; }
	@echo "==> installing ministack"
	@python3.11 -m venv .venv/ministack
	@.venv/ministack/bin/python $(PIP) 'ministack==1.5.33'
	@touch $@

.PRECIOUS: .venv/%/.dev
.venv/%/.dev: pyproject.toml | .venv/bin/python
	@echo "==> installing apigw-canary[testing] and the group dev on Python $*"
	@PYENV_VERSION=$* python$* -m venv .venv/$*
	@$(call install,.venv/$*/bin/python) -e '.[testing]' --group dev
	@touch $@
