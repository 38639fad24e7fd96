# Every target makes .venv and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test fuzz check docs bench format browser

help:                            ## what make can do
	@sed -n 's/^\([a-z]*\):.*## */\1\t/p' Makefile | expand -t 10

demo: .venv/installed            ## the whole story on packaged photographs, into demo/
	$(BIN)/conformask demo --out demo

test: .venv/developing browser   ## all tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadgroup

careamics:                       ## tests with CAREamics, whose caps need an environment of its own
	$(PYTHON) -m venv .venv-careamics
	.venv-careamics/bin/pip install --quiet --no-compile --editable '.[careamics]' beartype pytest
	OMP_NUM_THREADS=1 .venv-careamics/bin/pytest tests/predictors/test_careamics.py

fuzz: .venv/developing           ## damaged files and records, requests to the viewer, kills at every write
	CONFORMASK_FUZZ=3000 CONFORMASK_REQUESTS=20000 CONFORMASK_KILLS=0 $(BIN)/pytest tests/campaigns

check: .venv/developing          ## style, types, imports, documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) docs

docs: .venv/developing           ## the documentation, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/developing          ## speed side by side with the alternatives
	$(BIN)/python benchmarks/critical_lambda.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/recalibration.py
	$(BIN)/python benchmarks/exported.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/viewer.py

browser:                         ## Debian's Chromium (where root runs this) and axe-core for the viewer's tests; they skip without
	@command -v chromium chromium-browser google-chrome > /dev/null || \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && \
	apt-get update -qq && apt-get install -qq --no-install-recommends chromium libegl1 libgl1 libxkbcommon0 > /dev/null; } || \
	echo "no Chromium: the viewer's tests in a browser are skipped"
	@npm install --silent --no-save --prefix . axe-core@4 || echo "no axe-core: the tests of accessibility are skipped"

format: .venv/developing
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --no-compile --editable .
	touch $@

.venv/developing: .venv/installed
	$(BIN)/pip install --quiet --no-compile --editable '.[dev]'
	touch $@
