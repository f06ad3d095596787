import pytest

from ams_common.budget import Allowance, TokenBucket
from ams_eval.replay.link import Link, parse_link
from ams_eval.replay.sending import PacedSender
from ams_eval.replay.timeline import Timeline, VirtualClock


class Road:
    """A sender with records of what it sent and what arrived."""

    def __init__(self, link: str = "", rate_bps: int = 0, burst_bytes: int = 1) -> None:
        self.timeline = Timeline(VirtualClock(None))
        self.bucket = TokenBucket(Allowance(bps=rate_bps, burst_bytes=burst_bytes), self.timeline.clock)
        shape = parse_link(link)
        self.sent: list[tuple[str, float]] = []
        self.arrived: list[tuple[str, float]] = []
        self.sender = PacedSender[str](
            self.timeline,
            Link(self.timeline, shape.up, shape.delay_s),
            on_sent=lambda name, time_s: self.sent.append((name, time_s)),
            on_arrival=lambda name: self.arrived.append((name, self.timeline.now_s)),
        )

    def send(self, name: str, size_bytes: int, *, large: bool = True) -> None:
        self.sender.send(name, size_bytes, self.bucket, large=large)


def names_of(events: list[tuple[str, float]]) -> list[str]:
    return [name for name, _ in events]


def times_of(events: list[tuple[str, float]]) -> list[float]:
    return [time_s for _, time_s in events]


def test_without_limits_all_arrives_at_once() -> None:
    road = Road()
    road.send("a", 10**6)
    assert road.sender.backlog == 0
    road.timeline.run_until(0.0)
    assert road.sent == road.arrived == [("a", 0.0)]


def test_a_budget_spaces_large_messages() -> None:
    road = Road(rate_bps=8000, burst_bytes=2000)
    for name in "abc":
        road.send(name, 2000)
    assert road.sender.backlog == 2
    road.timeline.run_until(10.0)
    assert names_of(road.arrived) == ["a", "b", "c"]
    assert times_of(road.arrived) == pytest.approx([0.0, 2.0, 4.0])
    assert road.sender.backlog == 0


def test_small_messages_overtake_and_are_paid_for() -> None:
    road = Road(rate_bps=8000, burst_bytes=1000)
    road.send("large", 1000)
    road.send("next", 1000)
    road.timeline.run_until(0.5)
    road.send("small", 500, large=False)
    road.timeline.run_until(10.0)
    assert names_of(road.arrived) == ["large", "small", "next"]
    assert times_of(road.arrived) == pytest.approx([0.0, 0.5, 1.5])


def test_messages_wait_for_the_link_and_small_ones_do_not_interrupt() -> None:
    road = Road("80kbit,100ms")
    road.send("a", 10_000)
    road.send("b", 10_000)
    road.send("small", 1000, large=False)
    road.timeline.run_until(10.0)
    assert names_of(road.sent) == names_of(road.arrived) == ["a", "small", "b"]
    assert times_of(road.sent) == pytest.approx([1.0, 1.1, 2.1])
    assert times_of(road.arrived) == pytest.approx([1.1, 1.2, 2.2])
