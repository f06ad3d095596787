import numpy as np
import pytest
from pydantic import ValidationError

from ams_common.errors import ModelError
from ams_server.pacing import PacingConfig, PacingController


def intervals(rates_hz: list[float], **settings: float) -> list[float]:
    controller = PacingController(PacingConfig.model_validate(settings))
    observed = []
    for rate_hz in rates_hz:
        observed.append(controller.observe(rate_hz))
        assert observed[-1] == controller.interval_s
    return observed


def test_slow_down_by_hand() -> None:
    rates_hz = [1.0, 0.5, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.2]
    # Means of the last five: 1, 0.75, 0.6, 0.5, 0.42, 0.24, 0.16, 0.12, 0.12.
    assert intervals(rates_hz) == [10, 10, 10, 10, 10, 12, 14, 16, 18]


def test_speed_up_by_hand() -> None:
    rates_hz = [0.1, 0.1, 0.1, 0.1, 0.1, 0.3, 0.5, 0.7, 0.2, 0.4]
    # Means: 0.1 five times, 0.14, 0.22, 0.34 (still slow: hysteresis), 0.36 (leave), 0.42.
    assert intervals(rates_hz) == [12, 14, 16, 18, 20, 22, 24, 26, 10, 10]


def test_between_the_thresholds_nothing_starts() -> None:
    assert intervals([0.3] * 8) == [10] * 8


def test_at_the_lower_threshold_nothing_starts_and_at_the_upper_one_slow_down_goes_on() -> None:
    assert intervals([0.25] * 3) == [10] * 3
    assert intervals([0.2, 0.5]) == [12, 14]


def test_six_times_the_interval_is_the_most() -> None:
    observed = intervals([0.1] * 40)
    assert observed[24:] == [60] * 16
    assert observed[23] == 58
    assert intervals([0.1] * 5, update_interval_s=1.0) == [3, 5, 6, 6, 6]


def test_slow_down_starts_again_from_the_initial_interval() -> None:
    assert intervals([0.1, 0.1, 1.0, 0.1, 0.1, 0.1, 0.1, 0.1]) == [12, 14, 10, 10, 10, 10, 10, 12]


def test_a_fixed_interval_stays() -> None:
    assert intervals([0.1] * 5, update_interval_s=7.0, adaptive_pacing=False) == [7] * 5


def test_at_the_start_as_much_is_new_as_there_was_before() -> None:
    controller = PacingController(PacingConfig(update_interval_s=10))
    assert [controller.interval_after(learnt_s) for learnt_s in (0.0, 1.0, 2.0, 3.0, 6.0, 9.9)] == [2, 2, 2, 3, 6, 9.9]
    assert [controller.interval_after(learnt_s) for learnt_s in (10.0, 12.0, 3600.0)] == [10] * 3


def test_early_phases_are_no_further_apart_than_others() -> None:
    assert PacingController(PacingConfig(update_interval_s=1.5)).interval_after(0.0) == 1.5
    fixed = PacingController(PacingConfig(update_interval_s=10, early_phases=False))
    assert [fixed.interval_after(learnt_s) for learnt_s in (0.0, 3.0, 60.0)] == [10] * 3


def test_the_pace_slows_down_after_early_phases_too() -> None:
    controller = PacingController(PacingConfig(update_interval_s=10))
    controller.observe(0.1)
    assert [controller.interval_after(learnt_s) for learnt_s in (3.0, 11.0, 40.0)] == [3, 11, 12]


def test_an_interval_of_zero_is_refused() -> None:
    with pytest.raises(ValidationError):
        PacingConfig(update_interval_s=0)


def test_a_later_controller_goes_on_where_one_was() -> None:
    before = PacingController(PacingConfig(update_interval_s=10))
    for rate_hz in (0.5, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1):
        before.observe(rate_hz)
    after = PacingController(PacingConfig(update_interval_s=10))
    after.load_state(before.state())
    assert (after.interval_s, after.slow) == (before.interval_s, True)
    for rate_hz in (0.2, 0.9, 0.9, 0.1):
        assert after.observe(rate_hz) == before.observe(rate_hz)


def test_a_state_is_kept_within_the_configuration_it_comes_to() -> None:
    before = PacingController(PacingConfig(update_interval_s=10))
    for _ in range(8):
        before.observe(0.1)
    assert before.interval_s > 12
    for config, expected_s in (
        (PacingConfig(update_interval_s=2), 12.0),
        (PacingConfig(update_interval_s=100), 100.0),
        (PacingConfig(update_interval_s=10, adaptive_pacing=False), 10.0),
    ):
        after = PacingController(config)
        after.load_state(before.state())
        assert after.interval_s == expected_s


def test_only_the_last_rates_are_kept_and_fewer_than_that_are_enough() -> None:
    before = PacingController(PacingConfig(update_interval_s=10))
    before.observe(0.1)
    after = PacingController(PacingConfig(update_interval_s=10))
    after.load_state(before.state())
    assert after.state()["rates_hz"].tolist() == [0.1]


def test_a_state_without_its_parts_or_with_too_many_is_refused() -> None:
    state = PacingController(PacingConfig()).state()
    for broken in (
        {name: value for name, value in state.items() if name != "rates_hz"},
        {**state, "rates_hz": np.full(6, 0.1)},
        {**state, "slow": np.array(2)},
    ):
        with pytest.raises(ModelError):
            PacingController(PacingConfig()).load_state(broken)
