import re

import pytest

from ams_common.budget import TokenBucket, allowance, model_bps
from ams_common.clock import ManualClock
from ams_common.framing import sent_bytes
from ams_common.progress import REPORT_INTERVAL_S, Progress, download_time
from ams_common.session.greeting import chunk_size


def lines(progress: Progress, clock: ManualClock, chunks: list[int], pause_s: float) -> list[str]:
    told: list[str] = []
    for chunk in chunks:
        clock.sleep(pause_s)
        if (line := progress.add(chunk)) is not None:
            told.append(line)
    return told


def test_a_slow_download_is_told_at_intervals_with_its_speed_and_its_end() -> None:
    clock = ManualClock()
    told = lines(Progress(50_000, clock), clock, [2_000] * 25, 1.0)
    assert told == [
        "20 of 50 kB at 16 kbit/s, about 15 s to go",
        "40 of 50 kB at 16 kbit/s, about 5 s to go",
        "50 kB in 25 s",
    ]


def test_the_speed_is_that_of_the_last_seconds() -> None:
    clock = ManualClock()
    progress = Progress(100_000, clock)
    assert lines(progress, clock, [40_000] + [1_000] * 9, 1.0) == ["49 of 100 kB at 8 kbit/s, about 51 s to go"]
    assert lines(progress, clock, [2_000] * 10, 1.0) == ["69 of 100 kB at 16 kbit/s, about 16 s to go"]


@pytest.mark.parametrize(("size_bytes", "rate_bps"), [(163_000, 6_000), (1_754_000, 100_000), (163_000, 3_000)])
def test_what_is_to_go_is_right_from_the_first_line_on_however_large_the_burst(size_bytes: int, rate_bps: int) -> None:
    clock = ManualClock()
    progress, bucket = Progress(size_bytes, clock), TokenBucket(allowance(rate_bps), clock)
    told: list[tuple[float, float]] = []
    left_bytes = size_bytes
    while left_bytes:
        chunk = min(left_bytes, chunk_size(rate_bps))
        while (wait_s := bucket.wait_s(sent_bytes(chunk))) > 0:
            clock.sleep(wait_s)
        bucket.spend(sent_bytes(chunk))
        left_bytes -= chunk
        line = progress.add(chunk)
        if line is not None and (match := re.search(r"about (\d+) s to go", line)):
            told.append((clock.now_s(), float(match[1])))
    assert len(told) > 10
    for at_s, left_s in told:
        assert left_s == pytest.approx(clock.now_s() - at_s, rel=0.2, abs=3.0)


def test_a_fast_download_needs_no_words() -> None:
    clock = ManualClock()
    assert lines(Progress(50_000, clock), clock, [2_000] * 25, 0.9 * REPORT_INTERVAL_S / 25) == []


def test_a_download_at_the_rate_that_is_told_takes_the_time_that_is_told() -> None:
    seconds = 8 * 1_870_000 / model_bps(200_000, 25_000)
    assert download_time(1_870_000, 200_000, 25_000) == f", up to {seconds:.0f} s at 25 kbit/s with pictures going up"
    assert 850 < seconds < 950
    assert download_time(1_870_000, 200_000, 0) == ""
