# make demo    install, then the main job on an embedded example: compile, run, verify; writes demo/overlay.png
# make test    install, then every test but those of make test-full
# make test-full the full-size network, every bit of it on x86 and AArch64, and the largest checkpoint (three to six minutes, 4 GB)
# make lint    formatting and types
# make bench   speed, size and memory against ONNX Runtime and OpenVINO on this machine, in an environment of its own
# make docs    the Python interface as HTML, in build/docs; a warning is an error
# make node-tests ONNX's own node tests through the door: pass, refused, wrong (half an hour); NODE_ARGS="--only relu"
# make mutants a sample of small changes to the passes and the kernels' layouts: which ones does no test notice? (an hour)
# make train   the embedded models from nothing (hours): people, training, distillation, accuracy; see docs/training.md
# make clean   remove what demo and compile wrote, and the benchmarks' environment (not .venv)
#
# PYTHON=...       the interpreter that makes .venv (3.11 or newer)
# TORCH_INDEX=...  a package index to take torch from; set it to PyTorch's CPU index where the default index
#                  would bring the CUDA build (several gigabytes that this program does not use)
# APT=no           never install system packages
# WORKERS=...      processes that run tests; PYTEST_ARGS=... is passed on
# BENCH_ARGS=...   passed on to benchmarks/run.py: --quick, --only conv,body, ...
# MUTANTS_ARGS=... passed on to scripts/mutants: --show, --again, --only passes/lower, --count 400, ...

PYTHON ?= python3
TORCH_INDEX ?=
APT ?= yes
WORKERS ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?=
MUTANTS_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
BENCH_VENV := .venv-bench
DEMO := demo
COMMA := ,

.PHONY: help install system demo test test-full lint bench docs mutants node-tests train clean
.DEFAULT_GOAL := help

help:
	@awk '/^#/ {sub(/^# ?/, ""); print; next} {exit}' Makefile

install: $(VENV)/installed

# torch first and alone, so that TORCH_INDEX decides its build and nothing else's.
define make_environment
	$(PYTHON) -m venv --clear $(1)
	$(1)/bin/pip install --no-deps -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(1)/bin/pip install -c constraints.txt -e '.[$(2)]'
endef

$(VENV)/installed: pyproject.toml constraints.txt
	$(call make_environment,$(VENV),dev$(COMMA)docs$(COMMA)emulate$(COMMA)rpc$(COMMA)eval$(COMMA)train$(COMMA)video$(COMMA)mesh)
	touch $@

$(BENCH_VENV)/installed: pyproject.toml constraints.txt
	$(call make_environment,$(BENCH_VENV),bench$(COMMA)emulate$(COMMA)video$(COMMA)mesh)
	touch $@

system:
	APT=$(APT) scripts/system-packages

demo: install system
	$(BIN)/bhpe-compile example $(DEMO) --force
	$(BIN)/bhpe-compile $(DEMO)/model-bidrn.pt --target native -o $(DEMO)/model-native
	$(BIN)/bhpe-compile verify $(DEMO)/model-native
	$(BIN)/bhpe-compile run $(DEMO)/model-native $(DEMO)/person.png -o $(DEMO)/person.json --overlay $(DEMO)/person-overlay.png
	$(BIN)/bhpe-compile run $(DEMO)/model-native $(DEMO)/drawn.jpg -o $(DEMO)/pose.json --overlay $(DEMO)/overlay.png
	@echo "look at $(DEMO)/overlay.png, a drawn person, which is what this small model knows;"
	@echo "$(DEMO)/person-overlay.png is a photograph: docs/model-card.md says how good that is"

test: install system
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -ra -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-full: install system
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -ra -m full $(PYTEST_ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BENCH_VENV)/installed
	$(BENCH_VENV)/bin/python benchmarks/run.py $(BENCH_ARGS)

docs: install
	$(BIN)/python scripts/api-docs build/docs

mutants: install
	$(BIN)/pip install -q -c constraints.txt -e '.[mutants]'
	nice $(BIN)/python scripts/mutants $(MUTANTS_ARGS)

node-tests: install
	$(BIN)/python scripts/node-tests $(NODE_ARGS)

train: install system
	BIN=$(BIN) scripts/train

clean:
	rm -rf $(DEMO) dist build/docs $(BENCH_VENV)
