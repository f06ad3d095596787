"""How finely each tensor's changes are quantised."""

import numpy as np
import pytest
from pydantic import ValidationError

from ams_common.layout import ParameterLayout, TensorSpec
from ams_server.quantisation import QuantiserConfig, encoding_plan

LAYOUT = ParameterLayout(
    (
        TensorSpec(name="usual", shape=(998,)),
        TensorSpec(name="steep", shape=(1,)),
        TensorSpec(name="flat", shape=(1,)),
        TensorSpec(name="running_mean", shape=(5,), trainable=False),
    )
)


def test_steep_tensors_have_fine_steps_and_flat_ones_coarse_steps() -> None:
    squares = np.array([1e-4, 16e-4, 0.0], np.float32)
    plan = encoding_plan(QuantiserConfig(bit_price=0.1), LAYOUT, squares, usual_change=5e-3, limit_bytes=700)
    assert plan.step_scales == pytest.approx([1, 0.5, 4, 1], rel=0.01)
    assert plan.step == pytest.approx(9e-3)
    assert (plan.limit_bytes, plan.dead_zone, plan.bit_price) == (700, 0.5, 0.1)


def test_without_gradients_all_tensors_are_alike() -> None:
    plan = encoding_plan(QuantiserConfig(), LAYOUT, np.zeros(3, np.float32), usual_change=0.0, limit_bytes=None)
    assert plan.step_scales is not None
    assert plan.step_scales.tolist() == [1, 1, 1, 1]
    assert (plan.step, plan.limit_bytes) == (0.0, None)


@pytest.mark.parametrize("changes", [{"quantisation_step": 1e-30}, {"dead_zone": 0}, {"dead_zone": 1.1}, {"bit_price": -0.1}])
def test_settings_that_quantise_nothing_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        QuantiserConfig(**changes)
