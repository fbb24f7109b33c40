"""Logging to metrics.jsonl and TensorBoard: the metrics of each epoch, and the hyperparameters with the result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from partedvae.common.atomic_write import write_error
from partedvae.common.flatten import flatten
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.evaluation.evaluation import Evaluation
from partedvae.training.runs.directory import RunDirectory


class MetricsLogger:
    """Writes the metrics of each epoch into a run directory; a context manager that closes the TensorBoard file."""

    def __init__(self, run: RunDirectory, epoch: int) -> None:
        """Open the files and remove the entries after the state that training continues from.

        Args:
            run: the run directory.
            epoch: epochs that have ended.
        """
        self.run = run
        # TensorBoard hides what was logged at purge_step or later, by a process that was killed before its checkpoint.
        self.writer = SummaryWriter(str(run.path), purge_step=run.keep_metrics_until(epoch) + 1)

    def __enter__(self) -> MetricsLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.writer.close()
        except OSError as failure:
            if error is None:  # Otherwise the first error says more.
                raise write_error(failure, self._events_file) from failure

    def log(self, epoch: int, step: int, losses: dict[str, float], evaluation: Evaluation) -> None:
        """Log the mean losses and the evaluation of an epoch.

        Args:
            epoch: number of the epoch, counted from 1.
            step: training steps done.
            losses: mean losses of the epoch, by name.
            evaluation: evaluation on test images after the epoch.
        """
        metrics = {"epoch": epoch, "step": step, **losses}
        metrics |= {f"test/{name}": value for name, value in _measurements(evaluation).items()}
        with self._write_errors():
            for name, value in metrics.items():
                self.writer.add_scalar(name, value, step)
        self.run.append_metrics(metrics)

    def log_result(self, config: TrainConfig, step: int, evaluation: Evaluation) -> None:
        """Log the configuration and the result of the run to TensorBoard, which lists runs by them under HPARAMS.

        Args:
            config: the configuration.
            step: training steps done.
            evaluation: evaluation on all test images at the end of training.
        """
        result = {f"final/{name}": value for name, value in _measurements(evaluation).items()}
        with self._write_errors():
            for name, value in result.items():
                self.writer.add_scalar(name, value, step)
            # SummaryWriter.add_hparams would write these into a folder of its own, which TensorBoard shows as another
            # run.
            for summary in hparams({key: _plain(value) for key, value in flatten(config.to_dict()).items()}, result):
                self.writer.file_writer.add_summary(summary, step)  # type: ignore[attr-defined]  # declared as None

    @property
    def _events_file(self) -> Path:
        return Path(self.writer.file_writer.event_writer._file_name)  # type: ignore[attr-defined]  # declared as None

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Raise the errors of TensorBoard's thread with the name of its file."""
        try:
            yield
        except OSError as error:
            raise write_error(error, self._events_file) from error


def _measurements(evaluation: Evaluation) -> dict[str, float]:
    """Return the measurements of an evaluation by name."""
    values = {f"accuracy/{name}": value for name, value in evaluation.accuracies.items()}
    values |= {f"information/{factor.name}": factor.information for factor in evaluation.factors}
    values |= {f"variance_u/{name}": value for name, value in evaluation.u_variances.items()}
    return values | {
        "reconstruction": evaluation.reconstruction,
        "kl_z": evaluation.kl_z,
        "variance_z": evaluation.z_variance,
        "dead_units": evaluation.dead_units,
    }


def _plain(value: Any) -> str | int | float:
    """Return a value that the HPARAMS page supports; lists, such as the class variables, become JSON."""
    return value if isinstance(value, str | int | float) else json.dumps(value)
