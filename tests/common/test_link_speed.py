"""A link that is slower than its budget, simulated as a queue that takes one message after the other."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.budget import Allowance, TokenBucket
from ams_common.clock import ManualClock
from ams_common.flights import Flight, Flights
from ams_common.link_speed import ANSWER_S, SHARE, WAITING_S, LinkSpeed, worthwhile_bytes

BUDGET_BPS = 200_000
OUTBOX = 4


def flight(seconds_at_budget: float, duration_s: float) -> Flight:
    return Flight(wire_bytes=int(BUDGET_BPS / 8 * seconds_at_budget), duration_s=duration_s)


def simulate(link_bps: Callable[[float], float], interval_s: float, rounds: int, delay_s: float = 0.1) -> list[float]:
    """Send a batch as large as is planned every `interval_s`, at most OUTBOX at once; return what was planned each time."""
    clock, speed = ManualClock(), LinkSpeed()
    flights = Flights(clock)
    arrivals: list[tuple[float, int]] = []
    free_s, plans = 0.0, []
    for number in range(rounds):
        due_s = number * interval_s
        while arrivals and arrivals[0][0] <= due_s:
            at_s, key = arrivals.pop(0)
            clock.advance_to(at_s)
            landed = flights.arrive(key)
            assert landed is not None
            speed.observe(landed)
        clock.advance_to(due_s)
        plans.append(speed.usable_bps(BUDGET_BPS, flights.waiting))
        if len(arrivals) == OUTBOX:
            continue
        size_bytes = int(plans[-1] * interval_s / 8)
        flights.depart(number, size_bytes)
        free_s = max(free_s, due_s) + 8 * size_bytes / link_bps(due_s)
        arrivals.append((free_s + delay_s, number))
    return plans


def test_nothing_is_known_before_a_message_was_answered() -> None:
    assert LinkSpeed().usable_bps(BUDGET_BPS) == BUDGET_BPS
    assert LinkSpeed().usable_bps(0) == 0
    assert not LinkSpeed().is_less_than(0)


def test_a_link_that_carries_the_budget_changes_nothing() -> None:
    assert set(simulate(lambda time_s: 1.3 * BUDGET_BPS, 2.0, 50)) == {BUDGET_BPS}


@given(st.floats(0.05, 0.8), st.floats(2.0, 10.0))
def test_a_slow_link_is_filled_and_no_more(part: float, interval_s: float) -> None:
    plans = simulate(lambda time_s: part * BUDGET_BPS, interval_s, 80)
    settled = plans[40:]
    assert max(settled) < part * BUDGET_BPS
    assert min(settled) >= 0.75 * part * BUDGET_BPS
    assert max(settled) <= 1.12 * min(settled), "it does not swing"


def test_it_recovers_with_the_link() -> None:
    plans = simulate(lambda time_s: 0.3 * BUDGET_BPS if 20 <= time_s < 60 else 10 * BUDGET_BPS, 2.0, 60)
    assert plans[9] == BUDGET_BPS
    assert plans[29] < 0.5 * BUDGET_BPS
    assert set(plans[40:]) == {BUDGET_BPS}


def test_a_link_that_stands_still_is_slow_before_any_answer() -> None:
    speed = LinkSpeed()
    speed.observe(flight(2.0, 0.1))
    assert speed.usable_bps(BUDGET_BPS, flight(2.0, 0.05)) == BUDGET_BPS
    assert speed.usable_bps(BUDGET_BPS, flight(2.0, 20.2)) == pytest.approx(SHARE * 0.2 * BUDGET_BPS)


def test_small_messages_whose_answers_take_a_while_say_nothing_of_the_link() -> None:
    speed = LinkSpeed()
    for _ in range(3):
        speed.observe(flight(0.01, ANSWER_S + 0.3))
    assert speed.usable_bps(BUDGET_BPS) == BUDGET_BPS


def test_without_a_budget_only_a_slow_link_is_a_limit() -> None:
    speed = LinkSpeed()
    speed.observe(flight(20.0, 2.2))
    assert speed.usable_bps(0) == pytest.approx(SHARE * 10 * BUDGET_BPS)
    assert speed.is_less_than(0)
    speed = LinkSpeed()
    speed.observe(flight(10.0, 0.21))
    assert speed.usable_bps(0) == 0


def test_as_much_may_wait_as_the_budget_lets_go_soon() -> None:
    clock = ManualClock()
    bucket = TokenBucket(Allowance(bps=8000, burst_bytes=10_000, reserve_bytes=2000), clock)
    prompt = Flight(wire_bytes=5000, duration_s=0.1)
    assert worthwhile_bytes(prompt, bucket) == 8000 + WAITING_S * 1000
    bucket.spend(9000)
    assert worthwhile_bytes(prompt, bucket) == -1000 + WAITING_S * 1000
    assert worthwhile_bytes(prompt, TokenBucket(Allowance(bps=0, burst_bytes=1), clock)) == math.inf


def test_no_more_may_wait_than_the_link_takes_soon_where_its_speed_is_known() -> None:
    unlimited = TokenBucket(Allowance(bps=0, burst_bytes=1), ManualClock())
    assert worthwhile_bytes(Flight(wire_bytes=5000, duration_s=2.5, waited_s=1.0), unlimited) == WAITING_S * 2000
    assert worthwhile_bytes(Flight(wire_bytes=5000, duration_s=0.0, waited_s=1.0), unlimited) > 10**6
    assert worthwhile_bytes(Flight(wire_bytes=5000, duration_s=8.0), unlimited) == math.inf, "it may only have stood still"


def test_the_newest_message_tells_at_once_of_a_link_that_has_become_slow_and_of_nothing_else() -> None:
    speed = LinkSpeed()
    for duration_s in (0.5, 0.5, 8.0 + ANSWER_S):
        speed.observe(flight(2.0, duration_s))
    assert speed.usable_bps(BUDGET_BPS) == pytest.approx(SHARE * BUDGET_BPS / 4)
    speed.observe(flight(2.0, 0.5))
    assert speed.usable_bps(BUDGET_BPS) == pytest.approx(SHARE * 6 * BUDGET_BPS / 8.6), "the mean of the last three again"
