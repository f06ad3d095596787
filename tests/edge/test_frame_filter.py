import tracemalloc
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ams_common.classes import UInt8Array
from ams_edge import frame_filter
from ams_edge.frame_filter import KEPT_BYTES, SETTLING_S, FilterConfig, FrameFilter, View

LABELS = np.zeros((10, 10), np.uint8)
LATER_S = 10_000.0


def labels_with(changed: int) -> UInt8Array:
    """Return LABELS with so many pixels of another class."""
    labels = LABELS.copy()
    labels.reshape(-1)[:changed] = 7
    return labels


def looking(changed: int = 0, learnt_s: float | None = LATER_S) -> Callable[[], View]:
    learnt_us = None if learnt_s is None else round(1e6 * learnt_s)
    return lambda: View(labels=labels_with(changed), learnt_us=learnt_us)


class Filtering:
    """A filter that is asked in seconds, once a second."""

    def __init__(self, skip_below: float = 0.08, longest_skip_s: float = 30.0) -> None:
        self.filter = FrameFilter(FilterConfig(skip_below=skip_below, longest_skip_s=longest_skip_s))

    def skips(self, time_s: float, changed: int = 0, learnt_s: float | None = LATER_S, period_s: float = 1.0) -> bool:
        return self.filter.skips(round(1e6 * time_s), period_s, looking(changed, learnt_s))


def settled(skip_below: float = 0.08, longest_skip_s: float = 30.0) -> Filtering:
    """Return a filter whose minute is over at 0 s, and which has just let a frame of LABELS through."""
    filtering = Filtering(skip_below, longest_skip_s)
    assert not filtering.skips(-SETTLING_S, changed=100)
    assert not filtering.skips(-0.001)
    return filtering


def test_by_default_no_frame_is_skipped_nor_looked_at() -> None:
    def never() -> View:
        raise AssertionError

    filtering = FrameFilter(FilterConfig())
    assert not any(filtering.skips(round(1e6 * second), 1.0, never) for second in range(200))


def test_all_frames_are_sent_for_a_minute_from_when_the_model_has_first_learnt() -> None:
    filtering = Filtering(skip_below=0.5, longest_skip_s=1000.0)
    assert [filtering.skips(5000 + second, learnt_s=None) for second in range(100)] == [False] * 100
    sent = [second for second in range(90) if not filtering.skips(5100 + second)]
    assert sent == list(range(int(SETTLING_S)))


def test_after_a_new_start_of_the_learning_the_minute_counts_again() -> None:
    filtering = settled(longest_skip_s=1000.0)
    assert filtering.skips(1)
    assert not filtering.skips(2, learnt_s=None)
    assert [filtering.skips(3 + second) for second in range(63)] == [False] * 60 + [True] * 3


@pytest.mark.parametrize(("changed", "skipped"), [(0, True), (7, True), (8, False), (100, False)])
def test_a_frame_with_less_change_than_the_threshold_is_skipped(changed: int, skipped: bool) -> None:
    assert settled(skip_below=0.08).skips(1, changed) == skipped


def test_frames_are_compared_with_one_that_was_sent_however_slowly_the_scene_changes() -> None:
    filtering = settled(skip_below=0.08)
    skipped = [filtering.skips(step, 3 * step) for step in range(1, 8)]
    assert skipped == [True, True, False, True, True, False, True]


@pytest.mark.parametrize("learnt_s", [None, -100.0])
def test_a_model_that_has_learnt_from_no_frame_sent_since_does_not_judge(learnt_s: float | None) -> None:
    filtering = Filtering()
    filtering.skips(-SETTLING_S - 1, learnt_s=-1000.0)
    assert not filtering.skips(-0.001, learnt_s=learnt_s)
    assert not filtering.skips(1, learnt_s=learnt_s)


@pytest.mark.parametrize("delay_s", [0.5, 3.0, 12.0])
def test_updates_that_come_late_are_no_reason_to_send_what_is_known(delay_s: float) -> None:
    filtering = settled()
    sent = [second for second in range(1, 200) if not filtering.skips(second, learnt_s=second - delay_s)]
    assert len(sent) <= delay_s + 200 / 29


def test_what_is_new_is_sent_until_it_is_learnt() -> None:
    filtering = settled()
    new = [filtering.skips(1 + second, changed=50, learnt_s=0.5) for second in range(5)]
    assert new == [False] * 5
    # The model has learnt the first three of them, then the scene is as it was before.
    assert filtering.skips(6, changed=50, learnt_s=3)
    assert not filtering.skips(7, changed=0, learnt_s=3)


def test_a_model_that_has_gone_back_does_not_know_what_a_later_one_had_learnt() -> None:
    filtering = settled()
    assert filtering.skips(1, learnt_s=0)
    assert not filtering.skips(2, learnt_s=-100)


@given(st.floats(0.5, 60.0), st.floats(1.0, 100.0), st.floats(0.0, 0.05), st.randoms(use_true_random=False))
def test_silences_are_as_long_as_allowed_give_or_take_half_a_period(
    period_s: float, longest_s: float, jitter: float, random: Random
) -> None:
    filtering = settled(longest_skip_s=longest_s)
    count = 10 + round(3 * longest_s / period_s)
    times_s = [period_s * (index + random.uniform(-jitter, jitter)) for index in range(1, count)]
    sent = [0.0] + [time_s for time_s in times_s if not filtering.skips(time_s, period_s=period_s)]
    silences_s = np.diff(sent)
    slack_s = (0.5 + 2 * jitter) * period_s
    assert silences_s.max() <= max(longest_s, 0.5 * period_s) + slack_s + 0.01
    assert (silences_s >= longest_s - slack_s - 0.01).all()


def test_labels_that_are_changed_afterwards_do_not_count() -> None:
    filtering = settled()
    labels = labels_with(50)
    assert not filtering.filter.skips(1_000_000, 1.0, lambda: View(labels=labels, learnt_us=10**12))
    labels[:] = 7
    assert filtering.skips(2, changed=50)


def test_few_label_maps_are_kept_while_nothing_is_learnt() -> None:
    large = np.zeros((2048, 2048), np.uint8)
    filtering = FrameFilter(FilterConfig(skip_below=0.08))
    tracemalloc.start()
    for second in range(12):
        filtering.skips(1_000_000 * second, 1.0, lambda: View(labels=large, learnt_us=0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < KEPT_BYTES + 3 * large.nbytes


def test_where_too_many_are_not_learnt_frames_are_compared_with_the_last_that_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_filter, "KEPT_BYTES", 3 * LABELS.nbytes)
    filtering = settled(longest_skip_s=1000.0)
    assert filtering.skips(0, learnt_s=0)
    assert [filtering.skips(second, changed=50, learnt_s=0) for second in range(1, 9)] == [False] * 8
    # The maps of 1 to 5 s are gone: at 3 s of learning the newest known is that before them.
    assert filtering.skips(9, changed=0, learnt_s=3)
    assert not filtering.skips(10, changed=0, learnt_s=8)
    assert filtering.skips(11, changed=50, learnt_s=8)


def test_labels_of_another_size_are_not_compared() -> None:
    filtering = settled(skip_below=1.0)
    larger = View(labels=np.zeros((10, 12), np.uint8), learnt_us=round(1e6 * LATER_S))
    assert not filtering.filter.skips(1_000_000, 1.0, lambda: larger)


@pytest.mark.parametrize("changes", [{"skip_below": -0.1}, {"skip_below": 1.1}, {"longest_skip_s": 0}, {"longest_skip_s": 1e9}])
def test_shares_and_seconds_are_checked(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        FilterConfig.model_validate(changes)
