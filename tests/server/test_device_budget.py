"""What a device's budgets must be at least."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.budget import LEAST_BATCH_BYTES
from ams_common.errors import ConfigurationError
from ams_common.framing import UPKEEP_BPS
from ams_server.device_budget import (
    LEAST_UPDATE_BYTES,
    LONGEST_INTERVAL_S,
    WORKABLE_INTERVAL_S,
    DeviceBudget,
    least_interval_s,
    require_workable,
)
from ams_server.wire_costs import batch_cost, update_cost


def even(rate_bps: int) -> DeviceBudget:
    return DeviceBudget(uplink_bps=rate_bps, downlink_bps=rate_bps)


def test_a_large_budget_allows_any_interval_and_a_small_one_asks_for_seconds() -> None:
    assert least_interval_s(DeviceBudget(uplink_bps=0, downlink_bps=0)) == 0.0
    assert least_interval_s(even(1_000_000)) < 0.05
    assert least_interval_s(even(10_000)) == pytest.approx(4.4, abs=0.1)
    assert least_interval_s(even(5_000)) == pytest.approx(9.1, abs=0.1)
    assert least_interval_s(DeviceBudget(uplink_bps=0, downlink_bps=5_000)) == pytest.approx(3.7, abs=0.1)
    assert least_interval_s(even(1)) == LONGEST_INTERVAL_S


def test_messages_have_a_quarter_of_a_budget_in_any_case() -> None:
    # Of 400 bit/s keeping open takes 300, and receipts the rest.
    up_bytes = batch_cost(LEAST_BATCH_BYTES, 1).up_bytes + update_cost(0).up_bytes
    assert least_interval_s(DeviceBudget(uplink_bps=400, downlink_bps=2000)) == pytest.approx(8 * up_bytes / 100)


def test_the_answers_to_two_batches_are_paid_for() -> None:
    down_bytes = update_cost(LEAST_UPDATE_BYTES).down_bytes + 2 * batch_cost(0, 1).down_bytes
    interval_s = least_interval_s(DeviceBudget(uplink_bps=0, downlink_bps=20_000))
    assert interval_s == pytest.approx(8 * down_bytes / (20_000 - UPKEEP_BPS))


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.integers(0, 10**6))
def test_a_larger_downlink_never_asks_for_longer_intervals(uplink_bps: int, downlink_bps: int, more_bps: int) -> None:
    before = least_interval_s(DeviceBudget(uplink_bps=0, downlink_bps=downlink_bps))
    assert least_interval_s(DeviceBudget(uplink_bps=0, downlink_bps=downlink_bps + more_bps)) <= before
    assert least_interval_s(DeviceBudget(uplink_bps=uplink_bps, downlink_bps=downlink_bps)) >= before, "it pays for receipts"


@pytest.mark.parametrize(
    ("uplink_bps", "downlink_bps", "direction", "least"),
    [(1000, 0, "uplink", 4.6), (0, 1000, "downlink", 2.2), (-5, 0, "uplink", 4.6), (1000, 1000, "uplink", 4.6)],
)
def test_a_budget_that_carries_nothing_is_refused_with_the_least(
    uplink_bps: int, downlink_bps: int, direction: str, least: float
) -> None:
    budget = DeviceBudget(uplink_bps=uplink_bps, downlink_bps=downlink_bps)
    for interval_s in (0.2, 10.0):
        with pytest.raises(ConfigurationError, match=rf"^{direction} budget of .* every 10 s: the least is {least} kbit/s"):
            require_workable(budget, interval_s)


@given(st.floats(0.1, 600), st.sampled_from(["uplink_bps", "downlink_bps"]))
def test_the_least_budget_carries_an_update_in_time(update_interval_s: float, direction: str) -> None:
    def budget(rate_bps: int) -> DeviceBudget:
        return replace(even(0), **{direction: rate_bps})

    with pytest.raises(ConfigurationError) as caught:
        require_workable(budget(1), update_interval_s)
    least_bps = round(1000 * float(str(caught.value).split("the least is ")[1].split(" ")[0]))
    require_workable(budget(least_bps), update_interval_s)
    interval_s = max(WORKABLE_INTERVAL_S, update_interval_s)
    assert least_interval_s(budget(least_bps)) <= interval_s
    with pytest.raises(ConfigurationError):
        require_workable(budget(least_bps - 100), update_interval_s)


@given(st.floats(0.1, 600))
def test_what_is_enough_for_both_directions_carries_the_receipts_too(update_interval_s: float) -> None:
    interval_s = max(WORKABLE_INTERVAL_S, update_interval_s)
    least_bps = min(rate_bps for rate_bps in range(500, 10_000, 100) if workable(even(rate_bps), update_interval_s))
    assert least_interval_s(even(least_bps)) <= interval_s
    assert workable(even(0), update_interval_s)


def workable(budget: DeviceBudget, update_interval_s: float) -> bool:
    try:
        require_workable(budget, update_interval_s)
    except ConfigurationError:
        return False
    return True
