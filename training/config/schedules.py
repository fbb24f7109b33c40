"""Schedules of capacities, attention slope and learning rate, as stateless functions of the step."""

from __future__ import annotations

import math
from typing import NamedTuple

from partedvae.training.config.train_config import ObjectiveConfig, ScheduleConfig

FIRST_SLOPE = 1.0
"""Steepness of the attention at step 0."""
RATE_HOLD = 0.5
"""Fraction of a run at the full learning rate before the cosine; short runs need the full rate for longer than a cosine
from the start provides."""
SEPARATION_RAMP = 0.1
"""Fraction of a run over which the weights of the terms that separate u from z rise, where they begin late."""
OPENING_RAMP = 0.25
"""Length of the ramp of a dimension of z that opens, as a share of the time between two of them."""


class Schedule(NamedTuple):
    """Scheduled values at one step."""

    capacity_z: float
    """C_z in nats."""
    capacity_u: float
    """C_u in nats."""
    attention_slope: float
    """Steepness of the sigmoid of the attention."""
    separation: float
    """Factor of the weights of exchange, cycle and adversary."""
    opened_z: float
    """Time since the first dimension of z began to open, in units of the time between two; infinite with all open."""
    rate_scale: float
    """Factor of the learning rates; always 1 with the plateau scheduler."""


def ramp(step: int, length: float, start: float, end: float) -> float:
    """Return a linear ramp from `start` at step 0 to `end` at step `length`, and `end` after it."""
    progress = min(step / length, 1.0)
    return start + (end - start) * progress


def schedule_at(step: int, total_steps: int, schedule: ScheduleConfig, objective: ObjectiveConfig) -> Schedule:
    """Return the scheduled values at a step.

    Args:
        step: the step, starting at 0.
        total_steps: steps of the whole run.
        schedule: lengths of the ramps, and the learning-rate schedule.
        objective: the final capacities.
    """
    unit = total_steps if schedule.unit == "run" else 1
    capacity_length, first = schedule.capacity_ramp * unit, schedule.capacity_start
    since = step / total_steps - schedule.separation_start
    return Schedule(
        capacity_z=ramp(step, capacity_length, first * objective.capacity_z, objective.capacity_z),
        capacity_u=ramp(step, capacity_length, first * objective.capacity_u, objective.capacity_u),
        attention_slope=ramp(step, schedule.attention_ramp * unit, FIRST_SLOPE, schedule.attention_slope),
        separation=min(max(since / SEPARATION_RAMP, 0.0), 1.0) if schedule.separation_start else 1.0,
        opened_z=step / total_steps / schedule.z_opening if schedule.z_opening else math.inf,
        rate_scale=cosine(step, total_steps) if schedule.learning_rate == "cosine" else 1.0,
    )


def z_weights(opened_z: float, dims: int, objective: ObjectiveConfig) -> list[float]:
    """Return the weight of the KL of each dimension of z; they open in their order.

    Args:
        opened_z: `Schedule.opened_z`.
        dims: number of dimensions.
        objective: the weights of open and closed dimensions.
    """
    closed = [min(max(1 - (opened_z - dim) / OPENING_RAMP, 0.0), 1.0) for dim in range(dims)]
    return [objective.beta_z + (objective.beta_z_closed - objective.beta_z) * share for share in closed]


def cosine(step: int, total_steps: int) -> float:
    """Return 1 for the first half of the run, then half a cosine that falls to 0."""
    falling = max(step / total_steps - RATE_HOLD, 0.0) / (1 - RATE_HOLD)
    return 0.5 * (1 + math.cos(math.pi * falling))
