"""What changes while training goes on, as functions of the step: nothing here has a state."""

from __future__ import annotations

import math
from typing import NamedTuple

from partedvae.training.config.train_config import ObjectiveConfig, ScheduleConfig

FIRST_SLOPE = 1.0
"""The attention's steepness at step 0."""


RATE_HOLD = 0.5
"""Share of a cosine run at the full rate: short runs need it longer than a cosine from the start would give."""


class Schedule(NamedTuple):
    """The values at one step."""

    capacity_z: float
    """C_z in nats."""
    capacity_u: float
    """C_u in nats."""
    attention_slope: float
    """Steepness of the attention's sigmoid."""
    rate_scale: float
    """Factor on the learning rates; 1 where the plateau scheduler has them."""


def ramp(step: int, length: float, start: float, end: float) -> float:
    """Go linearly from `start` at step 0 to `end` at step `length`, and stay there."""
    share = min(step / length, 1.0)
    return start + (end - start) * share


def schedule_at(step: int, total_steps: int, schedule: ScheduleConfig, objective: ObjectiveConfig) -> Schedule:
    """Return the values at a step of a run of `total_steps`."""
    unit = total_steps if schedule.unit == "run" else 1
    capacity_length = schedule.capacity_ramp * unit
    return Schedule(
        capacity_z=ramp(step, capacity_length, 0.0, objective.capacity_z),
        capacity_u=ramp(step, capacity_length, 0.0, objective.capacity_u),
        attention_slope=ramp(step, schedule.attention_ramp * unit, FIRST_SLOPE, schedule.attention_slope),
        rate_scale=cosine(step, total_steps) if schedule.learning_rate == "cosine" else 1.0,
    )


def cosine(step: int, total_steps: int) -> float:
    """Stay at 1 for the first half of the run, then fall to 0 as half a cosine."""
    falling = max(step / total_steps - RATE_HOLD, 0.0) / (1 - RATE_HOLD)
    return 0.5 * (1 + math.cos(math.pi * falling))
