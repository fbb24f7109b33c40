"""The parts of an extraction."""

from __future__ import annotations

import pytest

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.output.shards import Plan, default_rows_per_part, is_part


@pytest.mark.parametrize(("rows", "rows_per_part"), [(1, 1), (1, 7), (7, 7), (20, 7), (21, 7), (22, 7)])
def test_every_row_is_in_one_part(rows: int, rows_per_part: int) -> None:
    plan = Plan(rows=rows, rows_per_part=rows_per_part, suffix=".parquet")
    ranges = [plan.range_of(number) for number in range(len(plan))]
    assert [row for first, last in ranges for row in range(first, last)] == list(range(rows))
    assert all(first < last for first, last in ranges)
    assert [plan.rows_of(number) for number in range(len(plan))] == [last - first for first, last in ranges]


def test_names_sort_as_the_rows_do() -> None:
    names = list(Plan(rows=120, rows_per_part=10, suffix=".arrow").names())
    assert names == sorted(names)
    assert names[3] == "part-00003-of-00012.arrow"
    assert len(names) == 12
    assert all(map(is_part, names))
    assert not any(map(is_part, ["part-3-of-12.arrow", "features.parquet", ".part-00003-of-00012.arrow.7.partial"]))


@pytest.mark.parametrize(
    ("rows", "size"),
    [(1, 1024), (16_384, 1024), (60_000, 2048), (900_000, 32_768), (1_000_000, 65_536), (10**8, 65_536)],
)
def test_the_default_makes_sixteen_parts_within_bounds(rows: int, size: int) -> None:
    assert default_rows_per_part(rows) == size


def test_a_part_has_at_least_a_row() -> None:
    with pytest.raises(InvalidInputError, match="--rows-per-part is 0; it must be at least 1"):
        Plan(rows=3, rows_per_part=0, suffix=".parquet")
