"""Options of a server: names, defaults, help texts and checks, shared by flags, environment variables and files.

Imports nothing heavy, because `partedvae --help` imports it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from partedvae.common import DEFAULT_ADDRESS
from partedvae.common.cpus import available_cpus
from partedvae.common.memory import available_memory
from partedvae.serving.config.addresses import split_address
from partedvae.serving.errors import ConfigError
from partedvae.serving.logs.formatters import LogFormat

LogLevel = Literal["debug", "info", "warning", "error"]
PrecisionName = Literal["fp32", "int8"]
"""The values of `partedvae.serving.onnx.precision.Precision`."""
DeviceName = Literal["auto", "cpu", "cuda", "tensorrt"]
"""The values of `partedvae.serving.onnx.devices.Device`."""
FrontName = Literal["auto", "native", "grpcio"]
"""What receives calls; see `partedvae.serving.grpc.front`."""

MIB = 1024 * 1024
MAX_DEFAULT_MEMORY_MB = 4096
"""Largest default of `memory_mb`."""
MIN_MESSAGES = 24
"""Messages of the largest size that the memory must hold: the three copies of one take an eighth of it."""


def _option(
    help_text: str,
    *,
    metavar: str | None = None,
    least: float | None = None,
    most: float | None = None,
    former_name: str | None = None,
) -> dict[str, Any]:
    """Return the metadata of one option.

    Args:
        help_text: text of `partedvae serve --help`; options without a default value describe it in brackets.
        metavar: placeholder of the value in the help; None shows its type.
        least: minimum value.
        most: maximum value.
        former_name: earlier name of the option, accepted everywhere but not shown.
    """
    return {"help": help_text, "metavar": metavar, "least": least, "most": most, "former_name": former_name}


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Configuration of a server. The flag of `max_images` is --max-images; its key in a file is max-images.

    Raises:
        ConfigError: a value is out of range, or values cannot be combined. Names the option and the remedy.
        AddressError: an address is malformed.
    """

    models_dir: Path
    """The folder that contains <name>/<version>/."""

    address: str = field(
        default=DEFAULT_ADDRESS,
        metadata=_option("Address to listen on; port 0 selects a free port.", metavar="HOST:PORT"),
    )
    front: FrontName = field(
        default="grpcio",
        metadata=_option(
            "What receives calls: grpcio; native, several times as fast with small requests, for networks that are "
            "trusted (extra native, no TLS); or auto, native where it can do what is configured."
        ),
    )
    workers: int = field(
        default=1, metadata=_option("Worker processes that share the port; each loads the models.", least=1, most=256)
    )
    worker_timeout_seconds: float = field(
        default=20.0,
        metadata=_option(
            "Time after which a worker whose event loop does not run is killed and restarted; see --workers.",
            least=2,
            most=86_400,
        ),
    )
    threads: int | None = field(
        default=None,
        metadata=_option("Inference threads per worker.  [default: available CPUs divided by workers]", least=1),
    )
    device: DeviceName = field(default="auto", metadata=_option("Device that runs the models."))
    precision: PrecisionName = field(
        default="fp32",
        metadata=_option(
            "Numbers that the encoders compute with; int8, on the CPU alone, requires models that were exported with "
            "--precision int8."
        ),
    )
    poll_seconds: float = field(
        default=10.0,
        metadata=_option(
            "Interval between checks for new models and versions; 0 checks only on SIGHUP.", least=0, most=86_400
        ),
    )

    memory_mb: int | None = field(
        default=None,
        metadata=_option(
            "Memory that requests may take in each worker, in MiB, beside that of the models.  [default: half of the "
            f"available memory divided by workers, at most {MAX_DEFAULT_MEMORY_MB}]",
            least=32,
        ),
    )
    max_message_mb: int = field(
        default=16, metadata=_option("Maximum size of a request or reply, in MiB.", least=1, most=1023)
    )
    max_images: int = field(default=4096, metadata=_option("Maximum images per request.", least=1))
    max_pixels: int = field(default=25_000_000, metadata=_option("Maximum pixels per image (height x width).", least=1))
    max_request_pixels: int = field(
        default=250_000_000, metadata=_option("Maximum pixels of all images of a request.", least=1)
    )
    max_decode_seconds: float = field(
        default=10.0,
        metadata=_option(
            "Maximum processor time for decoding an image file that is large or unusual, in seconds.",
            least=0.1,
            most=86_400,
        ),
    )
    max_concurrent_calls: int = field(
        default=1024,
        metadata=_option(
            "Maximum concurrent calls per worker; further calls get RESOURCE_EXHAUSTED.",
            least=1,
            former_name="max_calls",
        ),
    )
    transfer_seconds: float = field(
        default=60.0,
        metadata=_option(
            "Maximum time that a request may take to arrive, and a reply to be taken.", least=0.1, most=86_400
        ),
    )
    idle_seconds: float = field(
        default=300.0,
        metadata=_option("Maximum time that a stream of requests may be idle.", least=0.1, most=86_400),
    )

    max_batch_rows: int = field(default=64, metadata=_option("Maximum images per batch.", least=1))
    max_queue_rows: int = field(
        default=4096,
        metadata=_option("Maximum images queued per graph of a model; further calls get RESOURCE_EXHAUSTED.", least=1),
    )
    max_queue_delay_ms: float = field(
        default=0.0,
        metadata=_option(
            "Maximum time that an image waits for others to share its batch; 0 runs it as soon as a session is free.",
            least=0,
            most=60_000,
            former_name="max_delay_ms",
        ),
    )

    metrics_address: str | None = field(
        default=None, metadata=_option("Address of the Prometheus metrics.  [default: disabled]", metavar="HOST:PORT")
    )
    reflection: bool = field(
        default=True,
        metadata=_option("Describe the services to clients (gRPC server reflection), as grpcurl needs without files."),
    )
    otel: bool = field(default=False, metadata=_option("Export OpenTelemetry traces to OTEL_EXPORTER_OTLP_ENDPOINT."))
    log_level: LogLevel = field(
        default="info", metadata=_option("Minimum level of log messages on stderr; debug logs one line per call.")
    )
    log_format: LogFormat = field(
        default="text", metadata=_option("Log format: plain text, or one JSON object per line.")
    )

    tls_cert: Path | None = field(
        default=None,
        metadata=_option("Certificate chain of the server, PEM; requires --tls-key.  [default: no TLS]"),
    )
    tls_key: Path | None = field(default=None, metadata=_option("Private key of the certificate, PEM, unencrypted."))
    tls_client_ca: Path | None = field(
        default=None,
        metadata=_option(
            "CA certificates, PEM; accept only clients with a certificate that they signed.  [default: all clients]"
        ),
    )
    token_file: Path | None = field(
        default=None,
        metadata=_option("File of accepted bearer tokens, one per line.  [default: no authentication]"),
    )

    grace_seconds: float = field(
        default=20.0,
        metadata=_option("Maximum time that active calls may take to finish after SIGTERM.", least=0, most=86_400),
    )

    def __post_init__(self) -> None:
        """Check ranges and combinations."""
        for item in options():
            value = getattr(self, item.name)
            least, most = item.metadata["least"], item.metadata["most"]
            if value is None or (least is None and most is None):
                continue
            if not (least <= value and (most is None or value <= most)):
                bounds = f"at least {least}" if most is None else f"{least} to {most}"
                raise ConfigError(f"{flag(item.name)} is {value}; choose {bounds}")
        if self.memory_mb is not None and self.memory_mb < MIN_MESSAGES * self.max_message_mb:
            raise ConfigError(
                f"--memory-mb is {self.memory_mb}, too little for messages of {self.max_message_mb} MiB; choose at "
                f"least {MIN_MESSAGES * self.max_message_mb}, or a smaller --max-message-mb"
            )
        if self.precision == "int8" and self.device not in ("auto", "cpu"):
            raise ConfigError(
                f"--precision int8 is not available with --device {self.device}; choose --device cpu, or "
                "--precision fp32"
            )
        for address in (self.address, self.metrics_address):
            if address is not None:
                split_address(address)
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("tls_cert", "tls_key") if self.tls_key is None else ("tls_key", "tls_cert")
            raise ConfigError(f"{flag(given)} requires {flag(missing)}: TLS needs both")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ConfigError("--tls-client-ca requires --tls-cert and --tls-key: mutual TLS needs all three")
        obstacles = self.obstacles_to_native()
        if self.front == "native" and obstacles:
            raise ConfigError(
                f"--front native cannot do {' and '.join(obstacles)}; choose --front grpcio, or let a proxy do it"
            )

    def obstacles_to_native(self) -> list[str]:
        """Return what is configured that the native front cannot do."""
        return ["TLS"] * (self.tls_cert is not None) + ["tracing (--otel)"] * self.otel

    @property
    def threads_each(self) -> int:
        """Inference threads per worker: `threads`, or its default."""
        return self.threads or max(1, available_cpus() // self.workers)

    @property
    def memory_bytes(self) -> int:
        """Memory of the requests of a worker in bytes: `memory_mb`, or its default."""
        if self.memory_mb is not None:
            return self.memory_mb * MIB
        least = MIN_MESSAGES * self.max_message_bytes
        return max(least, min(available_memory() // 2 // self.workers, MAX_DEFAULT_MEMORY_MB * MIB))

    @property
    def max_message_bytes(self) -> int:
        """Maximum size of a message in bytes."""
        return self.max_message_mb * MIB


def options() -> list[dataclasses.Field[Any]]:
    """Return the fields of `ServeConfig` that are options of the command: all but `models_dir`."""
    return [item for item in dataclasses.fields(ServeConfig) if item.metadata]


def key(name: str) -> str:
    """Return the key of an option in a file: max-images for `max_images`."""
    return name.replace("_", "-")


def flag(name: str) -> str:
    """Return the flag of an option: --max-images for `max_images`."""
    return f"--{key(name)}"
