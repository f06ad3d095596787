import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score  # type: ignore[import-untyped]
from tests.evaluation.outcomes import outcome, transfer, update

from ams_common.errors import ConfigurationError
from ams_common.iou import confusion_matrix, mean_iou
from ams_eval import metrics
from ams_eval.metrics import Quality, Size, Spread
from ams_eval.outcome import Outcome
from ams_eval.scores import Score

# Confusions of two classes.
RIGHT = [[4, 0], [0, 4]]
HALF = [[2, 2], [0, 4]]  # IoU 2/4 and 4/6, mean 7/12
EMPTY = [[0, 0], [0, 0]]


def scored(matrices: list[list[list[int]]], period_s: float = 1.0) -> Score:
    return Score(times_s=np.arange(len(matrices), dtype=np.float64) * period_s, matrices=np.array(matrices, np.int64))


def bare(score: Score, **changes: object) -> Outcome:
    """Return an outcome with that score against the teacher and nothing else but `changes`."""
    frames = len(score.times_s)
    empty: dict[str, object] = {"transfers": (), "updates": (), "controls": ()}
    return replace(
        outcome(),
        classes=tuple("abc"[: score.matrices.shape[1]]),
        teacher=score,
        human=None,
        versions=np.zeros(frames, np.int64),
        model_age_s=np.full(frames, math.nan),
        **(empty | changes),  # type: ignore[arg-type]
    )


def test_the_three_aggregates_by_hand() -> None:
    # Frames 20 s apart, so each window holds one frame; the sum is [[6, 2], [0, 8]]: IoU 6/8 and 8/10.
    found = metrics.quality(scored([RIGHT, HALF, EMPTY], 20.0))
    assert found.frames == 3
    assert found.frame_mean == pytest.approx((1 + 7 / 12) / 2)
    assert found.summed == pytest.approx((6 / 8 + 8 / 10) / 2)
    assert found.window_mean == pytest.approx((1 + 7 / 12) / 2)


def test_windows_overlap() -> None:
    # Frames 4 s apart: windows of 10 s hold a frame and its neighbours.
    # [R H], [R H H], [H H] with sums [[6,2],[0,8]], [[8,4],[0,12]], [[4,4],[0,8]].
    found = metrics.quality(scored([RIGHT, HALF, HALF], 4.0)).window_mean
    assert found == pytest.approx(((6 / 8 + 8 / 10) + (8 / 12 + 12 / 16) + (4 / 8 + 8 / 12)) / 2 / 3)


def test_only_frames_after_the_first_seconds_count_where_asked() -> None:
    score = scored([HALF, RIGHT, RIGHT], 200.0)
    assert metrics.quality(score, from_s=200.0) == Quality(2, 1.0, 1.0, 1.0)
    short = metrics.quality(score, from_s=600.0)
    assert short.frames == 0
    assert all(map(math.isnan, short[1:]))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 6))
def test_the_mean_of_a_confusion_is_that_of_scikit_learn(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    reference, predicted = random.integers(0, classes, (2, 40), dtype=np.uint8)
    occurring = sorted(set(reference.tolist()) | set(predicted.tolist()))
    expected = jaccard_score(reference, predicted, labels=occurring, average="macro")
    assert mean_iou(confusion_matrix(reference, predicted, classes)) == pytest.approx(expected)


def test_the_last_frame_lasts_as_long_as_the_others() -> None:
    assert metrics.duration_s(bare(scored([RIGHT] * 5, 0.5))) == pytest.approx(2.5)
    assert math.isnan(metrics.duration_s(bare(scored([RIGHT]))))


def test_rates_in_both_units() -> None:
    assert metrics.kbps(25_000, 2.0) == pytest.approx(100.0)
    assert metrics.paper_kbps(25_600, 2.0) == pytest.approx(100.0)


SENT = (
    transfer(-3.0, "down", "model", 50_000),
    transfer(0.2, "up", "frames", 1000),
    transfer(0.9, "up", "control", 10),
    transfer(1.0, "up", "frames", 500),
    transfer(2.5, "down", "update", 2000),
    transfer(9.0, "down", "control", 125),
)


def test_traffic_by_direction_and_kind() -> None:
    found = metrics.traffic(bare(scored([RIGHT] * 4), transfers=SENT))
    assert found == {
        ("down", "model"): Size(50_000, 50_100),
        ("up", "frames"): Size(1500, 1700),
        ("up", "control"): Size(10, 110),
        ("down", "update"): Size(2000, 2100),
        ("down", "control"): Size(125, 225),
    }


def test_the_first_model_is_no_running_traffic() -> None:
    of = bare(scored([RIGHT] * 4), transfers=SENT)
    assert metrics.running_traffic(of, "up") == Size(1510, 1810)
    assert metrics.running_traffic(of, "down") == Size(2125, 2325)


def test_traffic_by_second() -> None:
    of = bare(scored([RIGHT] * 4), transfers=SENT)
    assert metrics.kbit_per_second(of, "up").tolist() == pytest.approx([8.08, 4.0, 0.0, 0.0])
    # What is sent after the last frame counts in the last second, so nothing is lost from the sum.
    assert metrics.kbit_per_second(of, "down").tolist() == pytest.approx([0.0, 0.0, 16.0, 1.0])
    assert metrics.kbit_per_second(bare(scored([RIGHT])), "up").tolist() == [0.0]


def test_steering_holds_until_the_next_order() -> None:
    of = outcome(frames=20)  # orders at 0 s and 8 s, frames every 0.5 s
    rates_hz, intervals_s = metrics.steering(of)
    assert rates_hz.tolist() == [1.0] * 16 + [0.5] * 4
    assert metrics.spread(intervals_s).mean == pytest.approx((16 * 5 + 4 * 7) / 20)
    assert np.isnan(metrics.steering(outcome("none"))[0]).all()


def test_mean_and_95th_percentile_leave_the_unknown_out() -> None:
    assert metrics.spread([math.nan, *range(101)]) == Spread(50.0, 95.0)
    assert all(map(math.isnan, metrics.spread([math.nan])))


def test_gain_frame_by_frame() -> None:
    adapted, base = bare(scored([RIGHT, HALF, HALF, EMPTY])), bare(scored([HALF, HALF, RIGHT, EMPTY]))
    gain = metrics.frame_gain(adapted, base)
    assert gain[:3].tolist() == pytest.approx([5 / 12, 0.0, -5 / 12])
    assert metrics.share_better(gain) == pytest.approx(1 / 3)
    values, shares = metrics.cumulative(gain)
    assert values.tolist() == pytest.approx([-5 / 12, 0.0, 5 / 12])
    assert shares.tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_no_gain_between_different_frames() -> None:
    with pytest.raises(ConfigurationError, match="different frames"):
        metrics.frame_gain(bare(scored([RIGHT] * 3)), bare(scored([RIGHT] * 2)))
    assert math.isnan(metrics.share_better(np.array([math.nan])))


def test_effort_by_windows() -> None:
    updates = (update(1, 5.0), update(2, 29.9, steps=10), update(3, 30.0, steps=5), update(4, 99.0, steps=1))
    found = metrics.effort(bare(scored([RIGHT] * 61), updates=updates))
    assert found.starts_s.tolist() == [0.0, 30.0, 60.0]
    assert found.steps.tolist() == [30.0, 5.0, 1.0]
    assert found.change.tolist() == [0.5, 0.25, 0.25]
    assert metrics.effort(bare(scored([RIGHT]))).steps.tolist() == [0.0]


def test_latency_by_parts() -> None:
    of = bare(scored([RIGHT] * 4), updates=(update(1, 5.0), replace(update(2, 9.0), train_s=2.0, newest_capture_s=5.0)))
    parts = metrics.latency_parts(of)
    assert parts == pytest.approx(
        {"wait": 0, "encode": 0.1, "upload": 0, "queue": 0, "label": 0.3, "train": 1.5, "code": 0, "download": 0.1, "build": 0}
    )
    assert metrics.update_latency(of).mean == pytest.approx((1.5 + 4.0) / 2)
    assert math.isnan(metrics.latency_parts(bare(scored([RIGHT])))["train"])
