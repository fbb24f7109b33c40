# syntax=docker/dockerfile:1
# The server, for CPUs (target `cpu`, the default) or NVIDIA GPUs (target `gpu`):
#   docker build -t partedvae .
#   docker build --target gpu -t partedvae:gpu .
#   docker run --rm -p 50051:50051 -v "$PWD/models:/mnt/models:ro" partedvae
# Options of `partedvae serve` are set by environment variables (PARTEDVAE_SERVE_WORKERS=4) or arguments.

ARG PYTHON_VERSION=3.11
# CUDA and cuDNN in the major versions for which PyPI's onnxruntime-gpu is built.
ARG CUDA_IMAGE=nvidia/cuda:12.9.1-cudnn-runtime-ubuntu24.04

FROM python:${PYTHON_VERSION}-slim-bookworm AS source
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
# partedvae/training, partedvae/serving and partedvae/export are symbolic links to the three folders below.
COPY partedvae partedvae
COPY serving serving
COPY training training
COPY export export

FROM python:${PYTHON_VERSION}-slim-bookworm AS build-cpu
COPY --from=source /source /source
WORKDIR /source
RUN python -m venv /opt/partedvae \
    && /opt/partedvae/bin/python -m pip install --no-cache-dir -c constraints.txt '.[serve,otel]'

FROM ${CUDA_IMAGE} AS build-gpu
# Ubuntu keeps only the newest version of a package, so that a pinned version would soon be unavailable.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY --from=source /source /source
WORKDIR /source
RUN python3 -m venv /opt/partedvae \
    && /opt/partedvae/bin/python -m pip install --no-cache-dir -c constraints.txt '.[gpu,otel]'

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

FROM python:${PYTHON_VERSION}-slim-bookworm AS cpu
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
