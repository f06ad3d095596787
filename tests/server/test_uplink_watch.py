from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ams_common.budget import TokenBucket, allowance, burst_bytes
from ams_common.clock import ManualClock
from ams_common.errors import ProtocolError
from ams_common.framing import sent_bytes
from ams_common.messages import MAX_BATCH_BYTES
from ams_server.uplink_watch import AHEAD_BYTES, LOWERED_S, MARGIN_BURSTS, UplinkWatch

RATE_BPS = 100_000
MARGIN_BYTES = MARGIN_BURSTS * burst_bytes(RATE_BPS) + AHEAD_BYTES


def ends_after_s(watch: UplinkWatch, clock: ManualClock, rate_bps: float, most_s: int) -> int | None:
    """Send at `rate_bps` once a second; return after how many seconds that is too much, None where it is not in `most_s`."""
    for second in range(most_s):
        clock.sleep(1)
        try:
            watch.take(int(rate_bps / 8))
        except ProtocolError:
            return second + 1
    return None


def test_a_flood_is_told_how_much_came_and_what_is_let_pass() -> None:
    clock = ManualClock()
    watch = UplinkWatch(RATE_BPS, clock)
    clock.sleep(3600)
    watch.take(MARGIN_BYTES)
    clock.sleep(6.5)
    with pytest.raises(ProtocolError) as caught:
        watch.take(2_000_000)
    came, allowed = (MARGIN_BYTES + 2_000_000) / 1000, (MARGIN_BYTES + 6.5 * RATE_BPS / 8) / 1000
    assert str(caught.value) == (
        f"{came:.0f} kB came within 7 s, more than the {allowed:.0f} kB that are let pass with all margin: "
        "the uplink is 100 kbit/s"
    )


def test_what_is_let_pass_is_the_rate_and_the_margin_and_not_a_byte_more() -> None:
    clock = ManualClock()
    watch = UplinkWatch(RATE_BPS, clock)
    watch.take(MARGIN_BYTES)
    clock.sleep(12)
    watch.take(burst_bytes(RATE_BPS))
    with pytest.raises(ProtocolError):
        watch.take(1)


def test_who_keeps_to_the_rate_may_do_so_for_ever_and_who_does_not_is_found() -> None:
    clock = ManualClock()
    assert ends_after_s(UplinkWatch(RATE_BPS, clock), clock, RATE_BPS, 3000) is None
    excess_bytes_a_second = 0.5 * RATE_BPS / 8
    found_s = ends_after_s(UplinkWatch(RATE_BPS, clock), clock, 1.5 * RATE_BPS, 3000)
    assert found_s == pytest.approx(MARGIN_BYTES / excess_bytes_a_second, abs=2)


def test_without_a_limit_nothing_is_too_much() -> None:
    watch = UplinkWatch(0, ManualClock())
    for _ in range(100):
        watch.take(10**9)


def test_a_lower_uplink_counts_when_it_must_have_been_read() -> None:
    clock = ManualClock()
    watch = UplinkWatch(RATE_BPS, clock)
    watch.tell(RATE_BPS // 10)
    assert ends_after_s(watch, clock, RATE_BPS, int(LOWERED_S)) is None
    found_s = ends_after_s(watch, clock, RATE_BPS, 3000)
    assert found_s == pytest.approx(MARGIN_BYTES / (0.9 * RATE_BPS / 8), abs=2)


def test_uplinks_that_change_all_the_time_leave_the_largest_of_the_last_minute() -> None:
    clock = ManualClock()
    watch = UplinkWatch(8 * RATE_BPS, clock)
    for _ in range(20):
        for rate_bps in (RATE_BPS // 2, RATE_BPS):
            watch.tell(rate_bps)
            assert ends_after_s(watch, clock, RATE_BPS, 10) is None
    assert ends_after_s(watch, clock, 8 * RATE_BPS, 3000) is not None


def test_a_higher_uplink_counts_at_once() -> None:
    clock = ManualClock()
    watch = UplinkWatch(RATE_BPS, clock)
    watch.tell(20 * RATE_BPS)
    assert ends_after_s(watch, clock, 20 * RATE_BPS, 3000) is None
    watch.tell(0)
    watch.take(10**9)


def test_what_left_without_a_limit_may_still_come_when_there_is_one() -> None:
    clock = ManualClock()
    watch = UplinkWatch(0, clock)
    watch.tell(8_000)
    clock.sleep(LOWERED_S)
    watch.take(10**9)
    clock.sleep(1)
    for _ in range(4):
        watch.take(sent_bytes(MAX_BATCH_BYTES))
    with pytest.raises(ProtocolError, match="the uplink is 8 kbit/s"):
        watch.take(sent_bytes(MAX_BATCH_BYTES))


class Honest:
    """A device that keeps to its budget, at the far end of a network that holds up whatever it likes in either direction."""

    def __init__(self, rate_bps: int) -> None:
        self.clock = ManualClock()
        self.watch = UplinkWatch(rate_bps, self.clock)
        self._uplink = TokenBucket(allowance(rate_bps), self.clock)
        self._burst_bytes = allowance(rate_bps).burst_bytes
        self._told: deque[tuple[float, int]] = deque()
        self._on_the_way: deque[int] = deque()

    def tell(self, rate_bps: int) -> None:
        self.watch.tell(rate_bps)
        self._told.append((self.clock.now_s(), rate_bps))

    def read(self) -> None:
        if self._told:
            _, rate_bps = self._told.popleft()
            self._uplink.change(allowance(rate_bps))
            self._burst_bytes = allowance(rate_bps).burst_bytes

    def send(self, fraction: float) -> None:
        """Send part of a burst, if the budget has it, and HTTP/2 lets it go."""
        size_bytes = max(1, int(fraction * self._burst_bytes))
        if self._uplink.urgent_wait_s(size_bytes) == 0 and sum(self._on_the_way) <= AHEAD_BYTES:
            self._uplink.spend(size_bytes)
            self._on_the_way.append(size_bytes)

    def deliver(self) -> None:
        while self._on_the_way:
            self.watch.take(self._on_the_way.popleft())

    def sleep(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        while self._told and self.clock.now_s() - self._told[0][0] >= LOWERED_S:
            self.read()


rates_bps = st.sampled_from((5_000, 50_000, 1_000_000, 50_000_000))
steps = st.one_of(
    st.tuples(st.just("tell"), rates_bps),
    st.tuples(st.just("read"), st.none()),
    st.tuples(st.just("send"), st.sampled_from((0.01, 0.3, 0.8, 1.0))),
    st.tuples(st.just("deliver"), st.none()),
    st.tuples(st.just("sleep"), st.sampled_from((0.1, 1.0, 12.0, 60.0, 1000.0))),
)


@settings(max_examples=500)
@given(rates_bps, st.lists(steps, max_size=60))
def test_no_device_that_keeps_to_its_budget_is_ever_wronged(rate_bps: int, steps: list[tuple[str, float | None]]) -> None:
    device = Honest(rate_bps)
    for what, value in steps:
        match what, value:
            case "tell", int():
                device.tell(value)
            case "send", float():
                device.send(value)
            case "sleep", float():
                device.sleep(value)
            case "read", _:
                device.read()
            case _:
                device.deliver()
    device.deliver()
