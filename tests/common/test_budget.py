"""Byte budgets on a clock that tests hold."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.budget import (
    LEAST_BATCH_BYTES,
    TokenBucket,
    batch_target_bytes,
    burst_bytes,
    least_downlink_bps,
    least_uplink_bps,
    payload_bytes,
    require_workable,
)
from ams_common.clock import ManualClock
from ams_common.errors import ConfigurationError


def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    clock = ManualClock()
    bucket = TokenBucket(rate_bps=8000, burst_bytes=500, clock=clock)
    assert bucket.wait_s(500) == 0.0
    bucket.spend(500)
    assert bucket.wait_s(250) == pytest.approx(0.25)
    clock.sleep(0.25)
    assert bucket.wait_s(250) == 0.0
    assert bucket.wait_s(251) == pytest.approx(0.001)


def test_the_duration_of_many_messages_is_that_of_what_may_not_go_at_once() -> None:
    clock = ManualClock()
    bucket = TokenBucket(rate_bps=8000, burst_bytes=500, clock=clock)
    assert bucket.duration_s(400) == 0.0
    assert bucket.duration_s(2500) == pytest.approx(2.0)
    bucket.spend(600)
    assert bucket.duration_s(400) == pytest.approx(0.5)


def test_the_level_is_what_may_go_or_what_is_owed() -> None:
    clock = ManualClock()
    bucket = TokenBucket(rate_bps=8000, burst_bytes=500, clock=clock)
    assert bucket.level_bytes == 500
    bucket.spend(800)
    assert bucket.level_bytes == -300
    clock.sleep(0.4)
    assert bucket.level_bytes == pytest.approx(100)


def test_silence_saves_up_one_burst_and_no_more() -> None:
    clock = ManualClock()
    bucket = TokenBucket(8000, 500, clock)
    clock.sleep(3600)
    bucket.spend(500)
    assert bucket.wait_s(1) == pytest.approx(0.001)


def test_a_message_larger_than_the_burst_waits_for_a_full_bucket_and_is_paid_for_later() -> None:
    clock = ManualClock()
    bucket = TokenBucket(8000, 500, clock)
    bucket.spend(100)
    assert bucket.wait_s(2000) == pytest.approx(0.1)
    clock.sleep(0.1)
    bucket.spend(2000)
    assert bucket.wait_s(500) == pytest.approx(2.0)


def test_without_a_limit_nothing_takes_time() -> None:
    assert TokenBucket(rate_bps=0, burst_bytes=1, clock=ManualClock()).duration_s(10**9) == 0.0


def test_without_a_limit_nothing_waits() -> None:
    bucket = TokenBucket(0, 1, ManualClock())
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
    bucket = TokenBucket(rate_bps, burst_bytes, clock)
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
    bucket = TokenBucket(8000, 1, clock)

    def spend_often() -> None:
        for _ in range(1000):
            bucket.spend(1)

    threads = [threading.Thread(target=spend_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bucket.wait_s(1) == pytest.approx(4.0)


def test_the_burst_is_one_default_interval_of_the_rate() -> None:
    assert burst_bytes(200_000) == 250_000
    assert burst_bytes(0) == 1, "a bucket without a limit still needs some size"


def test_the_paper_s_budgets() -> None:
    # 200 kbit/s over 10 s are 250,000 bytes; 5 % framing and 1,024 bytes of messages go off.
    assert batch_target_bytes(200_000, 10.0) == 236_476
    assert payload_bytes(250_000) == 236_476


def test_no_limit_means_the_paper_s_uplink() -> None:
    assert batch_target_bytes(0, 10.0) == batch_target_bytes(200_000, 10.0)


def test_a_budget_below_the_overhead_leaves_nothing() -> None:
    assert batch_target_bytes(100, 1.0) == 0
    assert payload_bytes(-1e6) == 0


@given(st.floats(0.5, 600))
def test_the_least_budget_is_the_least(interval_s: float) -> None:
    least = least_uplink_bps(interval_s)
    assert batch_target_bytes(least, interval_s) >= LEAST_BATCH_BYTES
    assert batch_target_bytes(least - 1 - int(16 / interval_s), interval_s) <= LEAST_BATCH_BYTES
    require_workable(least, least_downlink_bps(interval_s), interval_s)
    require_workable(0, 0, interval_s)
    with pytest.raises(ConfigurationError):
        require_workable(least - 1, 0, interval_s)


@pytest.mark.parametrize(
    ("uplink_bps", "downlink_bps", "direction"), [(1000, 0, "uplink"), (0, 1000, "downlink"), (-5, 0, "uplink")]
)
def test_a_budget_that_carries_nothing_is_refused_with_the_least(uplink_bps: int, downlink_bps: int, direction: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{direction} budget of .* every 10 s: the least is 4\.4 kbit/s"):
        require_workable(uplink_bps, downlink_bps, 10.0)
