# All commands run in virtual environments inside this checkout.
PYTHON ?= python3
VENV ?= .venv
SERVE_VENV ?= .venv_serve
VISION_VENV ?= .venv_vision
OLDEST_VENV ?= .venv_oldest
BIN := $(VENV)/bin

# tensorflow-cpu is half the download of tensorflow. Use it on Linux machines
# without a GPU.
ifeq ($(shell uname -s)$(shell command -v nvidia-smi),Linux)
TENSORFLOW := tensorflow-cpu
else
TENSORFLOW := tensorflow
endif

# Two processes, because a test mostly runs Python code that builds graphs, and
# so uses one core.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

# Tests of what a backend can change. Cards, weights files, pictures and predictions
# are NumPy and files: test_data_format.py loads a published model and asks it. Of the
# analysis, these are gradients, draws in compiled predictions, and blocks that are
# removed.
BACKEND_TESTS := tests/test_masks.py tests/test_dropblock.py \
	tests/test_draws.py tests/test_dropout.py tests/test_normalization.py \
	tests/test_residual.py tests/test_wide_resnet.py tests/test_resnet.py \
	tests/test_at_inference.py tests/test_data_format.py tests/test_gradcam.py \
	tests/test_callbacks.py tests/test_optimizers.py \
	tests/test_conformance.py tests/test_fitting.py \
	tests/test_recipe_wiring.py tests/test_checkpoint.py \
	tests/test_stopping.py tests/test_processes.py tests/test_data.py \
	tests/test_uncertainty.py \
	tests/test_objects.py::test_a_map_of_the_object_is_inside_and_a_constant_one_is_as_the_image \
	tests/test_objects.py::test_pixels_and_anchors_of_other_classes_do_not_count \
	tests/test_redundancy.py::test_scores_without_a_block_are_those_of_the_shortcut
# Parameter counts and the real data do not depend on the backend.
BACKEND_NAMES := not parameters_of and not parameters_are and not their_parameters \
	and not cifar10
BACKEND_MARKS := (not slow or conformance or processes) and not soak

# These tests compare TensorFlow with torch or read its files, and need both.
PEER_TESTS := tests/test_torch_weights.py tests/test_published_weights.py \
	tests/test_optimizers.py::test_a_network_trains_as_in_torch_across_two_drops

# The tests of what needs KerasHub, which .venv does not have.
VISION_TESTS := tests/test_detection.py tests/test_detection_scores.py \
	tests/test_gradcam.py::test_a_classifier_of_keras_hub \
	tests/test_insertion.py::test_a_backbone_and_a_classifier_of_keras_hub \
	"tests/test_readme.py::test_python_blocks_run_in_order_in_any_folder[detection]"

# Tests that are likely to fail with a different Keras or TensorFlow.
OLDEST_TESTS := tests/test_masks.py tests/test_dropblock.py \
	tests/test_callbacks.py tests/test_optimizers.py tests/test_residual.py \
	tests/test_normalization.py tests/test_wide_resnet.py \
	tests/test_conformance.py \
	tests/test_fitting.py::test_a_run_leaves_all_that_explains_it \
	tests/test_hub_addresses.py::test_an_interrupted_download_is_resumed \
	tests/test_hub_addresses.py::test_without_a_network_the_cache_is_used_or_an_error_says_so

# The model and the flags of `make serve`: see docs/serving.md.
SAVED_MODEL ?= saved_models/quickstart
SERVE_FLAGS ?=

.PHONY: help quickstart test test-slow test-backends test-oldest test-serving \
	test-browser browser-programs demo test-vision test-fuzz soak mutants \
	bench bench-serving docs lint wheel serve clean evidence \
	evidence-tables

help:
	@echo "make quickstart     train a digit classifier, draw plots, export it"
	@echo "make test           run the tests on TensorFlow"
	@echo "make test-slow      run the longer tests: all networks, all conformance tests"
	@echo "make test-backends  test layers, schedules and models on JAX and torch"
	@echo "make test-oldest    run core tests with the oldest supported versions"
	@echo "make test-serving   test the HTTP server under load, on this machine only"
	@echo "make demo           build the demo for the browser in build/demo"
	@echo "make test-browser   test the report, demo and documentation in Chromium"
	@echo "make test-vision    test detection and DeepLab with KerasHub"
	@echo "make test-fuzz      test with thousands of bad inputs: 4 minutes"
	@echo "make serve          serve saved_models/quickstart over HTTP"
	@echo "make soak           kill a training run 20 times on TensorFlow and on JAX"
	@echo "make mutants        mutation testing: the tests must detect small bugs"
	@echo "make bench          measure speed, write benchmarks/results"
	@echo "make docs           build the documentation in build/docs"
	@echo "make evidence       train the runs that check the papers' claims: hours"
	@echo "make lint           run ruff check and ruff format --check"
	@echo "make wheel          build the wheel and check its content"
	@echo "make clean          remove the virtual environment and build outputs"

quickstart: $(VENV)/.tensorflow
	$(BIN)/python training/quickstart.py

test: $(VENV)/.dev
	$(PYTEST) -m "not slow and not soak and not fuzz and not browser"

# These tests spend most of their time in XLA compilation. Without optimization
# they take half as long.
test-slow test-backends test-oldest: export XLA_FLAGS = --xla_backend_optimization_level=0

test-slow: $(VENV)/.dev
	$(PYTEST) -m slow

test-backends: $(VENV)/.backends
	KERAS_BACKEND=tensorflow $(PYTEST) $(PEER_TESTS)
	KERAS_BACKEND=jax $(PYTEST) -m "$(BACKEND_MARKS)" -k "$(BACKEND_NAMES)" \
	  $(BACKEND_TESTS)
	KERAS_BACKEND=jax $(PYTEST) \
	  tests/test_segmentation.py::test_a_step_of_training_on_this_backend
	KERAS_BACKEND=torch $(PYTEST) -m "$(BACKEND_MARKS)" -k "$(BACKEND_NAMES)" \
	  $(BACKEND_TESTS)

test-oldest: $(OLDEST_VENV)/.oldest
	KERAS_BACKEND=tensorflow $(OLDEST_VENV)/bin/python -m pytest -n 2 \
	  --dist worksteal -m "not slow and not soak" -k "$(BACKEND_NAMES)" \
	  $(OLDEST_TESTS)

test-serving: export VISION_PYTHON = $(abspath $(VISION_VENV))/bin/python
test-serving: $(SERVE_VENV)/.serve
	$(SERVE_VENV)/bin/python -m pytest tests/test_serving.py \
	  tests/test_serving_images.py \
	  tests/test_fuzz_requests.py

# Without Chromium these tests would be skipped, so it is installed first.
test-browser: browser-programs $(VENV)/.browser demo
	$(BIN)/python -m pytest -m browser tests/*_browser.py

# KerasHub needs the full `tensorflow`, so it has an environment of its own.
test-vision: $(VISION_VENV)/.vision
	$(VISION_VENV)/bin/python -m pytest -n 2 --dist worksteal \
	  -m "not soak and not fuzz" $(VISION_TESTS)
	KERAS_BACKEND=jax $(VISION_VENV)/bin/python -m pytest \
	  tests/test_detection.py -k fit_lowers

# Needs torch too, because some tests read Torch weights.
test-fuzz: $(VENV)/.backends
	$(PYTEST) -m fuzz

serve: $(SERVE_VENV)/.serve
	$(SERVE_VENV)/bin/python serving/server.py --saved_model=$(SAVED_MODEL) \
	  $(SERVE_FLAGS)

# There is one test for each backend, so parallel processes would not help.
soak: $(VENV)/.backends
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -m soak -s
	KERAS_BACKEND=jax $(BIN)/python -m pytest -m soak -s

# Needs torch too, because only the tests on torch detect some of the mutants.
mutants: $(VENV)/.backends
	$(BIN)/python tools/mutants.py

BENCHMARKS := layer train_step efficiency input_pipeline between_epochs inference

# Run this on an idle machine. KerasCV is measured if it is installed.
bench: $(VENV)/.backends
	@for name in $(BENCHMARKS); do \
		$(BIN)/python benchmarks/$$name.py || exit 1; \
	done
	$(MAKE) bench-serving
	$(BIN)/python benchmarks/tables.py

# Runs in the environment of the server and its client.
bench-serving: $(SERVE_VENV)/.serve
	$(SERVE_VENV)/bin/python benchmarks/serving.py

APT := apt-get install -qq --no-install-recommends
browser-programs:
	@command -v chromedriver > /dev/null || \
	  { apt-get update -qq && $(APT) chromium chromium-driver; }
	@command -v npm > /dev/null || { apt-get update -qq && $(APT) npm; }

# npm downloads ONNX Runtime Web once, into build/npm.
demo: $(VENV)/.dev
	$(BIN)/python tools/demo.py build/demo

# Executes the notebooks that have changed since the last build. The one about
# detection needs the environment of `make test-vision`. The demo is linked if
# `make demo` has built it.
docs: export VISION_PYTHON = $(abspath $(VISION_VENV))/bin/python
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -c docs . build/docs
	@if [ -d build/demo ]; then cp -r build/demo build/docs/docs/; fi
	@echo "The documentation is in build/docs/index.html"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

wheel: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --wheel
	$(BIN)/python tests/wheel_content.py dist/*.whl

clean:
	rm -rf $(VENV) $(SERVE_VENV) $(OLDEST_VENV) $(VISION_VENV) build dist

$(VENV)/bin/python $(SERVE_VENV)/bin/python $(OLDEST_VENV)/bin/python \
$(VISION_VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) \
	else f"Python 3.11 to 3.13 is required, not {v[0]}.{v[1]}: make PYTHON=...")'
	$(PYTHON) -m venv $(@:/bin/python=)
	$@ -m pip install --quiet --upgrade pip

$(VENV)/.tensorflow: pyproject.toml | $(VENV)/bin/python
	@echo "Installing keras_dropblock with $(TENSORFLOW) into $(VENV): about 2 GB on disk"
	$(BIN)/python -m pip install --quiet --editable '.[$(TENSORFLOW)]'
	@touch $@

$(VENV)/.dev: $(VENV)/.tensorflow
	$(BIN)/python -m pip install --quiet --editable '.[$(TENSORFLOW),dev]'
	@touch $@

$(VENV)/.browser: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable '.[browser]'
	@touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

# This version is pinned, because some indexes have a build of it without CUDA.
$(VENV)/.backends: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[jax,torch]'
	@touch $@

$(OLDEST_VENV)/.oldest: pyproject.toml tools/oldest.py | $(OLDEST_VENV)/bin/python
	$(OLDEST_VENV)/bin/python tools/oldest.py > $(OLDEST_VENV)/constraints.txt
	@echo "Installing into $(OLDEST_VENV): about 2 GB on disk"
	$(OLDEST_VENV)/bin/python -m pip install --quiet \
	  --constraint $(OLDEST_VENV)/constraints.txt \
	  --editable '.[$(TENSORFLOW),hub]' pytest pytest-xdist
	@touch $@

$(VISION_VENV)/.vision: pyproject.toml | $(VISION_VENV)/bin/python
	@echo "Installing KerasHub into $(VISION_VENV): about 3 GB on disk"
	$(VISION_VENV)/bin/python -m pip install --quiet \
	  --editable '.[tensorflow,vision,onnx,report,search,jax]' pytest pytest-xdist ipykernel
	@touch $@

$(SERVE_VENV)/.serve: pyproject.toml | $(SERVE_VENV)/bin/python
	@echo "Installing KServe with $(TENSORFLOW) into $(SERVE_VENV): about 2 GB on disk"
	$(SERVE_VENV)/bin/python -m pip install --quiet \
	  --editable '.[$(TENSORFLOW),serve,serve-client]' pytest
	@touch $@

# Training takes hours. It can be stopped (Ctrl-C) and resumed.
# make evidence JOBS=2 trains two runs at a time.
JOBS ?= 1
evidence: $(VENV)/.dev
	$(BIN)/python training/evidence/evidence.py
	$(BIN)/python training/evidence/evidence.py --train --jobs=$(JOBS)

evidence-tables: $(VENV)/.dev
	$(BIN)/python training/evidence/evidence.py --tables
