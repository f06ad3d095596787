import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.classes import UInt8Array
from ams_eval.scores import Comparison, Score, ScoreBuilder, at_size_of, evenly_spaced


def labels(*rows: list[int]) -> UInt8Array:
    return np.array(rows, np.uint8)


REFERENCE = labels([0, 0], [1, 1])
HALF_RIGHT = labels([0, 1], [1, 1])  # IoU 1/2 and 2/3
WRONG = labels([1, 1], [0, 0])


def score_of(*predictions: UInt8Array, times_s: list[float] | None = None) -> Score:
    builder = ScoreBuilder(2)
    for index, predicted in enumerate(predictions):
        builder.add(times_s[index] if times_s else float(index), REFERENCE, predicted)
    return builder.build()


def test_one_frame_scores_the_mean_iou_of_its_classes() -> None:
    score = score_of(HALF_RIGHT)
    assert score.class_iou() == pytest.approx([1 / 2, 2 / 3])
    assert score.miou() == pytest.approx(7 / 12)
    assert score.mean_frame_miou() == pytest.approx(7 / 12)


def test_a_recording_scores_its_summed_confusion_not_the_mean_of_its_frames() -> None:
    score = score_of(REFERENCE, WRONG)
    # Each class: 2 of 2 pixels, then 0 of 4.
    assert score.miou() == pytest.approx(2 / 6)
    assert score.frame_miou() == pytest.approx([1.0, 0.0])
    assert score.mean_frame_miou() == pytest.approx(1 / 2)


def test_a_window_holds_the_frames_at_most_half_of_it_away() -> None:
    score = score_of(REFERENCE, WRONG, REFERENCE, times_s=[0.0, 4.0, 9.0])
    # Windows: {0, 4}, {0, 4, 9}, {4, 9}.
    assert score.windowed_miou(10.0) == pytest.approx([2 / 6, 4 / 8, 2 / 6])
    assert score.windowed_miou(1.0) == pytest.approx(score.frame_miou())


def test_a_window_border_belongs_to_the_window() -> None:
    score = score_of(REFERENCE, WRONG, times_s=[0.0, 5.0])
    assert score.windowed_miou(10.0) == pytest.approx([2 / 6, 2 / 6])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12).map(sorted))
def test_a_window_wider_than_the_recording_gives_its_whole_score(times_s: list[float]) -> None:
    predictions = [(REFERENCE, WRONG, HALF_RIGHT)[index % 3] for index in range(len(times_s))]
    score = score_of(*predictions, times_s=times_s)
    assert score.windowed_miou(1000.0) == pytest.approx([score.miou()] * len(times_s))


def test_frames_between_two_times_include_the_first_time_only() -> None:
    score = score_of(REFERENCE, WRONG, REFERENCE)
    assert score.between(0.0, 1.0).miou() == 1.0
    assert score.between(1.0, 2.0).miou() == 0.0


def test_pixels_without_a_label_do_not_count() -> None:
    builder = ScoreBuilder(2)
    builder.add(0.0, labels([0, 255], [1, 255]), labels([0, 1], [1, 0]))
    assert builder.build().miou() == 1.0


def test_frames_without_any_label_have_no_score_and_no_part_in_the_mean() -> None:
    builder = ScoreBuilder(2)
    builder.add(0.0, np.full((2, 2), 255, np.uint8), REFERENCE)
    builder.add(1.0, REFERENCE, REFERENCE)
    score = builder.build()
    assert math.isnan(score.frame_miou()[0])
    assert score.mean_frame_miou() == 1.0


def test_no_frames_have_no_score() -> None:
    score = ScoreBuilder(3).build()
    assert score.matrices.shape == (0, 3, 3)
    assert math.isnan(score.miou())
    assert math.isnan(score.mean_frame_miou())
    assert score.windowed_miou().shape == (0,)


def test_small_predictions_are_read_by_the_nearest_pixel() -> None:
    small, large = labels([0, 1]), np.zeros((2, 4), np.uint8)
    assert at_size_of(large, small).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    builder = ScoreBuilder(2)
    matrix = builder.add(0.0, labels([0, 0, 1, 1], [0, 0, 1, 0]), small)
    assert matrix.tolist() == [[4, 1], [0, 3]]


def test_the_gain_is_what_adaptation_adds() -> None:
    comparison = Comparison(without=score_of(WRONG, REFERENCE), adapted=score_of(REFERENCE, REFERENCE))
    assert comparison.gain() == pytest.approx(1 - 2 / 6)
    assert comparison.frame_gain() == pytest.approx([1.0, 0.0])


def test_frames_are_chosen_evenly_in_time() -> None:
    ten_fps = [index / 10 for index in range(21)]
    assert evenly_spaced(ten_fps, per_second=2, most=100) == [0, 5, 10, 15, 20]


def test_a_gap_in_the_frames_leaves_its_slots_empty() -> None:
    assert evenly_spaced([0.0, 0.1, 3.3, 3.4, 3.6], per_second=2, most=100) == [0, 2, 4]


def test_a_long_recording_is_chosen_from_more_sparsely() -> None:
    times_s = [float(index) for index in range(1001)]
    chosen = evenly_spaced(times_s, per_second=2, most=10)
    assert chosen == list(range(0, 1001, 100))


def test_nothing_is_chosen_from_nothing() -> None:
    assert evenly_spaced([], per_second=2, most=10) == []
