# Every target makes .venv and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check docs bench format

demo: .venv/installed            ## the whole story on packaged photographs, into demo/
	$(BIN)/conformask demo --out demo

test: .venv/developing           ## all tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadgroup

check: .venv/developing          ## style, types, imports, documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/test_docs.py
	$(MAKE) docs

docs: .venv/developing           ## the documentation, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/developing          ## speed side by side with what one would use instead
	$(BIN)/python benchmarks/critical_lambda.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/recalibration.py
	$(BIN)/python benchmarks/exported.py
	$(BIN)/python benchmarks/growth.py

format: .venv/developing
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/developing: .venv/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
