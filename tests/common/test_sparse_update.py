import numpy as np
import pytest

from ams_common.errors import ModelError
from ams_common.layout import ParameterLayout, TensorSpec
from ams_common.sparse_update import EncodingPlan, SparseUpdate, apply_update, check_vectors


def test_an_update_takes_the_place_of_what_was_there_in_a_copy() -> None:
    base = np.zeros(4, np.float32)
    new = apply_update(base, SparseUpdate(np.array([1, 3]), np.array([5, -2], np.float32)))
    assert new.tolist() == [0, 5, 0, -2]
    assert not base.any()


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"step": -1e-3}, "step of -0.001"),
        ({"step": float("nan")}, "step of nan"),
        ({"step": 1e-300}, "step of 1e-300: use 0, or 1e-20 to 1e.20"),
        ({"step": 1e300}, "step of 1e.300"),
        ({"dead_zone": 0.0}, "dead zone 0.0 is not between 0.01 and 1"),
        ({"dead_zone": 1.5}, "dead zone 1.5"),
        ({"bit_price": -0.1}, "worth -0.1 squared steps"),
        ({"bit_price": float("inf")}, "worth inf"),
        ({"bit_price": 1e300}, "worth 1e.300 squared steps: use 0 to 1000000"),
        ({"step_scales": np.array([1, 0], np.float32)}, "scales of an update's steps"),
        ({"step_scales": np.array([1, np.nan], np.float32)}, "scales of an update's steps"),
    ],
)
def test_a_plan_that_makes_no_update_is_refused(plan: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        EncodingPlan(**plan)  # type: ignore[arg-type]


def test_a_vector_of_another_layout_is_refused() -> None:
    layout = ParameterLayout((TensorSpec(name="a", shape=(2, 3)),))
    check_vectors(layout, np.zeros(6, np.float32))
    with pytest.raises(ModelError, match="does not fit a layout of 6"):
        check_vectors(layout, np.zeros(6, np.float32), np.zeros(7, np.float32))
