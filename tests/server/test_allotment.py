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


def test_a_budget_in_words() -> None:
    assert describe(kbps(12.5, 0)) == "12.5 kbit/s up, no limit down"
