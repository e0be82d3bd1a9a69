# `make demo` and `make test` do all set-up by themselves, in .venv; nothing else on the machine is touched.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# processes that run tests; each computes on one thread, and so do the processes that a test starts
WORKERS ?= 2

.PHONY: demo test test-oldest lint format benchmark docs package clean

demo: $(VENV)/installed
	$(BIN)/boundseg demo --out demo

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadscope

# the oldest versions that pyproject.toml allows, in .venv-oldest; torch alone is the one of constraints.txt (an older one
# has no CPU build on a plain index), without the CUDA libraries that it names
test-oldest: $(VENV)/installed
	$(PYTHON) -m venv .venv-oldest
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	grep '^torch==' constraints.txt > .venv-oldest/torch.txt
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra itk --resolution lowest-direct --quiet \
	  --override .venv-oldest/torch.txt --no-annotate --no-header | grep -v '^nvidia-\|^triton' > .venv-oldest/requirements.txt
	.venv-oldest/bin/python -m pip install --quiet --no-deps -r .venv-oldest/requirements.txt
	PYTHONPATH=src OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest --numprocesses $(WORKERS) --dist loadscope

# the site, in site/; every warning is an error
docs: $(VENV)/installed
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs site

# a wheel and an sdist in dist/, and what indices ask of them
package: $(VENV)/installed
	rm -rf dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check twine
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(VENV)/installed
	$(BIN)/python benchmarks/penalty_cost.py
	$(BIN)/python benchmarks/constraint_cost.py
	$(BIN)/python benchmarks/training_step.py

# constraints.txt names the versions that were tested; the package itself has open ranges. nnU-Net's dependencies bring
# torchvision's build for CUDA, which cannot be imported beside a torch for CPUs and then breaks whoever tries; nothing
# here needs it
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,itk,nnunet]'
	$(BIN)/python -c 'import torchvision' 2>/dev/null || $(BIN)/python -m pip uninstall --quiet --yes torchvision
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest dist site jupyter_execute demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
