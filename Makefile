# What the project can do from a fresh checkout. Everything is installed into .venv,
# once; VENV, PYTHON, REQUIRE (further requirements, as pip takes them) and EXTRAS (what
# to test with) can be set.
PYTHON ?= python3
VENV ?= .venv
REQUIRE ?=
EXTRAS ?= bench,docs,examples,test,upstream
bin := $(VENV)/bin
code := pml_memvir benchmarks docs examples tests upstream

.PHONY: help demo docs gpu test test-oldest lint upstream wheel dist clean

help:
	@echo "make demo         train a small network on rendered letters, without and with MemVir"
	@echo "make test         run the tests, side by side"
	@echo "make test-oldest  run the tests on torch 2.1 and numpy 1, in .venv-oldest;"
	@echo "                  those that need an extra of the benchmarks are skipped"
	@echo "make gpu          on a machine with a GPU: tests, times and a short training; a page of them"
	@echo "make lint         check format, style and types"
	@echo "make docs         build the documentation into output/site"
	@echo "make upstream     make the patch for pytorch-metric-learning, and check it"
	@echo "make wheel        build sdist and wheel into dist, and check them"
	@echo "make dist         the same, then install the wheel elsewhere and import it"
	@echo "make clean        remove .venv, .venv-oldest, build and dist"

demo: $(VENV)/.demo
	$(bin)/python -m benchmarks demo

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --strict --site-dir output/site

gpu: $(VENV)/.test
	$(bin)/python -m benchmarks gpu

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(bin)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-oldest:
	$(MAKE) test VENV=.venv-oldest EXTRAS=test REQUIRE='"torch==2.1.*" "numpy<2"'

lint: $(VENV)/.dev
	$(bin)/black --check $(code) setup.py
	$(bin)/isort --check $(code)
	$(bin)/flake8 $(code)
	$(bin)/mypy

upstream: $(VENV)/.upstream
	$(bin)/python -m upstream

wheel: $(VENV)/.dev
	rm -rf dist
	$(bin)/python -m build --outdir dist
	$(bin)/twine check --strict dist/*

# The wheel is installed into an environment of its own, and imported from elsewhere.
dist: wheel
	rm -rf build/clean
	$(PYTHON) -m venv build/clean
	build/clean/bin/pip install --quiet --disable-pip-version-check dist/*.whl $(REQUIRE)
	cd build/clean && bin/python -c "import pml_memvir; print(pml_memvir.__version__, pml_memvir.__file__)"
	rm -rf build/clean

clean:
	rm -rf .venv .venv-oldest build dist

# One stamp for each set of extras that is installed.
$(VENV)/.demo: extra = bench
$(VENV)/.test: extra = $(EXTRAS)
$(VENV)/.dev: extra = dev
$(VENV)/.docs: extra = docs
$(VENV)/.upstream: extra = upstream
$(VENV)/.demo $(VENV)/.docs $(VENV)/.test $(VENV)/.dev $(VENV)/.upstream: setup.cfg setup.py | $(bin)/pip
	@echo "Installing pml-memvir[$(extra)] into $(VENV) (PyTorch is large: some minutes)"
	$(bin)/pip install --quiet --disable-pip-version-check --editable '.[$(extra)]' $(REQUIRE)
	@touch $@

$(bin)/pip:
	@echo "Creating $(VENV)"
	$(PYTHON) -m venv $(VENV)
