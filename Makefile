# make demo    install, then the main job on an embedded example: compile, run, verify; writes demo/overlay.png
# make test    install, then every test
# make lint    formatting and types
# make bench   speed and size against ONNX Runtime on this machine
# make clean   remove what demo and compile wrote (not .venv)
#
# PYTHON=...       the interpreter that makes .venv (3.11 or newer)
# TORCH_INDEX=...  a package index to take torch from; set it to PyTorch's CPU index where the default index
#                  would bring the CUDA build (several gigabytes that this program does not use)
# APT=no           never install system packages
# WORKERS=...      processes that run tests; PYTEST_ARGS=..., BENCH_ARGS=... are passed on

PYTHON ?= python3
TORCH_INDEX ?=
APT ?= yes
WORKERS ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.PHONY: help install system demo test lint bench clean
.DEFAULT_GOAL := help

help:
	@awk '/^#/ {sub(/^# ?/, ""); print; next} {exit}' Makefile

install: $(VENV)/installed

# torch first and alone, so that TORCH_INDEX decides its build and nothing else's.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --no-deps -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(BIN)/pip install -c constraints.txt -e '.[dev,emulate,rpc]'
	touch $@

system:
	APT=$(APT) scripts/system-packages

demo: install system
	$(BIN)/bhpe-compile example $(DEMO) --force
	$(BIN)/bhpe-compile $(DEMO)/model.pt --target native -o $(DEMO)/model-native
	$(BIN)/bhpe-compile run $(DEMO)/model-native $(DEMO)/person.png -o $(DEMO)/pose.json --overlay $(DEMO)/overlay.png
	$(BIN)/bhpe-compile verify $(DEMO)/model-native
	@echo "the model is untrained: $(DEMO)/pose.json and $(DEMO)/overlay.png show that it runs, not a pose"

test: install system
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -ra -n $(WORKERS) --dist loadgroup $(PYTEST_ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/whole_network.py $(BENCH_ARGS)

clean:
	rm -rf $(DEMO) dist
