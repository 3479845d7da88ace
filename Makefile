# Everything runs in a virtual environment of this checkout.
PYTHON ?= python3
VENV ?= .venv
SERVE_VENV ?= .venv_serve
OLDEST_VENV ?= .venv_oldest
BIN := $(VENV)/bin

# tensorflow-cpu is half the download; it exists for Linux without a GPU.
ifeq ($(shell uname -s)$(shell command -v nvidia-smi),Linux)
TENSORFLOW := tensorflow-cpu
else
TENSORFLOW := tensorflow
endif

# Two processes: most of a test is Python that builds graphs, on one core.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

BACKEND_TESTS := tests/test_masks.py tests/test_dropblock.py \
	tests/test_at_inference.py tests/test_dropout.py \
	tests/test_data_format.py \
	tests/test_schedules.py tests/test_callbacks.py tests/test_optimizers.py \
	tests/test_residual.py tests/test_wide_resnet.py tests/test_resnet.py \
	tests/test_torch_weights.py tests/test_conformance.py tests/test_fitting.py \
	tests/test_backup.py tests/test_stopping.py tests/test_draws.py \
	tests/test_normalization.py tests/test_pretrained.py \
	tests/test_predicting.py tests/test_cam.py \
	tests/test_processes.py tests/test_data.py tests/test_recipe_wiring.py
# Numbers of parameters are no backend's affair.
BACKEND_NAMES := not parameters_of and not parameters_are and not their_parameters
BACKEND_MARKS := (not slow or conformance or processes) and not soak

# These compare with torch itself, and need it beside TensorFlow.
PEER_TESTS := tests/test_torch_weights.py \
	tests/test_optimizers.py::test_a_network_takes_torchs_way_across_two_drops

# What a change in Keras or TensorFlow is likely to break.
OLDEST_TESTS := tests/test_masks.py tests/test_dropblock.py \
	tests/test_callbacks.py tests/test_optimizers.py tests/test_residual.py \
	tests/test_normalization.py tests/test_wide_resnet.py \
	tests/test_conformance.py \
	tests/test_fitting.py::test_a_run_leaves_all_that_explains_it

# What `make serve` serves, and how: see docs/serving.md.
SAVED_MODEL ?= saved_models/quickstart
SERVE_FLAGS ?=

.PHONY: help quickstart test test-slow test-backends test-oldest test-serving \
	test-fuzz soak mutants bench lint wheel serve clean

help:
	@echo "make quickstart     train, draw, export and serve a digit classifier"
	@echo "make test           the tests, on TensorFlow"
	@echo "make test-slow      the longer ones: every network, every conformance"
	@echo "make test-backends  layers, schedules and models on JAX and torch"
	@echo "make test-oldest    core tests with the oldest versions that are allowed"
	@echo "make test-serving   the HTTP server, under load, on this machine alone"
	@echo "make test-fuzz      bad input by the thousand: 4 minutes"
	@echo "make serve          serve saved_models/quickstart over HTTP"
	@echo "make soak           kill training 20 times on TensorFlow and on JAX"
	@echo "make mutants        break the code in small ways: every break must be caught"
	@echo "make bench          measure speed into benchmarks/results: 14 minutes"
	@echo "make lint           ruff check and ruff format --check"
	@echo "make wheel          build the wheel and check what is in it"
	@echo "make clean          remove the virtual environment and build outputs"

quickstart: $(VENV)/.tensorflow
	$(BIN)/python training/quickstart.py

test: $(VENV)/.dev
	$(PYTEST) -m "not slow and not soak and not fuzz"

# XLA spends most of these tests compiling: without optimising, half as long.
test-slow test-backends test-oldest: export XLA_FLAGS = --xla_backend_optimization_level=0

test-slow: $(VENV)/.dev
	$(PYTEST) -m slow

test-backends: $(VENV)/.backends
	KERAS_BACKEND=tensorflow $(PYTEST) $(PEER_TESTS)
	KERAS_BACKEND=jax $(PYTEST) -m "$(BACKEND_MARKS)" -k "$(BACKEND_NAMES)" \
	  $(BACKEND_TESTS)
	KERAS_BACKEND=torch $(PYTEST) -m "$(BACKEND_MARKS)" -k "$(BACKEND_NAMES)" \
	  $(BACKEND_TESTS)

test-oldest: $(OLDEST_VENV)/.oldest
	KERAS_BACKEND=tensorflow $(OLDEST_VENV)/bin/python -m pytest -n 2 \
	  --dist worksteal -m "not slow and not soak" -k "$(BACKEND_NAMES)" \
	  $(OLDEST_TESTS)

test-serving: $(SERVE_VENV)/.serve
	$(SERVE_VENV)/bin/python -m pytest tests/test_serving.py \
	  tests/test_fuzz_requests.py

# torch is needed too: its files are among the weights.
test-fuzz: $(VENV)/.backends
	$(PYTEST) -m fuzz

serve: $(SERVE_VENV)/.serve
	$(SERVE_VENV)/bin/python serving/server.py --saved_model=$(SAVED_MODEL) \
	  $(SERVE_FLAGS)

# One test a backend: more than one process would only slow each other.
soak: $(VENV)/.backends
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -m soak -s
	KERAS_BACKEND=jax $(BIN)/python -m pytest -m soak -s

# About half an hour. torch is needed too: some breaks show there alone.
mutants: $(VENV)/.backends
	$(BIN)/python tools/mutants.py

BENCHMARKS := layer train_step efficiency input_pipeline inference

# On a machine that does nothing else. KerasCV is measured where it is installed.
bench: $(VENV)/.backends
	@for name in $(BENCHMARKS); do \
		$(BIN)/python benchmarks/$$name.py || exit 1; \
	done
	$(BIN)/python benchmarks/tables.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

wheel: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --wheel
	$(BIN)/python tests/wheel_content.py dist/*.whl

clean:
	rm -rf $(VENV) $(SERVE_VENV) $(OLDEST_VENV) build dist

$(VENV)/bin/python $(SERVE_VENV)/bin/python $(OLDEST_VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) \
	else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: make PYTHON=...")'
	$(PYTHON) -m venv $(@:/bin/python=)
	$@ -m pip install --quiet --upgrade pip

$(VENV)/.tensorflow: pyproject.toml | $(VENV)/bin/python
	@echo "Installing keras_dropblock with $(TENSORFLOW) into $(VENV): about 2 GB on disk"
	$(BIN)/python -m pip install --quiet --editable '.[$(TENSORFLOW)]'
	@touch $@

$(VENV)/.dev: $(VENV)/.tensorflow
	$(BIN)/python -m pip install --quiet --editable '.[$(TENSORFLOW),dev]'
	@touch $@

# Pinned: some indexes have a build without CUDA of this release.
$(VENV)/.backends: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[jax,torch]'
	@touch $@

$(OLDEST_VENV)/.oldest: pyproject.toml tools/oldest.py | $(OLDEST_VENV)/bin/python
	$(OLDEST_VENV)/bin/python tools/oldest.py > $(OLDEST_VENV)/constraints.txt
	@echo "Installing into $(OLDEST_VENV): about 2 GB on disk"
	$(OLDEST_VENV)/bin/python -m pip install --quiet \
	  --constraint $(OLDEST_VENV)/constraints.txt \
	  --editable '.[$(TENSORFLOW)]' pytest pytest-xdist
	@touch $@

$(SERVE_VENV)/.serve: pyproject.toml | $(SERVE_VENV)/bin/python
	@echo "Installing KServe with $(TENSORFLOW) into $(SERVE_VENV): about 2 GB on disk"
	$(SERVE_VENV)/bin/python -m pip install --quiet \
	  --editable '.[$(TENSORFLOW),serve]' pytest
	@touch $@
