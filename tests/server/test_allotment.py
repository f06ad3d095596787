import itertools

from hypothesis import given
from hypothesis import strategies as st

from ams_common.budget import even_rates
from ams_server.allotment import MOST_CEILINGS, UNLIMITED, Allotment, CapConfig, describe
from ams_server.device_budget import DeviceBudget


def kbps(up: float, down: float) -> DeviceBudget:
    return DeviceBudget(uplink_bps=round(1000 * up), downlink_bps=round(1000 * down))


class Told:
    """What a device was told."""

    def __init__(self) -> None:
        self.budgets: list[DeviceBudget] = []


def test_without_caps_a_device_gets_what_it_asks_for() -> None:
    allotment = Allotment(CapConfig())
    told = Told()
    assert allotment.enter("a", kbps(200, 300), told.budgets.append) == kbps(200, 300)
    assert allotment.enter("b", UNLIMITED, told.budgets.append) == UNLIMITED
    allotment.ask("a", kbps(100, 300))
    assert told.budgets == [kbps(100, 300)]
    assert allotment.asked_and_held("a") == (kbps(100, 300), kbps(100, 300))


def test_what_is_above_a_device_s_cap_is_cut() -> None:
    allotment = Allotment(CapConfig(max_uplink_kbps=100, max_downlink_kbps=250))
    assert allotment.enter("a", kbps(200, 200), Told().budgets.append) == kbps(100, 200)
    assert allotment.enter("b", UNLIMITED, Told().budgets.append) == kbps(100, 250)
    assert allotment.asked_and_held("a") == (kbps(200, 200), kbps(100, 200))


def test_the_total_is_shared_again_when_devices_come_and_go() -> None:
    allotment = Allotment(CapConfig(total_uplink_kbps=300))
    first, second, third = Told(), Told(), Told()
    assert allotment.enter("first", kbps(200, 200), first.budgets.append) == kbps(200, 200)
    assert allotment.preview("second", kbps(250, 200)) == kbps(150, 200)
    assert first.budgets == [], "a preview tells nobody"
    assert allotment.enter("second", kbps(250, 200), second.budgets.append) == kbps(150, 200)
    assert first.budgets == [kbps(150, 200)]
    assert allotment.enter("third", kbps(40, 40), third.budgets.append) == kbps(40, 40)
    assert first.budgets[-1] == second.budgets[-1] == kbps(130, 200)
    allotment.leave("second")
    assert first.budgets[-1] == kbps(200, 200)
    assert third.budgets == []


def test_a_ceiling_holds_at_once_and_waits_for_a_device_that_is_away() -> None:
    allotment = Allotment(CapConfig())
    told = Told()
    assert not allotment.set_ceiling("a", kbps(50, 0))
    assert allotment.enter("a", kbps(200, 120), told.budgets.append) == kbps(50, 120)
    assert allotment.set_ceiling("a", kbps(80, 100))
    assert allotment.set_ceiling("a", UNLIMITED)
    assert told.budgets == [kbps(80, 100), kbps(200, 120)]


def test_budgets_are_held_to_four_times_each_other() -> None:
    allotment = Allotment(CapConfig(max_uplink_kbps=10))
    assert allotment.enter("a", UNLIMITED, Told().budgets.append) == kbps(10, 40)


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
    told: dict[str, list[DeviceBudget]] = {}
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
            assert told[name] == [previewed]
        holds = {each: allotment.asked_and_held(each)[1] for each in asked}
        assert holds == {each: told[each][-1] for each in asked}
        assert all(first != second for each in told.values() for first, second in itertools.pairwise(each))
        for each, held in holds.items():
            assert even_rates(held.uplink_bps, held.downlink_bps) == (held.uplink_bps, held.downlink_bps)
            for limit in (asked[each], caps, ceilings.get(each, UNLIMITED)):
                assert 0 < held.uplink_bps <= limit.uplink_bps or not limit.uplink_bps
                assert 0 < held.downlink_bps <= limit.downlink_bps or not limit.downlink_bps
        assert sum(held.uplink_bps for held in holds.values()) <= totals.uplink_bps or not totals.uplink_bps
        assert sum(held.downlink_bps for held in holds.values()) <= totals.downlink_bps or not totals.downlink_bps


def test_a_budget_in_words() -> None:
    assert describe(kbps(12.5, 0)) == "12.5 kbit/s up, no limit down"
