import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.budget import even_rates
from ams_common.messages import Bound
from ams_server.allotment import MOST_CEILINGS, UNLIMITED, Allotment, CapConfig, describe
from ams_server.device_budget import Allotted, DeviceBudget


def kbps(up: float, down: float) -> DeviceBudget:
    return DeviceBudget(uplink_bps=round(1000 * up), downlink_bps=round(1000 * down))


class Told:
    """What a device was told."""

    def __init__(self) -> None:
        self.budgets: list[DeviceBudget] = []
        self.bounds: list[tuple[Bound, Bound]] = []

    def take(self, held: Allotted) -> None:
        self.budgets.append(held.budget)
        self.bounds.append((held.uplink_bound, held.downlink_bound))


def test_without_caps_a_device_gets_what_it_asks_for() -> None:
    allotment = Allotment(CapConfig())
    told = Told()
    assert allotment.enter("a", kbps(200, 300), told.take).budget == kbps(200, 300)
    assert allotment.enter("b", UNLIMITED, told.take).budget == UNLIMITED
    allotment.ask("a", kbps(100, 300))
    assert told.budgets == [kbps(100, 300)]
    assert allotment.asked_and_held("a") == (kbps(100, 300), Allotted(budget=kbps(100, 300)))


def test_what_is_above_a_device_s_cap_is_cut() -> None:
    allotment = Allotment(CapConfig(max_uplink_kbps=100, max_downlink_kbps=250))
    assert allotment.enter("a", kbps(200, 200), Told().take).budget == kbps(100, 200)
    assert allotment.enter("b", UNLIMITED, Told().take).budget == kbps(100, 250)
    assert allotment.asked_and_held("a") == (kbps(200, 200), Allotted(budget=kbps(100, 200), uplink_bound="cap"))


def test_the_total_is_shared_again_when_devices_come_and_go() -> None:
    allotment = Allotment(CapConfig(total_uplink_kbps=300))
    first, second, third = Told(), Told(), Told()
    assert allotment.enter("first", kbps(200, 200), first.take).budget == kbps(200, 200)
    assert allotment.preview("second", kbps(250, 200)) == kbps(150, 200)
    assert first.budgets == [], "a preview tells nobody"
    assert allotment.enter("second", kbps(250, 200), second.take).budget == kbps(150, 200)
    assert first.budgets == [kbps(150, 200)]
    assert allotment.enter("third", kbps(40, 40), third.take).budget == kbps(40, 40)
    assert first.budgets[-1] == second.budgets[-1] == kbps(130, 200)
    allotment.leave("second")
    assert first.budgets[-1] == kbps(200, 200)
    assert third.budgets == []


def test_a_ceiling_holds_at_once_and_waits_for_a_device_that_is_away() -> None:
    allotment = Allotment(CapConfig())
    told = Told()
    assert not allotment.set_ceiling("a", kbps(50, 0))
    assert allotment.enter("a", kbps(200, 120), told.take).budget == kbps(50, 120)
    assert allotment.set_ceiling("a", kbps(80, 100))
    assert allotment.set_ceiling("a", UNLIMITED)
    assert told.budgets == [kbps(80, 100), kbps(200, 120)]


def test_budgets_are_held_to_four_times_each_other() -> None:
    allotment = Allotment(CapConfig(max_uplink_kbps=10))
    assert allotment.enter("a", UNLIMITED, Told().take).budget == kbps(10, 40)


def test_what_lowered_a_budget_last_is_told_with_it() -> None:
    allotment = Allotment(CapConfig(max_uplink_kbps=100, total_uplink_kbps=150, total_downlink_kbps=800))
    told = Told()
    held = allotment.enter("a", kbps(200, 700), told.take)
    assert held == Allotted(budget=kbps(100, 400), uplink_bound="cap", downlink_bound="other_direction")
    allotment.enter("b", kbps(60, 0), Told().take)
    allotment.enter("c", kbps(60, 60), Told().take)
    allotment.set_ceiling("a", kbps(40, 0))
    allotment.ask("a", kbps(40, 100))
    assert list(zip(told.budgets, told.bounds, strict=True)) == [
        (kbps(90, 360), ("share", "other_direction")),
        (kbps(50, 200), ("share", "other_direction")),
        (kbps(40, 160), ("ceiling", "other_direction")),
        (kbps(40, 100), ("unspecified", "unspecified")),
    ]


def test_a_device_is_told_when_something_else_holds_it_to_the_same() -> None:
    allotment = Allotment(CapConfig(total_downlink_kbps=100))
    told = Told()
    assert allotment.enter("a", UNLIMITED, told.take).downlink_bound == "share"
    allotment.set_ceiling("a", kbps(0, 100))
    allotment.set_ceiling("a", kbps(0, 200))
    assert told.budgets == [kbps(800, 100)] * 2
    assert [bounds[1] for bounds in told.bounds] == ["ceiling", "share"]


def test_the_log_says_what_holds_and_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    allotment = Allotment(CapConfig(max_uplink_kbps=100, total_downlink_kbps=300))
    allotment.enter("a", kbps(100, 200), Told().take)
    allotment.enter("b", kbps(200, 200), Told().take)
    allotment.set_ceiling("a", kbps(10, 0))
    cap, share = "the server's cap for one device", "this device's share of the server's total"
    asked = "200 kbit/s up, 200 kbit/s down"
    assert caplog.messages == [
        f"device b: 100 kbit/s up ({cap}), 150 kbit/s down ({share}), where {asked} are asked for",
        f"device a: now 100 kbit/s up, 150 kbit/s down ({share})",
        "device a: now 10 kbit/s up (a ceiling set for this device), 40 kbit/s down (the other direction acknowledges no more)",
    ]


def test_ceilings_are_bounded() -> None:
    allotment = Allotment(CapConfig())
    for number in range(MOST_CEILINGS + 1):
        allotment.set_ceiling(f"device-{number}", kbps(10, 10))
    assert allotment.preview("device-0", UNLIMITED) == UNLIMITED
    assert allotment.preview("device-1", UNLIMITED) == kbps(10, 10)


def test_the_ceiling_that_was_set_longest_ago_is_forgotten_first() -> None:
    allotment = Allotment(CapConfig())
    for number in (*range(MOST_CEILINGS), 0, MOST_CEILINGS):
        allotment.set_ceiling(f"device-{number}", kbps(10, 10))
    assert allotment.preview("device-0", UNLIMITED) == kbps(10, 10)
    assert allotment.preview("device-1", UNLIMITED) == UNLIMITED


rates_bps = st.one_of(st.just(0), st.integers(1_000, 1_000_000))
budgets = st.builds(DeviceBudget, uplink_bps=rates_bps, downlink_bps=rates_bps)
steps = st.tuples(st.sampled_from(["enter or ask", "leave", "ceiling"]), st.sampled_from("abcd"), budgets)


@given(caps=budgets, totals=budgets, steps=st.lists(steps, max_size=20))
def test_whatever_comes_everybody_knows_what_holds_and_it_keeps_to_all_limits(
    caps: DeviceBudget, totals: DeviceBudget, steps: list[tuple[str, str, DeviceBudget]]
) -> None:
    up, down = (total_bps / 1000 for total_bps in (totals.uplink_bps, totals.downlink_bps))
    most_up, most_down = caps.uplink_bps / 1000, caps.downlink_bps / 1000
    config = CapConfig(max_uplink_kbps=most_up, max_downlink_kbps=most_down, total_uplink_kbps=up, total_downlink_kbps=down)
    allotment = Allotment(config)
    asked: dict[str, DeviceBudget] = {}
    told: dict[str, list[Allotted]] = {}
    ceilings: dict[str, DeviceBudget] = {}
    for what, name, budget in steps:
        if what == "ceiling":
            ceilings[name] = budget
            assert allotment.set_ceiling(name, budget) == (name in asked)
        elif what == "leave":
            if asked.pop(name, None) is not None:
                allotment.leave(name)
        elif name in asked:
            asked[name] = budget
            allotment.ask(name, budget)
        else:
            asked[name], told[name] = budget, []
            previewed = allotment.preview(name, budget)
            told[name].append(allotment.enter(name, budget, told[name].append))
            assert [held.budget for held in told[name]] == [previewed]
        holds = {each: allotment.asked_and_held(each)[1] for each in asked}
        assert holds == {each: told[each][-1] for each in asked}
        assert all(first != second for each in told.values() for first, second in itertools.pairwise(each))
        budgets_held = {each: held.budget for each, held in holds.items()}
        for each, held in budgets_held.items():
            assert even_rates(held.uplink_bps, held.downlink_bps) == (held.uplink_bps, held.downlink_bps)
            for limit in (asked[each], caps, ceilings.get(each, UNLIMITED)):
                assert 0 < held.uplink_bps <= limit.uplink_bps or not limit.uplink_bps
                assert 0 < held.downlink_bps <= limit.downlink_bps or not limit.downlink_bps
        assert sum(held.uplink_bps for held in budgets_held.values()) <= totals.uplink_bps or not totals.uplink_bps
        assert sum(held.downlink_bps for held in budgets_held.values()) <= totals.downlink_bps or not totals.downlink_bps


def test_a_budget_in_words() -> None:
    assert describe(kbps(12.5, 0)) == "12.5 kbit/s up, no limit down"
