# The server, for CPUs (target `cpu`, the default) or NVIDIA GPUs (target `gpu`):
#   docker build -t partedvae .
#   docker build --target gpu -t partedvae:gpu .
# Batch extraction by a Ray cluster (deploy/rayjob.yaml):
#   docker build --target ray -t partedvae:ray .
#   docker run --rm -p 50051:50051 -v "$PWD/models:/mnt/models:ro" partedvae
# Options of `partedvae serve` are set by environment variables (PARTEDVAE_SERVE_WORKERS=4) or arguments.

# Base images by digest, of the tags before them: `make pin-images` updates them. Packages of Python by hash:
# `make lock`.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
# CUDA and cuDNN in the major versions for which PyPI's onnxruntime-gpu is built.
ARG CUDA_IMAGE=nvidia/cuda:12.9.1-cudnn-runtime-ubuntu24.04@sha256:d02c4310b6d57ca0b16cd80298bdb33a74187baafe2eccd8a6a16180ddc90802

FROM ${PYTHON_IMAGE} AS source
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY deploy/requirements-build.txt deploy/requirements-cpu.txt deploy/requirements-gpu.txt deploy/requirements-ray.txt ./
# partedvae/training, partedvae/serving and partedvae/export are symbolic links to the three folders below.
COPY partedvae partedvae
COPY serving serving
COPY training training
COPY export export
RUN python -m pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements-build.txt \
    && python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM ${PYTHON_IMAGE} AS build-cpu
COPY --from=source /source/requirements-cpu.txt /wheels/
COPY --from=source /wheels /wheels
RUN python -m venv /opt/partedvae \
    && /opt/partedvae/bin/python -m pip install --no-cache-dir --require-hashes --only-binary :all: \
        -r /wheels/requirements-cpu.txt \
    && /opt/partedvae/bin/python -m pip install --no-cache-dir --no-deps --no-index /wheels/partedvae-*.whl

FROM ${PYTHON_IMAGE} AS build-ray
COPY --from=source /source/requirements-ray.txt /wheels/
COPY --from=source /wheels /wheels
RUN python -m venv /opt/partedvae \
    && /opt/partedvae/bin/python -m pip install --no-cache-dir --require-hashes --only-binary :all: \
        -r /wheels/requirements-ray.txt \
    && /opt/partedvae/bin/python -m pip install --no-cache-dir --no-deps --no-index /wheels/partedvae-*.whl

FROM ${CUDA_IMAGE} AS build-gpu
# Ubuntu keeps only the newest version of a package, so that a pinned version would soon be unavailable.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY --from=source /source/requirements-gpu.txt /wheels/
COPY --from=source /wheels /wheels
RUN python3 -m venv /opt/partedvae \
    && /opt/partedvae/bin/python -m pip install --no-cache-dir --require-hashes --only-binary :all: \
        -r /wheels/requirements-gpu.txt \
    && /opt/partedvae/bin/python -m pip install --no-cache-dir --no-deps --no-index /wheels/partedvae-*.whl

FROM ${CUDA_IMAGE} AS gpu
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home partedvae
COPY --from=build-gpu /opt/partedvae /opt/partedvae
ENV PATH=/opt/partedvae/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PARTEDVAE_SERVE_ADDRESS=0.0.0.0:50051 \
    PARTEDVAE_SERVE_DEVICE=cuda \
    XDG_CACHE_HOME=/tmp/cache
USER 10001
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["partedvae", "health"]
ENTRYPOINT ["partedvae", "serve", "/mnt/models"]

FROM ${PYTHON_IMAGE} AS ray
RUN useradd --system --uid 10001 --no-create-home partedvae
COPY --from=build-ray /opt/partedvae /opt/partedvae
ENV PATH=/opt/partedvae/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    HOME=/tmp
USER 10001

FROM ${PYTHON_IMAGE} AS cpu
RUN useradd --system --uid 10001 --no-create-home partedvae
COPY --from=build-cpu /opt/partedvae /opt/partedvae
ENV PATH=/opt/partedvae/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PARTEDVAE_SERVE_ADDRESS=0.0.0.0:50051
USER 10001
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=20s --retries=3 CMD ["partedvae", "health"]
ENTRYPOINT ["partedvae", "serve", "/mnt/models"]
