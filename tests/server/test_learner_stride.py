import pytest

from ams_common.errors import ModelError
from ams_server.learners.config import JustInTimeConfig
from ams_server.learners.stride import StrideController


def test_strides_follow_a_hand_run_of_algorithm_1() -> None:
    controller = StrideController(JustInTimeConfig())
    assert controller.stride == 8
    accuracies = [0.80, 0.90, 0.76, 0.99, 0.75, 0.60, 0.10, 0.74, 0.76, 0.20]
    assert [controller.observe(accuracy) for accuracy in accuracies] == [16, 32, 64, 64, 32, 16, 8, 8, 16, 8]


def test_a_stride_stays_within_bounds_that_are_no_powers_of_two() -> None:
    controller = StrideController(JustInTimeConfig(jit_min_stride=5, jit_max_stride=36, jit_accuracy=0.5))
    assert [controller.observe(accuracy) for accuracy in (1.0, 1.0, 1.0, 1.0)] == [10, 20, 36, 36]
    assert [controller.observe(accuracy) for accuracy in (0.0, 0.0, 0.0, 0.0)] == [18, 9, 5, 5]


def test_frames_are_counted_at_the_stated_rate() -> None:
    controller = StrideController(JustInTimeConfig(jit_camera_hz=20))
    assert controller.period_s == pytest.approx(0.4)
    controller.observe(1.0)
    assert controller.period_s == pytest.approx(0.8)


def test_a_state_is_kept_within_the_configuration() -> None:
    wide, narrow = StrideController(JustInTimeConfig()), StrideController(JustInTimeConfig(jit_min_stride=2, jit_max_stride=20))
    for _ in range(2):
        wide.observe(1.0)
    narrow.load_state(wide.state())
    assert (wide.stride, narrow.stride) == (32, 20)
    with pytest.raises(ModelError):
        narrow.load_state({})
