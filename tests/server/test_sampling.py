import numpy as np
import pytest
from pydantic import ValidationError

from ams_common.classes import UInt8Array
from ams_server.sampling import SamplingConfig, SamplingController, label_similarity


def maps_with_share(changed: int) -> tuple[UInt8Array, UInt8Array]:
    """Two label maps of 100 pixels that differ in `changed` of them."""
    previous = np.zeros((10, 10), np.uint8)
    current = previous.copy()
    current.flat[:changed] = 1
    return previous, current


def controller(**settings: float | str) -> SamplingController:
    return SamplingController(SamplingConfig.model_validate(settings))


def test_label_similarity_is_the_mean_iou_of_pixels_labelled_in_both() -> None:
    previous = np.array([[0, 0, 0, 1], [1, 1, 255, 2]], np.uint8)
    current = np.array([[0, 0, 1, 1], [1, 0, 2, 255]], np.uint8)
    # Class 0: 2 of 4. Class 1: 2 of 4. Class 2 is never labelled in both and does not count.
    assert label_similarity(previous, current) == pytest.approx(0.5)
    assert label_similarity(previous, previous) == 1


@pytest.mark.parametrize("rule", ["loss", "similarity"])
def test_maps_without_a_common_label_say_nothing(rule: str) -> None:
    sampling = controller(sampling_rule=rule)
    labels = np.zeros((2, 2), np.uint8)
    assert sampling.observe(labels, np.full((2, 2), 255, np.uint8)) is None
    assert sampling.update(10.0) == 1.0


def test_loss_rule_by_hand() -> None:
    sampling = controller(sampling_target=0.08, sampling_gain_hz=3.0)
    expected = [
        (10.0, [3], 1.0 + 3 * (0.03 - 0.08)),  # 0.85
        (20.0, [0, 4], 0.85 + 3 * (0.02 - 0.08)),  # 0.67
        (30.0, [8], 0.67),
        (40.0, [], 0.67),
        (50.0, [12, 20], 0.67 + 3 * (0.16 - 0.08)),  # 0.91
        (60.0, [50], 1.0),  # 2.17 is clipped
        (70.0, [0], 0.76),
        (80.0, [0], 0.52),
        (90.0, [0], 0.28),
        (100.0, [0], 0.1),  # 0.04 is clipped
    ]
    for now_s, shares, rate_hz in expected:
        for share in shares:
            assert sampling.observe(*maps_with_share(share)) == pytest.approx(share / 100)
        assert sampling.update(now_s) == pytest.approx(rate_hz)
        assert sampling.rate_hz == pytest.approx(rate_hz)


def test_similarity_rule_by_hand() -> None:
    sampling = controller(sampling_rule="similarity")
    same, other = maps_with_share(0), maps_with_share(100)
    # tanh(20 (1 - 0.6)) = tanh(8) = 0.99999977; tanh(20 (0 - 0.6)) = -1; tanh(20 (2 / 3 - 0.6)) = tanh(4 / 3) = 0.87006166.
    expected = [
        (10.0, [same], 0.80000005),
        (20.0, [same, same], 0.6000001),
        (30.0, [same, same, other], 0.6000001 - 0.2 * 0.87006166),
        (40.0, [other], 0.62598777),
        (50.0, [other, other], 0.82598777),
        (60.0, [other], 1.0),
    ]
    for now_s, pairs, rate_hz in expected:
        for pair in pairs:
            sampling.observe(*pair)
        assert sampling.update(now_s) == pytest.approx(rate_hz, abs=1e-7)


def test_each_rule_has_a_target_and_a_gain_of_its_own_and_0_asks_for_them() -> None:
    for rule, target, gain_hz in (("loss", 0.08, 3.0), ("error", 0.02, 10.0)):
        for settings in ({}, {"sampling_target": target, "sampling_gain_hz": gain_hz}):
            sampling = controller(sampling_rule=rule, **settings)
            sampling.add(target - 0.03)
            assert sampling.update(10.0) == pytest.approx(1.0 - 0.03 * gain_hz)
    sampling = controller(sampling_rule="error", sampling_target=0.3, sampling_gain_hz=2.0)
    sampling.add(0.2)
    assert sampling.update(10.0) == pytest.approx(0.8)


def test_nothing_said_changes_nothing() -> None:
    sampling = controller(sampling_rule="error")
    sampling.add(None)
    assert sampling.update(10.0) == 1.0


def test_the_rate_changes_once_a_period_and_not_before() -> None:
    sampling = controller(sampling_target=0.5, sampling_gain_hz=0.2)
    rates = []
    for now_s in (10.0, 12.0, 18.9, 19.5, 28.0, 29.0):
        sampling.observe(*maps_with_share(0))
        rates.append(sampling.update(now_s))
    # Nine tenths of a period are a period: 19.5 follows 10.0, and 29.0 follows 19.5.
    assert rates == pytest.approx([0.9, 0.9, 0.9, 0.8, 0.8, 0.7])


def test_what_was_seen_between_updates_is_averaged_and_then_forgotten() -> None:
    sampling = controller(sampling_target=1.0, sampling_gain_hz=1.0, max_sampling_hz=30.0)
    sampling.update(0.0)
    for now_s, share in ((3.0, 10), (6.0, 20), (10.0, 60)):
        sampling.observe(*maps_with_share(share))
        sampling.update(now_s)
    assert sampling.rate_hz == pytest.approx(30 + 0.3 - 1)
    sampling.observe(*maps_with_share(90))
    assert sampling.update(20.0) == pytest.approx(29.3 + 0.9 - 1)


def test_a_clock_that_went_back_does_not_stop_the_controller() -> None:
    sampling = controller(sampling_target=0.5, sampling_gain_hz=0.2)
    for now_s in (5000.0, 3.0):
        sampling.observe(*maps_with_share(0))
        sampling.update(now_s)
    assert sampling.rate_hz == pytest.approx(0.8)


def test_limits_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"min_sampling_hz=2.0 is above max_sampling_hz=1.0"):
        SamplingConfig(min_sampling_hz=2.0)


def test_a_later_controller_goes_on_with_the_rate_within_its_own_limits() -> None:
    state = {"rate_hz": np.array(0.5)}
    for least_hz, most_hz, expected_hz in ((0.1, 1.0, 0.5), (0.1, 0.3, 0.3), (0.7, 1.0, 0.7)):
        controller = SamplingController(SamplingConfig(min_sampling_hz=least_hz, max_sampling_hz=most_hz))
        controller.load_state(state)
        assert controller.rate_hz == expected_hz
        assert controller.state() == {"rate_hz": np.array(expected_hz)}
