# Every target makes .venv and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadgroup --durations=20
HEART := $(addprefix tests/,images losses masker masks promises records scores)
FILES := $(HEART) $(addprefix tests/extras/,export formats noise objects)
CORE := bioimageio,dask,dicom,geotiff,hub,mrc,nifti,onnx,perceptual,plot,skimage,spandrel,train,view,zarr
TOOLS := crepes hypothesis httpx mapie pandas polars 'pytest<9.2' pytest-xdist scikit-learn
DEMO ?=
NEWEST ?=
# What `make lowest` leaves at its newest version, such as NEWEST='torch torchvision'.

# Where it is set, as in containers, every process compiles again what it imports: 9 seconds instead of 4.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test thorough test-all leaves careamics fuzz types lowest check docs dist bench maskbench browser format

help:                            ## what make can do
	@sed -n 's/^\([a-z-]*\):.*## */\1\t/p' Makefile | expand -t 10

demo: .venv/installed            ## a first look at packaged photographs, into demo/ (DEMO=--no-browser: without the viewer)
	@echo "To type the commands below in this shell, first: source .venv/bin/activate"
	$(BIN)/conformask demo --out demo $(DEMO)

test: .venv/testing              ## the heart, one quick test a behaviour, and the main path of each leaf
	$(PYTEST) -m "not slow and not thorough"

thorough: .venv/testing          ## the others, but for the slow ones and those of napari, MONAI, deepinv, transformers
	$(PYTEST) -m "thorough and not slow"

test-all: .venv/developing       ## all tests, with those of every plugin that can be installed beside the others
	CONFORMASK_FUZZ=4 CONFORMASK_RECORDS=25 $(PYTEST)

leaves: .venv/testing            ## the heart without each leaf of extras/, and its tests in a copy without any
	$(BIN)/pytest tests/test_leaves.py
	rm -rf build/heart && $(BIN)/python tests/leaves.py build/heart
	cd build/heart && PYTHONPATH=$(CURDIR)/build/heart/src OMP_NUM_THREADS=1 \
	$(CURDIR)/$(BIN)/pytest -n auto --dist loadgroup -m "not slow" $(HEART) tests/cli

careamics:                       ## tests with CAREamics, whose caps need an environment of its own
	$(PYTHON) -m venv .venv-careamics
	.venv-careamics/bin/pip install --quiet --no-compile --editable '.[careamics]' beartype pytest
	OMP_NUM_THREADS=1 .venv-careamics/bin/pytest tests/extras/make/test_careamics.py

fuzz: .venv/testing              ## damaged files and records, requests to the viewer, kills at every write
	CONFORMASK_FUZZ=120 CONFORMASK_RECORDS=3000 CONFORMASK_KILLS=0 CONFORMASK_FAULTS=0 CONFORMASK_PLACES=1 \
	$(BIN)/pytest tests/campaigns

types: .venv/testing             ## tests with types and shapes checked at every call, but for those that take long
	CONFORMASK_TYPES=1 $(PYTEST) -m "not slow and not thorough" $(FILES)

lowest:                          ## tests with the oldest versions that are allowed, in an environment of its own
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) tests/lowest.py $(CORE) $(NEWEST) > .venv-lowest/constraints.txt
	.venv-lowest/bin/pip install --quiet --no-compile --editable '.[$(CORE)]' $(TOOLS) --constraint .venv-lowest/constraints.txt
	NUMBA_CACHE_DIR=.venv-lowest/numba OMP_NUM_THREADS=1 .venv-lowest/bin/pytest -n auto --dist loadgroup $(FILES)

check: .venv/checking            ## style, types, imports, documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) docs

docs: .venv/checking             ## the documentation, into site/
	$(BIN)/python docs/build.py site

dist: .venv/installed            ## wheel and source distribution into dist/, checked, and the demonstration from the wheel
	$(BIN)/pip install --quiet --no-compile 'build>=1.2' 'twine>=6'
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv --clear .venv-wheel
	.venv-wheel/bin/pip install --quiet --no-compile "$$(echo dist/*.whl)[skimage]"
	.venv-wheel/bin/conformask demo --out demo-of-wheel --no-browser

bench: .venv/testing             ## speed side by side with the alternatives
	$(BIN)/python benchmarks/critical_lambda.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/recalibration.py
	$(BIN)/python benchmarks/exported.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/viewer.py

maskbench: .venv/testing         ## cells of MaskBench that are missing, table, pictures, numbers of the documentation (DATA=, WORK=)
	$(BIN)/pip install --quiet --no-compile --editable './maskbench[networks]'
	$(BIN)/maskbench run "$(DATA)" "$(WORK)"
	$(BIN)/maskbench page

browser:                         ## Chromium (Debian's, where root runs this) and axe-core, without which tests are skipped
	@command -v chromium chromium-browser google-chrome > /dev/null || \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && \
	apt-get update -qq && apt-get install -qq --no-install-recommends chromium libegl1 libgl1 libxkbcommon0 > /dev/null; } || \
	echo "no Chromium: the viewer's tests in a browser are skipped"
	@npm install --silent --no-save --prefix . axe-core@4 || echo "no axe-core: the tests of accessibility are skipped"

format: .venv/checking
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/installed: pyproject.toml
	@echo "Installing conformask and PyTorch into .venv: 5 GB on Linux, where PyTorch brings CUDA, else 1.3 GB."
	@echo "It takes 1 to 15 minutes; nothing is printed meanwhile."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --no-compile --editable '.[skimage,train,view]'
	touch $@

.venv/checking: .venv/installed
	$(BIN)/pip install --quiet --no-compile --editable '.[check]'
	touch $@

.venv/testing: .venv/installed
	$(BIN)/pip install --quiet --no-compile --editable '.[test]'
	touch $@

.venv/developing: .venv/installed
	$(BIN)/pip install --quiet --no-compile --editable '.[dev]'
	touch .venv/checking .venv/testing $@
