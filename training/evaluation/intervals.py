"""Confidence intervals of accuracies on few test images."""

from __future__ import annotations

FEW_TESTS = 200
"""With fewer labelled test images, an accuracy is reported as a count with its interval: of 200, the 95 % interval of
an accuracy of 90 % is 8 points wide."""


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Return the Wilson score interval of a share at 95 % (Wilson 1927).

    Args:
        correct: number of correct images.
        total: number of images, at least one.
    """
    # Imported late: scipy.stats takes half as long to import as torch.
    from scipy.stats import binomtest

    interval = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def format_accuracy(correct: int, total: int) -> str:
    """Return an accuracy as text: "98.71%", or "5 of 8 (62.50%, 95% interval 31% to 86%)" of few images."""
    share = f"{correct / total:.2%}"
    if total >= FEW_TESTS:
        return share
    low, high = wilson_interval(correct, total)
    return f"{correct} of {total} ({share}, 95% interval {low:.0%} to {high:.0%})"
