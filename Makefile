# Everything that is done here, as one word each. `make help` lists them.
# Each target that needs Python makes .venv first and installs what it needs.

PYTHON ?= python3
BIN := .venv/bin
PARTEDVAE := $(BIN)/partedvae

DATASET ?= mnist
RECIPE ?= default
SEED ?= 0
MODELS ?= models
ADDRESS ?= 127.0.0.1:50051
BENCH_MODELS ?= demo/models
BENCH_DOCUMENT = $(if $(DOCS),--document docs/BENCHMARKS.md)
# pytriton needs a Python whose libpython it finds; the system's has one.
PEERS_PYTHON ?= $(firstword $(wildcard /usr/bin/python3) $(PYTHON))
# The model that `make extract` uses when no SERVER is given.
MODEL ?= $(MODELS)/$(DATASET)
# `make export` names the model after the run's data set.
NAME ?= $(notdir $(patsubst folder:%,%,$(shell sed -n 's/^  "dataset": "\(.*\)",$$/\1/p' $(RUN)/config.json)))

.DEFAULT_GOAL := help
.PHONY: help install demo train export serve extract test test-serving test-tritonclient check protos check-protos \
	check-deploy format bench bench-peers soak clean

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

install: .venv/installed ## Make .venv with everything for development.

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# The Open Inference Protocol is tried with somebody else's client, whose messages clash with ours in one process.
# Without constraints.txt: it needs an older ml-dtypes than ours.
.venv-tritonclient/installed: Makefile
	$(PYTHON) -m venv .venv-tritonclient
	.venv-tritonclient/bin/python -m pip install --quiet --disable-pip-version-check 'tritonclient[grpc]==2.73.0'
	@touch $@

# Serving and the client must work where torch is not installed, so their tests run in such an environment too.
.venv-serving/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-serving
	.venv-serving/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test-serving]'
	@touch $@

demo: install ## The whole way on MNIST: train, export, serve, extract; results in demo/.
	$(PARTEDVAE) demo

train: install ## Train: DATASET=mnist [RECIPE=default|paper] [LABELS=256] [SEED=0] [EPOCHS=5] [RESUME=1] [ARGS=...].
	$(PARTEDVAE) train $(DATASET) --recipe $(RECIPE) --seed $(SEED) $(if $(LABELS),--labels $(LABELS)) \
		$(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(RESUME),--resume) $(ARGS)

export: install ## Export a run as the next version of a model: RUN=runs/... [MODELS=models] [NAME=...].
	$(if $(RUN),,$(error give the run: make export RUN=runs/mnist-default-0))
	$(PARTEDVAE) export $(RUN) $(MODELS)/$(or $(NAME),$(DATASET))

serve: install ## Serve models over gRPC until Ctrl-C: [MODELS=models] [ADDRESS=127.0.0.1:50051] [ARGS=...].
	exec $(PARTEDVAE) serve $(MODELS) --address $(ADDRESS) $(ARGS)

extract: install ## Features of many images: INPUT=folder OUTPUT=file.parquet [MODEL=models/mnist | SERVER=HOST:PORT] [ARGS=...].
	$(if $(and $(INPUT),$(OUTPUT)),,$(error give both: make extract INPUT=images/ OUTPUT=features.parquet))
	$(PARTEDVAE) extract $(INPUT) --output $(OUTPUT) $(if $(SERVER),--server $(SERVER),--model $(MODEL)) $(ARGS)

test: install .venv-tritonclient/installed test-serving ## Run all tests, and those of serving and client once more without torch.
	$(BIN)/python -m pytest

test-serving: .venv-serving/installed ## Run the tests of serving and client where torch is not installed.
	.venv-serving/bin/python -m pytest tests/serving tests/partedvae

test-tritonclient: install .venv-tritonclient/installed ## Ask a real server by tritonclient, in a process of its own.
	$(BIN)/python -m pytest tests/serving/grpc/oip/test_tritonclient.py

check: install check-protos check-deploy ## Lint, types, import rules, contract; changes nothing.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint

check-deploy: install ## Lint the Dockerfile and the manifests, and try their options.
	$(BIN)/hadolint Dockerfile
	$(BIN)/kubernetes-validate --strict --quiet deploy/kubernetes.yaml
	$(BIN)/python -m pytest -q tests/deploy

format: install ## Format the code and mend what the linter can.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# $(1) is the folder to write to.
define generate
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I protos --python_out=$(1) --mypy_out=quiet:$(1) \
		protos/partedvae/v1/*.proto protos/partedvae/oip/*.proto
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I protos --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) \
		protos/partedvae/v1/service.proto protos/partedvae/oip/inference.proto
endef

protos: install ## Generate the stubs in partedvae/v1 and partedvae/oip from protos/.
	$(call generate,.)

check-protos: install
	@rm -rf build/protos && mkdir -p build/protos
	@$(call generate,build/protos)
	@cd build/protos && for file in partedvae/*/*; do \
		cmp -s "$$file" "../../$$file" || { echo "$$file is not what protos/ gives: run 'make protos'"; exit 1; }; \
	done

bench: install ## Measure training and serving; writes build/bench.json: [BENCH_MODELS=demo/models] [DOCS=1 fills docs/BENCHMARKS.md].
	$(BIN)/python -m benchmarks.training --output build/bench-training.json
	$(BIN)/python -m benchmarks.serving --output build/bench.json --models $(BENCH_MODELS) $(BENCH_DOCUMENT) $(ARGS)

bench-peers: install ## Measure other servers and ours under one load: [BENCH_MODELS=demo/models] [DOCS=1] [PEERS_PYTHON=python3].
	$(BIN)/python -m benchmarks.peers --output build/bench-peers.json --models $(BENCH_MODELS) --python $(PEERS_PYTHON) \
		$(BENCH_DOCUMENT) $(ARGS)

soak: install ## Serve a mixed load for [SECONDS=600] and judge errors and memory; not part of the tests.
	$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),600) $(ARGS)

clean: ## Delete environments, caches and build results; keeps data, runs, models and demo.
	rm -rf .venv .venv-serving .venv-tritonclient build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
