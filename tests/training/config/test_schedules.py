"""Schedules are functions of the step."""

from __future__ import annotations

import dataclasses

import pytest

from partedvae.training.config.recipes import recipe
from partedvae.training.config.schedules import schedule_at, z_weights
from partedvae.training.data.dataset import DatasetInfo, FactorInfo
from partedvae.training.data.mnist import INFO


def test_a_capacity_may_start_at_its_end_and_separation_later() -> None:
    shape = FactorInfo(name="shape", classes=("square", "ellipse", "heart"))
    info = DatasetInfo(name="dsprites", image_size=(64, 64, 1), factors=(shape,), train_images=1000)
    config = recipe(info, "default")
    assert config.schedule.separation_start > 0
    first, middle, end = (schedule_at(step, 100, config.schedule, config.objective) for step in (0, 50, 100))
    assert first.capacity_z == middle.capacity_z == end.capacity_z == config.objective.capacity_z
    assert (first.separation, middle.separation, end.separation) == (0, 1, 1)


def test_the_dimensions_of_z_open_one_after_the_other() -> None:
    config = recipe(INFO, "default")
    objective = dataclasses.replace(config.objective, beta_z=2.0, beta_z_closed=6.0)
    schedule = dataclasses.replace(config.schedule, z_opening=0.1)
    weights = [
        z_weights(schedule_at(step, 400, schedule, objective).opened_z, 3, objective) for step in (0, 5, 10, 40, 45, 90)
    ]
    assert weights == [
        pytest.approx(expected) for expected in ([6, 6, 6], [4, 6, 6], [2, 6, 6], [2, 6, 6], [2, 4, 6], [2, 2, 2])
    ]
    assert z_weights(schedule_at(0, 400, config.schedule, objective).opened_z, 3, objective) == [2, 2, 2]


def test_weights_of_the_dimensions_of_z_need_the_hinge() -> None:
    paper = recipe(INFO, "paper")
    with pytest.raises(
        ValueError, match=r"objective.beta_z is 2.0; it must be 1 with objective.capacity_penalty=absolute"
    ):
        dataclasses.replace(paper.objective, beta_z=2.0)
    with pytest.raises(ValueError, match=r"schedule.z_opening is 0.1; it must be 0 with objective.capacity_p"):
        dataclasses.replace(paper, schedule=dataclasses.replace(paper.schedule, z_opening=0.1))


def test_the_papers_mnist_run_ends_at_the_capacity_that_its_epochs_allow() -> None:
    """60 epochs of 938 steps against a ramp of 100,000: 7 * 0.5628."""
    config = recipe(INFO, "paper")
    steps = 60 * 938
    end = schedule_at(steps, steps, config.schedule, config.objective)
    assert end.capacity_z == pytest.approx(3.9396)
    assert end.attention_slope == 8.0
    assert end.rate_scale == 1.0


def test_the_attention_slope_of_the_paper_recipe_gains_2e_4_a_step() -> None:
    config = recipe(INFO, "paper")
    slopes = [schedule_at(step, 56_280, config.schedule, config.objective).attention_slope for step in (0, 1, 35_000)]
    assert slopes == pytest.approx([1.0, 1.0002, 8.0])


@pytest.mark.parametrize("total", [100, 4000])
def test_the_default_recipe_rescales_all_ramps_with_the_run(total: int) -> None:
    config = recipe(INFO, "default")
    middle = schedule_at(total // 2, total, config.schedule, config.objective)
    end = schedule_at(total, total, config.schedule, config.objective)
    assert middle.attention_slope == pytest.approx(1 + 7 * 0.5 / 0.85)
    assert end.attention_slope == 8.0
    three_quarters = schedule_at(3 * total // 4, total, config.schedule, config.objective)
    assert (middle.rate_scale, three_quarters.rate_scale, end.rate_scale) == pytest.approx((1.0, 0.5, 0.0))
