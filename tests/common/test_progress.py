from ams_common.clock import ManualClock
from ams_common.progress import REPORT_INTERVAL_S, Progress


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


def test_the_speed_is_that_of_the_last_interval() -> None:
    clock = ManualClock()
    progress = Progress(100_000, clock)
    assert lines(progress, clock, [40_000] + [1_000] * 9, 1.0) == ["49 of 100 kB at 39 kbit/s, about 10 s to go"]
    assert lines(progress, clock, [1_000] * 10, 1.0) == ["59 of 100 kB at 8 kbit/s, about 41 s to go"]


def test_a_fast_download_needs_no_words() -> None:
    clock = ManualClock()
    assert lines(Progress(50_000, clock), clock, [2_000] * 25, 0.9 * REPORT_INTERVAL_S / 25) == []
