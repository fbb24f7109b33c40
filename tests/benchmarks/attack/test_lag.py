"""Tests of the lag of the event loop, read from a server's metrics."""

from __future__ import annotations

import math

from benchmarks.attack.lag import largest, scrape


def test_the_largest_new_sample_is_below_its_bucket() -> None:
    """Samples from before the attack do not count."""
    before = {0.01: 5.0, 0.1: 5.0, 1.0: 7.0, math.inf: 7.0}
    after = {0.01: 8.0, 0.1: 9.0, 1.0: 11.0, math.inf: 11.0}
    assert largest(before, after) == 0.1


def test_no_new_samples_have_no_lag() -> None:
    buckets = {0.01: 5.0, math.inf: 5.0}
    assert largest(buckets, buckets) is None
    assert largest({}, {}) is None


def test_a_port_that_does_not_answer_has_no_samples() -> None:
    assert scrape("127.0.0.1:1") == {}
