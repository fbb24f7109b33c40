"""Logging of the metrics of each epoch to metrics.jsonl and TensorBoard."""

from __future__ import annotations

from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from partedvae.training.evaluation.evaluation import Evaluation
from partedvae.training.runs.directory import RunDirectory


class MetricsLogger:
    """Writes the metrics of each epoch into a run directory; a context manager that closes the TensorBoard file."""

    def __init__(self, run: RunDirectory, epoch: int, step: int) -> None:
        """Open the files and remove the entries after the state that training continues from.

        Args:
            run: the run directory.
            epoch: epochs that have ended.
            step: training steps done.
        """
        self.run = run
        run.keep_metrics_until(epoch)
        self.writer = SummaryWriter(str(run.path), purge_step=step)

    def __enter__(self) -> MetricsLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.writer.close()

    def log(self, epoch: int, step: int, losses: dict[str, float], evaluation: Evaluation) -> None:
        """Log the mean losses and the evaluation of an epoch.

        Args:
            epoch: number of the epoch, counted from 1.
            step: training steps done.
            losses: mean losses of the epoch, by name.
            evaluation: evaluation on test images after the epoch.
        """
        metrics = {"epoch": epoch, "step": step, **losses, **_test_metrics(evaluation)}
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        self.run.append_metrics(metrics)


def _test_metrics(evaluation: Evaluation) -> dict[str, float]:
    metrics = {f"test/accuracy/{name}": value for name, value in evaluation.accuracies.items()}
    metrics |= {f"test/information/{factor.name}": factor.information for factor in evaluation.factors}
    metrics |= {f"test/variance_u/{name}": value for name, value in evaluation.u_variances.items()}
    return metrics | {
        "test/reconstruction": evaluation.reconstruction,
        "test/kl_z": evaluation.kl_z,
        "test/variance_z": evaluation.z_variance,
        "test/dead_units": evaluation.dead_units,
    }
