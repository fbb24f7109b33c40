# Development tasks; `make help` lists them.
# Every target that needs Python first creates .venv and installs its requirements.

PYTHON ?= python3
BIN := .venv/bin
PARTEDVAE := $(BIN)/partedvae

DATASET ?= mnist
RECIPE ?= default
SEED ?= 0
MODELS ?= models
ADDRESS ?= 127.0.0.1:50051
# Processes that run the tests, each file in one of them; 0 runs all in one. Tests of serving wait much of their time.
# In the order of the folders, whose last ones have short tests; by default files of a single test, which are long, come last.
TEST_PROCESSES ?= 2
SERVING_TEST_PROCESSES ?= 3
PYTEST = -m pytest -n $(or $(2),$(TEST_PROCESSES)) --dist loadfile --no-loadscope-reorder -m "$(or $(1),not exhaustive)"
# Processes of several threads each take longer than with one thread each.
test test-fast test-serving test-exhaustive: export OMP_NUM_THREADS = 1
BENCH_MODELS ?= demo/models
BENCH_DOCUMENT = $(if $(DOCS),--document docs/BENCHMARKS.md)
# pytriton needs a Python with a shared libpython, which the system's has.
PEERS_PYTHON ?= $(firstword $(wildcard /usr/bin/python3) $(PYTHON))
# The model that `make extract` uses without SERVER: the only one in MODELS, otherwise that of DATASET.
EXPORTED = $(patsubst %/,%,$(wildcard $(MODELS)/*/))
MODEL ?= $(if $(filter 1,$(words $(EXPORTED))),$(EXPORTED),$(MODELS)/$(DATASET))
# The model of the web pages: that of MODEL where it was given, otherwise the demo's, or the one that was exported.
GIVEN_MODEL = $(if $(filter file,$(origin MODEL)),,$(MODEL))
EXPLORED = $(or $(GIVEN_MODEL),$(wildcard demo/models/mnist),$(MODEL))
EXPLORED_FEATURES = $(or $(FEATURES),$(if $(filter demo/models/mnist,$(EXPLORED)),$(wildcard demo/features.parquet)))
# The model name of `make export`: the data set of the run.
NAME ?= $(notdir $(patsubst folder:%,%,$(shell sed -n 's/^  "dataset": "\(.*\)",$$/\1/p' $(RUN)/config.json)))

# Modules are compiled when they are imported, once: few of those that are installed are.
export PIP_COMPILE := false
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo train export serve extract explore screenshots test test-fast test-serving test-exhaustive test-tritonclient check protos check-protos \
	client check-client check-deploy lock pin-images format bench bench-onnx bench-extract bench-explore bench-peers attack fuzz soak clean

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

install: .venv/installed ## Create .venv with all development requirements.

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# The Open Inference Protocol is tested with Triton's client, whose messages conflict with ours within one process.
# Without constraints.txt: it needs an older ml-dtypes than ours.
.venv-tritonclient/installed: Makefile
	$(PYTHON) -m venv .venv-tritonclient
	.venv-tritonclient/bin/python -m pip install --quiet --disable-pip-version-check 'tritonclient[grpc]==2.73.0'
	@touch $@

# Serving and the client must work without torch, so their tests also run in an environment without it.
.venv-serving/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-serving
	.venv-serving/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test-serving]'
	@touch $@

demo: install ## Train, export, serve and extract with MNIST; results in demo/.
	$(PARTEDVAE) demo
	@echo "Look at the model in a browser: make explore"

train: install ## Train: DATASET=mnist [RECIPE=default|paper] [LABELS=256] [SEED=0] [EPOCHS=6] [RESUME=1] [ARGS=...].
	$(PARTEDVAE) train $(DATASET) --recipe $(RECIPE) --seed $(SEED) $(if $(LABELS),--labels $(LABELS)) \
		$(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(RESUME),--resume) $(ARGS)

export: install ## Export a run as the next version of a model: RUN=runs/... [MODELS=models] [NAME=...].
	$(if $(RUN),,$(error RUN is required: make export RUN=runs/mnist-default-0))
	$(PARTEDVAE) export $(RUN) $(MODELS)/$(or $(NAME),$(DATASET))

serve: install ## Serve models over gRPC until Ctrl-C: [MODELS=models] [ADDRESS=127.0.0.1:50051] [ARGS=...].
	exec $(PARTEDVAE) serve $(MODELS) --address $(ADDRESS) $(ARGS)

extract: install ## Extract features of many images: INPUT=folder OUTPUT=file.parquet [MODEL=models/NAME | SERVER=HOST:PORT] [ARGS=...].
	$(if $(and $(INPUT),$(OUTPUT)),,$(error INPUT and OUTPUT are required: make extract INPUT=images/ OUTPUT=features.parquet))
	$(PARTEDVAE) extract $(INPUT) --output $(OUTPUT) $(if $(SERVER),--server $(SERVER),--model $(MODEL)) $(ARGS)

explore: install ## Open web pages on a model, the demo's without MODEL: [MODEL=models/NAME | SERVER=HOST:PORT] [FEATURES=file] [ARGS=...].
	exec $(PARTEDVAE) explore $(if $(SERVER),--server $(SERVER),--model $(EXPLORED)) \
		$(addprefix --features ,$(if $(SERVER),$(FEATURES),$(EXPLORED_FEATURES))) $(ARGS)

screenshots: install ## Take the screenshots of docs/EXPLORE.md: [MODEL=models/NAME] [FEATURES=file] [RUNS=folder].
	$(BIN)/python -m tests.serving.explore.screenshots $(EXPLORED) --output docs/explore \
		$(addprefix --features ,$(EXPLORED_FEATURES)) $(addprefix --runs ,$(RUNS))

# Each test runs once: those of serving and the client without torch, all others where everything is installed; `check`
# runs those of the deployment.
test: install test-serving ## Run the tests, those of serving and the client without torch.
	$(BIN)/python $(call PYTEST) --ignore=tests/serving --ignore=tests/partedvae --ignore=tests/deploy

test-fast: install ## Run the tests that are neither slow nor end to end.
	$(BIN)/python $(call PYTEST,not slow and not e2e and not exhaustive)

test-serving: .venv-serving/installed .venv-tritonclient/installed ## Run the tests of serving and the client without torch.
	.venv-serving/bin/python $(call PYTEST,,$(SERVING_TEST_PROCESSES)) tests/serving tests/partedvae

test-exhaustive: install .venv-serving/installed .venv-tritonclient/installed ## Run the tests that make test leaves out: more cases, and what takes long.
	.venv-serving/bin/python $(call PYTEST,exhaustive) tests/serving tests/partedvae
	$(BIN)/python $(call PYTEST,exhaustive) --ignore=tests/serving --ignore=tests/partedvae

test-tritonclient: install .venv-tritonclient/installed ## Test a server with tritonclient, in a process of its own.
	$(BIN)/python -m pytest tests/serving/grpc/oip/test_tritonclient.py

check: install check-protos check-client check-deploy ## Check style, types, import contracts and generated code.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint partedvae/protos

check-deploy: install ## Check the Dockerfile and the manifests.
	$(BIN)/hadolint Dockerfile
	$(BIN)/kubernetes-validate --strict --quiet deploy/kubernetes.yaml
	$(BIN)/python -m pytest -q tests/deploy

# $(1): name of the lock file; $(2): version of Python in the image; $(3): what to install. The hashes are those of all
# files of a version, so that one file serves x86_64 and aarch64.
define lock
	$(BIN)/uv pip compile --quiet --generate-hashes --only-binary :all: --constraints constraints.txt --no-annotate \
		--custom-compile-command 'make lock' --python-platform x86_64-manylinux_2_28 --python-version $(2) \
		--output-file deploy/requirements-$(1).txt $(3)
endef

lock: install ## Write deploy/requirements-*.txt, what the images install, from pyproject.toml and constraints.txt.
	$(call lock,cpu,3.11,pyproject.toml --extra serve --extra native --extra otel)
	$(call lock,gpu,3.12,pyproject.toml --extra gpu --extra native --extra otel)
	$(call lock,ray,3.11,pyproject.toml --extra serve --extra cloud --extra ray-cluster)
	@mkdir -p build
	@sed -n 's/^requires = \["\(.*\)"\]$$/\1/p' pyproject.toml > build/build-requires.txt
	$(call lock,build,3.11,build/build-requires.txt)

pin-images: ## Set the digests of the Dockerfile's base images to those of their tags now; needs docker.
	@set -e; for image in $$(sed -n 's/^ARG [A-Z]*_IMAGE=\(.*\)@sha256:.*/\1/p' Dockerfile); do \
		digest=$$(docker buildx imagetools inspect "$$image" --format '{{.Manifest.Digest}}'); \
		sed -i "s|$$image@sha256:[0-9a-f]*|$$image@$$digest|" Dockerfile; \
		echo "$$image@$$digest"; \
	done

format: install ## Format the code and apply the linter's fixes.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# $(1): output folder.
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
		cmp -s "$$file" "../../$$file" || { echo "$$file does not match protos/: run 'make protos'"; exit 1; }; \
	done

client: install ## Generate the synchronous client, partedvae/client.py, from partedvae/aio.py.
	$(BIN)/python scripts/generate_client.py

check-client: install
	@$(BIN)/python scripts/generate_client.py --check

bench: install ## Benchmark training and serving; writes build/bench*.json: [BENCH_MODELS=demo/models] [DOCS=1 updates docs/BENCHMARKS.md].
	$(BIN)/python -m benchmarks.training --output build/bench-training.json
	$(BIN)/python -m benchmarks.serving --output build/bench.json --models $(BENCH_MODELS) $(BENCH_DOCUMENT) $(ARGS)

bench-onnx: install ## Benchmark ONNX Runtime alone: batch size, threads, options: [BENCH_MODELS=demo/models] [DOCS=1] [ARGS=...].
	$(BIN)/python -m benchmarks.onnx_runtime --models $(BENCH_MODELS) $(BENCH_DOCUMENT) $(ARGS)

bench-extract: install ## Benchmark batch extraction, its bounds and other ways to do it: [BENCH_MODELS=demo/models] [DOCS=1] [ARGS="--rounds 1"].
	$(BIN)/python -m benchmarks.extract --output build/bench-extract.json --models $(BENCH_MODELS) $(BENCH_DOCUMENT) $(ARGS)

bench-explore: install ## Measure how fluid the pages are in a browser: [BENCH_MODELS=demo/models] [DOCS=1] [ARGS=...].
	$(BIN)/python -m benchmarks.explore --output build/bench-explore.json --models $(BENCH_MODELS) $(BENCH_DOCUMENT) $(ARGS)

bench-peers: install ## Benchmark other servers and ours under the same load: [BENCH_MODELS=demo/models] [DOCS=1] [PEERS_PYTHON=python3] [ARGS="--seconds 1"].
	$(BIN)/python -m benchmarks.peers --output build/bench-peers.json --models $(BENCH_MODELS) --python $(PEERS_PYTHON) \
		$(BENCH_DOCUMENT) $(ARGS)

attack: install ## Attack a server on the loopback interface, in less than 15 minutes: [FRONT=grpcio] [BENCH_MODELS=demo/models] [DOCS=1] [ARGS="NAME ..."].
	$(BIN)/python -m benchmarks.attack --front $(or $(FRONT),grpcio) --output build/attack.json --models $(BENCH_MODELS) $(BENCH_DOCUMENT) $(ARGS)

fuzz: install ## Send 100,000 mutated requests to a server: [BENCH_MODELS=demo/models] [ARGS=...].
	$(BIN)/python -m benchmarks.attack.fuzz --output build/fuzz.json --models $(BENCH_MODELS) $(ARGS)

soak: install ## Run a mixed load for [SECONDS=600] and check errors and memory; not part of make test.
	$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),600) $(ARGS)

clean: ## Delete environments, caches and build products; keeps data, runs, models and demo.
	rm -rf .venv .venv-serving .venv-tritonclient build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
