from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.errors import ConfigurationError
from ams_eval.replay.link import Capacity, Link, LinkShape, capacity_of_rates, parse_link, read_trace
from ams_eval.replay.timeline import Timeline, VirtualClock


def down(text: str) -> Capacity:
    capacity = parse_link(text).down
    assert capacity is not None
    return capacity


def trace(folder: Path, text: str) -> Path:
    path = folder / "trace.txt"
    path.write_text(text, encoding="ascii")
    return path


def test_a_rate_carries_its_bits() -> None:
    capacity = down("300kbit")
    assert capacity.finish_s(0.0, 37_500) == pytest.approx(1.0)
    assert capacity.finish_s(100.0, 3_750) == pytest.approx(100.1)
    assert capacity.finish_s(5.0, 0) == 5.0
    assert down("1.5mbit").finish_s(2.0, 187_500) == pytest.approx(3.0)
    assert down("1gbit").finish_s(0.0, 125_000_000) == pytest.approx(1.0)


def test_nothing_goes_in_an_outage() -> None:
    capacity = down("80kbit,outage=10-15,outage=2-3")
    assert capacity.finish_s(0.0, 10_000) == pytest.approx(1.0)
    assert capacity.finish_s(1.5, 10_000) == pytest.approx(3.5)
    assert capacity.finish_s(2.5, 10_000) == pytest.approx(4.0)
    assert capacity.finish_s(0.0, 100_000) == pytest.approx(16.0)
    assert capacity.finish_s(12.0, 1) == pytest.approx(15.0001)
    assert capacity.finish_s(20.0, 10_000) == pytest.approx(21.0)


def test_an_outage_needs_no_rate() -> None:
    shape = parse_link("outage=4-6")
    assert shape.up is not None
    assert shape.up.finish_s(1.0, 1_000_000) == pytest.approx(1.0, abs=1e-4)
    assert shape.up.finish_s(5.0, 1_000_000) == pytest.approx(6.0, abs=1e-4)


def test_directions_and_delays() -> None:
    assert parse_link("") == LinkShape()
    assert parse_link("50ms") == LinkShape(delay_s=0.05)
    shape = parse_link("up=100kbit, down=1mbit, 12.5ms")
    assert shape.up is not None
    assert shape.down is not None
    assert shape.delay_s == 0.0125
    assert shape.up.finish_s(0, 12_500) == pytest.approx(1)
    assert shape.down.finish_s(0, 125_000) == pytest.approx(1)
    assert parse_link("up=100kbit").down is None


def test_a_table_of_seconds_and_rates_repeats_itself(tmp_path: Path) -> None:
    path = trace(tmp_path, "# time rate\n10 80\n12, 160\n13 0\n14 999\n")
    capacity = down(str(path))
    # 20 kB in two seconds, 20 kB in one, nothing in one: 40 kB in 4 s.
    assert capacity.finish_s(0.0, 10_000) == pytest.approx(1.0)
    assert capacity.finish_s(0.0, 30_000) == pytest.approx(2.5)
    assert capacity.finish_s(0.0, 40_000) == pytest.approx(3.0)
    assert capacity.finish_s(3.5, 10_000) == pytest.approx(5.0)
    assert capacity.finish_s(400.0, 110_000) == pytest.approx(410.5)


def test_a_mahimahi_trace_carries_a_packet_at_each_time(tmp_path: Path) -> None:
    capacity = read_trace(trace(tmp_path, "10\n20\n20\n40\n"))
    assert capacity.finish_s(0.0, 1500) == pytest.approx(0.010)
    assert capacity.finish_s(0.0, 4500) == pytest.approx(0.020)
    assert capacity.finish_s(0.0, 6000) == pytest.approx(0.040)
    assert capacity.finish_s(0.0, 7500) == pytest.approx(0.050)
    assert capacity.finish_s(4.0, 6_000) == pytest.approx(4.040)


@pytest.mark.parametrize("repeats", [False, True])
@given(
    rates=st.lists(st.floats(0, 1e6), min_size=1, max_size=6),
    starts=st.tuples(st.floats(0, 50), st.floats(0, 50)),
    sizes=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
)
def test_later_and_longer_messages_never_arrive_earlier(
    repeats: bool, rates: list[float], starts: tuple[float, float], sizes: tuple[int, int]
) -> None:
    made = capacity_of_rates([float(index) for index in range(len(rates) + 1)], [*rates, 1000.0])
    capacity = Capacity(times_s=made.times_s, bits=made.bits, repeats=repeats)
    early, late = sorted(starts)
    small, large = sorted(sizes)
    slack = 1e-6
    assert capacity.finish_s(early, small) >= early
    assert capacity.finish_s(early, small) <= capacity.finish_s(early, large) + slack
    assert capacity.finish_s(early, large) <= capacity.finish_s(late, large) + slack


@given(st.text(max_size=30))
def test_any_text_is_a_link_or_refused(text: str) -> None:
    with suppress(ConfigurationError):
        assert parse_link(text).delay_s >= 0


@given(st.binary(max_size=60))
def test_any_file_is_a_trace_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("traces") / "trace"
    path.write_bytes(content)
    with suppress(ConfigurationError):
        assert np.isfinite(read_trace(path).finish_s(0.0, 1000))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0kbit", "a link of 0kbit never carries anything"),
        ("fast", "unknown link 'fast': neither a rate such as 300kbit nor a readable trace"),
        ("80kbit,outage=5-4", "outage=5-4 ends before it starts, or overlaps another one"),
        ("80kbit,outage=1-3,outage=2-4", "outage=2-4 ends before it starts, or overlaps another one"),
        ("trace.txt,outage=1-3", "outages go with a rate such as 300kbit; a trace like 'trace.txt' has its own"),
        ("sideways=80kbit", "unknown link 'sideways=80kbit'"),
    ],
)
def test_what_is_no_link_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_link(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 2\n3\n", "is no table of numbers"),
        ("a b\n", "is no table of numbers"),
        ("1 2 3\n", "has neither one nor two columns"),
        ("1 -2\n2 3\n", "has neither one nor two columns of numbers from 0 up"),
        ("1 nan\n2 3\n", "has neither one nor two columns of numbers from 0 up"),
        ("", "has neither one nor two columns"),
        ("2 5\n1 5\n", "do not ascend, or it never carries anything"),
        ("0 0\n9 5\n", "do not ascend, or it never carries anything"),
        ("0\n", "do not ascend, or it never carries anything"),
        ("30\n20\n", "do not ascend"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_trace(trace(tmp_path, content))


def test_a_trace_of_any_length_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ams_eval.replay.link.MOST_TRACE_BYTES", 10)
    with pytest.raises(ConfigurationError, match="is longer than"):
        read_trace(trace(tmp_path, "0 1\n" * 9))


def test_messages_go_one_after_the_other() -> None:
    timeline = Timeline(VirtualClock(None))
    link = Link(timeline, down("80kbit"), 0.25)
    arrived: list[float] = []
    assert link.send(10_000, lambda: arrived.append(timeline.now_s)) == pytest.approx(1.0)
    assert link.send(5_000, lambda: arrived.append(timeline.now_s)) == pytest.approx(1.5)
    timeline.run_until(1.2)
    assert arrived == []
    timeline.run_until(9.0)
    assert arrived == pytest.approx([1.25, 1.75])
    assert link.send(10_000, lambda: None) == pytest.approx(10.0)


def test_a_link_without_a_limit_takes_only_its_delay() -> None:
    timeline = Timeline(VirtualClock(None))
    link = Link(timeline, None, 0.1)
    arrived: list[float] = []
    assert link.send(10**9, lambda: arrived.append(timeline.now_s)) == 0.0
    timeline.run_until(1.0)
    assert arrived == [0.1]
