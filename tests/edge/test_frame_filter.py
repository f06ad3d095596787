from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError

from ams_edge.frame_filter import SETTLING_S, FilterConfig, FrameFilter, View, changed_share

SETTLED_US = round(1e6 * SETTLING_S)
LABELS = np.zeros((10, 10), np.uint8)


def labels_with(changed: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Return LABELS with so many pixels of another class."""
    labels = LABELS.copy()
    labels.reshape(-1)[:changed] = 7
    return labels


def looking(changed: int = 0, learnt_s: float | None = 10_000.0) -> Callable[[], View]:
    learnt_us = None if learnt_s is None else round(1e6 * learnt_s)
    return lambda: View(labels=labels_with(changed), learnt_us=learnt_us)


def settled(skip_below: float = 0.08, longest_skip_s: float = 30.0) -> FrameFilter:
    """Return a filter whose minute is over, and which has let a frame of LABELS through at its end."""
    frame_filter = FrameFilter(FilterConfig(skip_below=skip_below, longest_skip_s=longest_skip_s))
    assert not frame_filter.skips(0, looking())
    assert not frame_filter.skips(SETTLED_US, looking())
    return frame_filter


def after(seconds: float) -> int:
    return SETTLED_US + round(1e6 * seconds)


def test_by_default_no_frame_is_skipped_nor_looked_at() -> None:
    def never() -> View:
        raise AssertionError

    frame_filter = FrameFilter(FilterConfig())
    assert not any(frame_filter.skips(round(1e6 * second), never) for second in range(200))


def test_all_frames_are_sent_until_the_model_has_settled() -> None:
    frame_filter = FrameFilter(FilterConfig(skip_below=0.5))
    start_us = 5_000_000_000
    ticks = [start_us + 1_000_000 * second for second in range(70)]
    sent = [time_us for time_us in ticks if not frame_filter.skips(time_us, looking())]
    # The first one after the minute is what the others are compared with.
    assert sent == [time_us for time_us in ticks if time_us - start_us <= SETTLED_US]


@pytest.mark.parametrize(("changed", "skipped"), [(0, True), (7, True), (8, False), (100, False)])
def test_a_frame_with_less_change_than_the_threshold_is_skipped(changed: int, skipped: bool) -> None:
    assert settled(skip_below=0.08).skips(after(1), looking(changed)) == skipped


def test_frames_are_compared_with_the_one_sent_last_however_slowly_the_scene_changes() -> None:
    frame_filter = settled(skip_below=0.08)
    skipped = [frame_filter.skips(after(step), looking(3 * step)) for step in range(1, 8)]
    assert skipped == [True, True, False, True, True, False, True]


@pytest.mark.parametrize("learnt_s", [None, SETTLING_S - 0.001])
def test_a_model_that_has_not_learnt_from_the_frame_sent_last_does_not_judge(learnt_s: float | None) -> None:
    frame_filter = settled()
    assert not frame_filter.skips(after(1), looking(learnt_s=learnt_s))
    # What was let through so is the new frame sent last.
    assert not frame_filter.skips(after(2), looking(learnt_s=SETTLING_S))
    assert frame_filter.skips(after(3), looking(learnt_s=SETTLING_S + 2))


def test_no_silence_is_longer_than_the_longest() -> None:
    frame_filter = settled(longest_skip_s=30.0)
    sent = [second for second in range(1, 95) if not frame_filter.skips(after(second), looking())]
    assert sent == [30, 60, 90]


def test_labels_that_are_changed_afterwards_do_not_count() -> None:
    frame_filter = FrameFilter(FilterConfig(skip_below=0.08))
    labels = LABELS.copy()
    assert not frame_filter.skips(0, looking())
    assert not frame_filter.skips(SETTLED_US, lambda: View(labels=labels, learnt_us=10**12))
    labels[:] = 7
    assert frame_filter.skips(after(1), looking())


def test_the_share_that_changed() -> None:
    assert changed_share(LABELS, labels_with(25)) == 0.25
    assert changed_share(LABELS, LABELS) == 0.0
    assert changed_share(LABELS, np.zeros((10, 12), np.uint8)) == 1.0


@pytest.mark.parametrize("changes", [{"skip_below": -0.1}, {"skip_below": 1.1}, {"longest_skip_s": 0}, {"longest_skip_s": 1e9}])
def test_shares_and_seconds_are_checked(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        FilterConfig.model_validate(changes)
