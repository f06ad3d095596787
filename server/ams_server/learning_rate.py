"""The step size of a training phase: large while a device's model is new, and where few parameters may move."""

import math

from pydantic import Field

from ams_common.settings import PartConfig


class LearningRateConfig(PartConfig):
    """How large the optimiser's steps are."""

    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """Step size of the optimiser, to which it comes down in the long run."""
    learning_rate_boost: float = Field(default=2.0, ge=1, le=100)
    """Factor by which the first phase of a device has larger steps; what it adds halves every --boost-half-life phases."""
    boost_half_life: float = Field(default=8.0, gt=0, allow_inf_nan=False)
    """Phases in which half of what --learning-rate-boost adds has gone."""
    sparsity_boost: float = Field(default=0.5, ge=0, le=2)
    """Where a budget leaves only a part of the parameters of a phase to change, the step size is divided by that part to this
    power; 0 for the same steps."""


def phase_learning_rate(config: LearningRateConfig, *, phases: int, part: float) -> float:
    """Return the step size of a phase after `phases` earlier ones in which a `part`, 0..1, of the usual parameters may move.

    Of the two reasons for larger steps the stronger one counts: both together would be too much of them.
    """
    boost = 1 + (config.learning_rate_boost - 1) * math.pow(0.5, phases / config.boost_half_life)
    return config.learning_rate * max(boost, math.pow(part, -config.sparsity_boost))
