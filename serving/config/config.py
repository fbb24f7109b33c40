"""What a server is told: every option's name, default, meaning and check, once for flags, environment and file.

Imports nothing heavy: `partedvae --help` reads the help texts from here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from partedvae.common import DEFAULT_ADDRESS
from partedvae.common.cpus import available_cpus
from partedvae.serving.config.addresses import split_address
from partedvae.serving.errors import ConfigError

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
DeviceName = Literal["auto", "cpu", "cuda", "tensorrt"]
"""The values of `partedvae.serving.onnx.devices.Device`."""

MIB = 1024 * 1024


def about(help_text: str, *, least: float | None = None, most: float | None = None) -> dict[str, Any]:
    """Describe one setting.

    Args:
        help_text: what `partedvae serve --help` says of it; one that is not set by default says in brackets what then
            holds.
        least: the smallest value allowed.
        most: the largest value allowed.
    """
    return {"help": help_text, "least": least, "most": most}


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """How to serve. The flag of `max_images` is --max-images, its key in a file max-images.

    Raises:
        ConfigError: a value is out of range, or values do not go together. Names the option and the remedy.
        AddressError: an address is malformed.
    """

    models_dir: Path
    """The folder that holds <name>/<version>/."""

    address: str = field(
        default=DEFAULT_ADDRESS,
        metadata=about("HOST:PORT to listen on; port 0 takes a free one."),
    )
    workers: int = field(
        default=1, metadata=about("Processes that share the port; each loads the models.", least=1, most=256)
    )
    threads: int | None = field(
        default=None,
        metadata=about(
            "Threads of inference of each worker.  [default: the processors allowed, shared by the workers]", least=1
        ),
    )
    device: DeviceName = field(default="auto", metadata=about("Where models run."))
    poll_seconds: float = field(
        default=10.0,
        metadata=about("How often to look for new models and versions; 0 means only at SIGHUP.", least=0, most=86_400),
    )

    max_message_mb: int = field(default=64, metadata=about("Largest message, MiB.", least=1, most=2047))
    max_images: int = field(default=4096, metadata=about("Most images of a request.", least=1))
    max_pixels: int = field(
        default=25_000_000, metadata=about("Most pixels of an image (height times width).", least=1)
    )
    max_request_pixels: int = field(
        default=250_000_000, metadata=about("Most pixels of all images of a request.", least=1)
    )
    max_calls: int = field(
        default=1024, metadata=about("Most calls in hand in each worker; more are told to come back.", least=1)
    )

    max_batch_rows: int = field(default=64, metadata=about("Most images of one run of a model.", least=1))
    max_queue_rows: int = field(
        default=4096, metadata=about("Images that may wait for a model; more are told to come back.", least=1)
    )
    max_delay_ms: float = field(
        default=0.0,
        metadata=about(
            "How long an image may wait for others to share a run with; 0 sends what is there.", least=0, most=60_000
        ),
    )

    metrics_address: str | None = field(
        default=None, metadata=about("HOST:PORT of metrics for Prometheus.  [default: none]")
    )
    otel: bool = field(
        default=False, metadata=about("Send traces by OpenTelemetry, to where OTEL_EXPORTER_OTLP_ENDPOINT says.")
    )
    log_level: LogLevel = field(
        default="info", metadata=about("What to log to stderr; debug has a line for each request.")
    )
    log_format: LogFormat = field(default="text", metadata=about("How to log: for people, or an object a line."))

    tls_cert: Path | None = field(
        default=None, metadata=about("The server's certificate chain, PEM; with --tls-key.  [default: no TLS]")
    )
    tls_key: Path | None = field(default=None, metadata=about("The certificate's private key, PEM, not encrypted."))
    tls_client_ca: Path | None = field(
        default=None,
        metadata=about("Certificates, PEM: serve only clients with one signed by these.  [default: all clients]"),
    )
    token_file: Path | None = field(
        default=None,
        metadata=about("Serve only who sends a token of this file, one a line.  [default: no token is asked for]"),
    )

    grace_seconds: float = field(
        default=20.0, metadata=about("How long work in hand may take after SIGTERM.", least=0, most=86_400)
    )

    def __post_init__(self) -> None:
        """Check ranges and what must go together."""
        for item in settings():
            value = getattr(self, item.name)
            least, most = item.metadata["least"], item.metadata["most"]
            if value is None or (least is None and most is None):
                continue
            if not (least <= value and (most is None or value <= most)):
                bounds = f"at least {least}" if most is None else f"{least} to {most}"
                raise ConfigError(f"{flag(item.name)} is {value}: choose {bounds}")
        for address in (self.address, self.metrics_address):
            if address is not None:
                split_address(address)
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("tls_cert", "tls_key") if self.tls_key is None else ("tls_key", "tls_cert")
            raise ConfigError(f"{flag(given)} was given without {flag(missing)}: TLS needs both")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ConfigError("--tls-client-ca was given without --tls-cert and --tls-key: mutual TLS needs all three")

    @property
    def threads_each(self) -> int:
        """Threads of inference of each worker, the default worked out."""
        return self.threads or max(1, available_cpus() // self.workers)

    @property
    def max_message_bytes(self) -> int:
        """Largest message in bytes."""
        return self.max_message_mb * MIB


def settings() -> list[dataclasses.Field[Any]]:
    """Return the fields of `ServeConfig` that have a default, hence a flag: all but `models_dir`."""
    return [item for item in dataclasses.fields(ServeConfig) if item.metadata]


def key(name: str) -> str:
    """Return the name of a setting in a file: `max_images` is max-images."""
    return name.replace("_", "-")


def flag(name: str) -> str:
    """Return the flag of a setting: `max_images` is --max-images."""
    return f"--{key(name)}"
