import math

import pytest

from ams_common.errors import ConfigurationError
from ams_common.messages import Bound, Budget, Control
from ams_edge.own_budgets import OwnBudgets, told
from ams_edge.settings import DeviceConfig


def budgets(uplink_kbps: float = 0, downlink_kbps: float = 0) -> OwnBudgets:
    return OwnBudgets(DeviceConfig(device_id="camera-1", uplink_kbps=uplink_kbps, downlink_kbps=downlink_kbps))


def control(
    uplink_bps: int, downlink_bps: int, uplink_bound: Bound = "unspecified", downlink_bound: Bound = "unspecified"
) -> Control:
    return Control(
        sampling_hz=1.0,
        batch_interval_s=1.0,
        batch_bytes=1000,
        frame_width=48,
        frame_height=32,
        uplink_bps=uplink_bps,
        downlink_bps=downlink_bps,
        uplink_bound=uplink_bound,
        downlink_bound=downlink_bound,
    )


def rates(uplink_bps: int, downlink_bps: int) -> Budget:
    return Budget(uplink_bps=uplink_bps, downlink_bps=downlink_bps)


def test_what_is_asked_for_is_held_to_what_the_other_direction_can_acknowledge() -> None:
    mine = budgets(200, 20)
    assert mine.asked == rates(200_000, 20_000)
    assert mine.own == mine.held == rates(160_000, 20_000)
    assert budgets(20, 200).own == rates(20_000, 80_000)


def test_the_server_can_leave_less_but_not_allow_more() -> None:
    mine = budgets(100, 200)
    assert not mine.obey(control(0, 300_000))
    assert mine.held == rates(100_000, 200_000)
    assert mine.obey(control(60_000, 300_000))
    assert mine.held == rates(60_000, 200_000)
    assert not mine.obey(control(60_000, 300_000))


def test_without_a_budget_the_servers_holds() -> None:
    mine = budgets()
    assert mine.held == rates(0, 0)
    assert mine.obey(control(60_000, 0))
    assert mine.held == rates(60_000, 0)


def test_a_change_keeps_what_the_server_said() -> None:
    mine = budgets(100, 200)
    mine.obey(control(60_000, 150_000))
    mine.change(uplink_kbps=50, downlink_kbps=180)
    assert mine.asked == mine.own == rates(50_000, 180_000)
    assert mine.held == rates(50_000, 150_000)


def test_why_the_server_leaves_less_is_known_where_it_does() -> None:
    mine = budgets(100, 200)
    assert mine.bounds == ("unspecified", "unspecified")
    assert mine.obey(control(60_000, 200_000, "cap", "unspecified"))
    assert mine.bounds == ("cap", "unspecified")
    assert not mine.obey(control(60_000, 200_000, "cap", "unspecified"))
    assert mine.obey(control(60_000, 200_000, "ceiling", "unspecified")), "the same rate for another reason is news"
    mine.change(uplink_kbps=50, downlink_kbps=200)
    assert mine.bounds == ("unspecified", "unspecified"), "what holds is the own rate now"


def test_budgets_that_are_kept_even_here_need_no_word_of_the_server() -> None:
    mine = budgets(200, 20)
    assert not mine.obey(control(160_000, 20_000, "other_direction"))
    assert mine.bounds == ("unspecified", "unspecified")


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_a_rate_that_is_none_changes_nothing(wrong: float) -> None:
    mine = budgets(100, 200)
    with pytest.raises(ConfigurationError, match="budgets of"):
        mine.change(uplink_kbps=wrong, downlink_kbps=50)
    assert mine.own == rates(100_000, 200_000)


def test_rates_are_told_as_a_person_reads_them() -> None:
    assert told(rates(1_500, 0)) == "1.5 kbit/s up, no limit down"
