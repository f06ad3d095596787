"""Byte budgets on a clock that tests hold."""

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.budget import (
    ANSWER_S,
    LEAST_BURST_BYTES,
    LOST_S,
    MOST_DOWNLINK,
    MOST_MESSAGE_BYTES,
    MOST_UPLINK,
    RECEIPT_FRACTION,
    Allowance,
    TokenBucket,
    Unanswered,
    allowance,
    burst_bytes,
    even_rates,
    model_bps,
)
from ams_common.clock import ManualClock
from ams_common.framing import UPKEEP_BPS, receipt_bytes, sent_bytes


def bucket_of(rate_bps: int, burst_bytes: int, clock: ManualClock, reserve_bytes: int = 0) -> TokenBucket:
    return TokenBucket(Allowance(bps=rate_bps, burst_bytes=burst_bytes, reserve_bytes=reserve_bytes), clock)


def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    clock = ManualClock()
    bucket = bucket_of(8000, 500, clock)
    assert bucket.wait_s(500) == 0.0
    bucket.spend(500)
    assert bucket.wait_s(250) == pytest.approx(0.25)
    clock.sleep(0.25)
    assert bucket.wait_s(250) == 0.0
    assert bucket.wait_s(251) == pytest.approx(0.001)


def test_the_room_is_what_may_go_or_what_is_owed() -> None:
    clock = ManualClock()
    bucket = bucket_of(8000, 500, clock)
    assert bucket.room_bytes == 500
    bucket.spend(800)
    assert bucket.room_bytes == -300
    clock.sleep(0.4)
    assert bucket.room_bytes == pytest.approx(100)


def test_the_room_leaves_the_reserve_and_has_no_end_without_a_limit() -> None:
    assert bucket_of(8000, 600, ManualClock(), reserve_bytes=100).room_bytes == 500
    unlimited = bucket_of(0, 1, ManualClock())
    assert unlimited.room_bytes == math.inf
    assert unlimited.largest_message_bytes == MOST_MESSAGE_BYTES


@pytest.mark.parametrize("rate_bps", [0, 8000])
def test_all_that_was_spent_is_counted(rate_bps: int) -> None:
    bucket = bucket_of(rate_bps, 500, ManualClock())
    for size_bytes in (300, 4000):
        bucket.spend(size_bytes)
    assert bucket.spent_bytes == 4300


def test_silence_saves_up_one_burst_and_no_more() -> None:
    clock = ManualClock()
    bucket = bucket_of(8000, 500, clock)
    clock.sleep(3600)
    bucket.spend(500)
    assert bucket.wait_s(1) == pytest.approx(0.001)


def test_a_message_larger_than_the_burst_waits_for_a_full_bucket_and_is_paid_for_later() -> None:
    clock = ManualClock()
    bucket = bucket_of(8000, 500, clock)
    bucket.spend(100)
    assert bucket.wait_s(2000) == pytest.approx(0.1)
    clock.sleep(0.1)
    bucket.spend(2000)
    assert bucket.wait_s(500) == pytest.approx(2.0)


def test_without_a_limit_nothing_takes_time() -> None:
    assert bucket_of(0, 1, ManualClock()).wait_s(10**9) == 0.0


def test_without_a_limit_nothing_waits() -> None:
    bucket = bucket_of(0, 1, ManualClock())
    bucket.spend(10**9)
    assert bucket.wait_s(10**9) == 0.0


actions = st.tuples(st.integers(1, 3000), st.floats(0, 5))


@given(
    rate_bps=st.integers(1000, 10**7),
    burst_bytes=st.integers(1, 2000),
    start_s=st.floats(0, 1e6),
    steps=st.lists(actions, max_size=20),
)
def test_over_any_window_no_more_than_rate_and_burst(
    rate_bps: int, burst_bytes: int, start_s: float, steps: list[tuple[int, float]]
) -> None:
    clock = ManualClock(start_s)
    bucket = bucket_of(rate_bps, burst_bytes, clock)
    sent: list[tuple[float, int]] = []
    for size_bytes, pause_s in steps:
        clock.sleep(pause_s)
        clock.sleep(bucket.wait_s(size_bytes))
        assert bucket.wait_s(size_bytes) == 0.0, "one wait is enough"
        bucket.spend(size_bytes)
        sent.append((clock.now_s(), size_bytes))
    burst = max([burst_bytes, *(size_bytes for _, size_bytes in sent)])
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            total = sum(size_bytes for _, size_bytes in sent[first : last + 1])
            assert total <= rate_bps / 8 * (sent[last][0] - sent[first][0]) + burst + 1


def test_threads_do_not_lose_what_others_spend() -> None:
    clock = ManualClock()
    bucket = bucket_of(8000, 1, clock)

    def spend_often() -> None:
        for _ in range(1000):
            bucket.spend(1)

    threads = [threading.Thread(target=spend_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bucket.wait_s(1) == pytest.approx(4.0)


def test_large_messages_leave_the_reserve_for_what_cannot_wait() -> None:
    clock = ManualClock()
    bucket = bucket_of(8000, 600, clock, reserve_bytes=100)
    assert bucket.largest_message_bytes < 500
    assert bucket.wait_s(500) == 0.0
    bucket.spend(500)
    assert bucket.urgent_wait_s(100) == 0.0
    assert bucket.urgent_wait_s(101) == pytest.approx(0.001)
    assert bucket.wait_s(1) == pytest.approx(0.001)
    bucket.spend(400)
    assert bucket.urgent_wait_s(100) == pytest.approx(0.4), "what did not wait is a debt for small messages too"


def test_a_change_keeps_the_debt_and_the_saving() -> None:
    clock = ManualClock()
    bucket = bucket_of(8000, 5000, clock)
    bucket.spend(6000)
    bucket.change(Allowance(bps=80_000, burst_bytes=50_000))
    assert bucket.wait_s(1000) == pytest.approx(0.2), "1000 of debt and 1000 to send, ten times as fast"
    clock.sleep(1.0)
    bucket.change(Allowance(bps=8000, burst_bytes=5000))
    clock.sleep(3600.0)
    bucket.change(Allowance(bps=8000, burst_bytes=500))
    bucket.spend(500)
    assert bucket.wait_s(1) == pytest.approx(0.001), "no more than the new burst was saved"


def test_a_change_is_not_for_the_time_before_it() -> None:
    clock = ManualClock()
    bucket = bucket_of(8000, 50_000, clock)
    bucket.spend(50_000)
    clock.sleep(1.0)
    bucket.change(Allowance(bps=80_000, burst_bytes=50_000))
    assert bucket.room_bytes == pytest.approx(1000)


def test_without_a_limit_debts_are_forgotten_and_none_are_made() -> None:
    clock = ManualClock()
    bucket = bucket_of(8000, 500, clock)
    bucket.spend(10**6)
    bucket.change(Allowance(bps=0, burst_bytes=500))
    assert bucket.wait_s(400) == bucket.urgent_wait_s(400) == 0.0
    unlimited = bucket_of(0, 500, clock)
    unlimited.spend(10**9)
    unlimited.change(Allowance(bps=8000, burst_bytes=500))
    assert unlimited.wait_s(500) == 0.0


def test_what_has_no_answer_keeps_its_place_in_the_burst() -> None:
    clock = ManualClock()
    bucket = bucket_of(8000, 1000, clock)
    unanswered = Unanswered(bucket)
    for key in (3, 4):
        unanswered.depart(key, 300)
    clock.sleep(50.0)
    assert bucket.room_bytes == 400, "as if both had left only now"
    assert bucket.wait_s(401) == ANSWER_S, "what no time helps is asked again soon"
    unanswered.arrive(3)
    assert bucket.room_bytes == 400
    assert bucket.wait_s(700) == pytest.approx(0.3)
    clock.sleep(50.0)
    assert bucket.room_bytes == 700
    unanswered.depart(5, 100)
    unanswered.end()
    clock.sleep(50.0)
    assert bucket.room_bytes == 1000
    assert bucket.spent_bytes == 700


def test_answers_are_for_all_that_went_before() -> None:
    clock = ManualClock()
    bucket = bucket_of(8000, 1000, clock)
    unanswered = Unanswered(bucket)
    for key in (3, 5, 6):
        unanswered.depart(key, 100)
    unanswered.arrive(5)
    unanswered.arrive(4)
    clock.sleep(50.0)
    assert bucket.room_bytes == 900


def test_what_will_have_no_answer_gives_up_its_place() -> None:
    clock = ManualClock()
    bucket = bucket_of(8000, 1000, clock)
    hold = bucket.hold(600)
    clock.sleep(LOST_S)
    assert bucket.room_bytes == 400
    clock.sleep(1.0)
    assert bucket.room_bytes == 400
    clock.sleep(60.0)
    assert bucket.room_bytes == 1000
    bucket.release(hold)
    assert bucket.room_bytes == 1000


def test_what_left_under_a_larger_budget_keeps_no_small_message_from_going() -> None:
    clock = ManualClock()
    bucket = bucket_of(0, 1, clock)
    unanswered = Unanswered(bucket)
    unanswered.depart(1, 10**6)
    bucket.change(Allowance(bps=8000, burst_bytes=600, reserve_bytes=100))
    clock.sleep(1.0)
    assert bucket.urgent_wait_s(100) == 0.0
    assert bucket.wait_s(400) > 0.0
    unanswered.arrive(1)
    assert bucket.urgent_wait_s(100) == 0.0, "there is no debt"
    clock.sleep(0.5)
    assert bucket.wait_s(400) == 0.0


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 40), st.floats(0.0, 1.0)), max_size=40), st.integers(0, 30))
def test_however_long_messages_are_held_up_no_window_has_more_than_its_rate_and_a_burst(
    messages: list[tuple[int, int, float]], gap_ms: int
) -> None:
    clock = ManualClock()
    bucket = bucket_of(8000, 500, clock)
    unanswered = Unanswered(bucket)
    answers_s, leaves = list[float](), list[tuple[float, int]]()
    for key, (size_bytes, held_ms, left) in enumerate(messages):
        clock.sleep(gap_ms / 1e3)
        while (wait_s := bucket.wait_s(size_bytes)) > 0:
            clock.sleep(min(wait_s, 1e-3))
            unanswered.arrive(sum(answer_s <= clock.now_s() for answer_s in answers_s) - 1)
        unanswered.depart(key, size_bytes)
        # Messages leave, and are answered, in order.
        answers_s.append(max([*answers_s[-1:], clock.now_s() + held_ms / 10]))
        leaves.append((clock.now_s() + left * (answers_s[-1] - clock.now_s()), size_bytes))
    for begin_s, _ in leaves:
        for end_s, _ in leaves:
            sent_bytes = sum(size for time_s, size in leaves if begin_s <= time_s <= end_s)
            assert end_s < begin_s or sent_bytes <= 1000 * (end_s - begin_s) + 500 + 1


def test_a_model_has_what_acknowledging_pictures_leaves_of_a_downlink() -> None:
    batch_bytes = 100_000
    receipts_bps = receipt_bytes(batch_bytes) / sent_bytes(batch_bytes) * 200_000
    left_bps = 25_000 - UPKEEP_BPS - receipts_bps
    assert 0.85 * left_bps <= model_bps(200_000, 25_000) <= left_bps
    assert model_bps(0, 25_000) == model_bps(200_000, 25_000), "what batches aim at without a limit"
    assert model_bps(10**6, 10_000) == model_bps(80_000, 10_000), "the uplink is held to what can be acknowledged"
    assert model_bps(8_000, 800_000) == pytest.approx(800_000 - UPKEEP_BPS, rel=0.001)


def test_the_burst_is_a_message_of_ten_seconds_and_the_reserve() -> None:
    assert burst_bytes(200_000) == 300_000
    assert burst_bytes(5_000) == burst_bytes(0) == LEAST_BURST_BYTES
    limit = allowance(200_000)
    assert limit.burst_bytes - limit.reserve_bytes == 250_000
    assert limit.bps == 200_000 - UPKEEP_BPS
    assert allowance(400).bps == 200, "keeping a connection open leaves half of whatever there is"


def test_an_uplink_has_eight_times_its_downlink_and_a_downlink_four_times_its_uplink() -> None:
    assert even_rates(10**6, 25_000) == even_rates(0, 25_000) == (200_000, 25_000)
    assert even_rates(25_000, 10**6) == even_rates(25_000, 0) == (25_000, 100_000)
    assert even_rates(100_000, 100_000) == (100_000, 100_000)


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_a_budget_is_held_to_what_the_other_one_can_acknowledge(uplink_bps: int, downlink_bps: int) -> None:
    up, down = even_rates(uplink_bps, downlink_bps)
    if not uplink_bps and not downlink_bps:
        assert (up, down) == (0, 0)
        return
    assert up <= MOST_UPLINK * down
    assert down <= MOST_DOWNLINK * up
    assert up <= uplink_bps or not uplink_bps
    assert down <= downlink_bps or not downlink_bps
    assert even_rates(up, down) == (up, down)


@given(st.integers(20_000, 10**7), st.sampled_from([MOST_UPLINK, MOST_DOWNLINK]))
def test_receipts_of_a_burst_fit_into_the_reserve_of_the_other_direction(rate_bps: int, times: int) -> None:
    other = allowance(times * rate_bps, rate_bps)
    in_one_message = receipt_bytes(other.burst_bytes - other.reserve_bytes)
    assert in_one_message <= allowance(rate_bps, times * rate_bps).reserve_bytes
    assert in_one_message <= RECEIPT_FRACTION * other.burst_bytes


def test_only_a_burst_whose_receipts_would_not_fit_is_smaller() -> None:
    assert allowance(200_000, 25_000).burst_bytes == pytest.approx(6_250 / RECEIPT_FRACTION, abs=1)
    assert allowance(100_000, 25_000) == allowance(100_000)
    assert allowance(25_000, 200_000) == allowance(25_000)
