import numpy as np
import pytest
from tests.evaluation.outcomes import score_of

from ams_common.iou import mean_iou
from ams_eval.bootstrap import Interval, block_sums, comparable, interval, resampled_differences
from ams_eval.scores import Score


def generator() -> np.random.Generator:
    return np.random.default_rng(5)


def test_blocks_are_of_time_and_hold_all_frames() -> None:
    # Frames every 0.5 s from 3 s on with a gap: blocks of 2 s from the first frame, one of them empty.
    score = score_of([0.8] * 10)
    times_s = np.array([3.0, 3.5, 4.0, 4.5, 5.0, 9.0, 9.5, 10.0, 10.5, 11.0])
    gapped = Score(times_s=times_s, matrices=score.matrices)
    sums = block_sums([gapped, gapped], 2.0)
    expected = [score.matrices[:4], score.matrices[4:5], score.matrices[5:9], score.matrices[9:]]
    np.testing.assert_array_equal(sums, [2 * each.sum(axis=0) for each in expected])
    assert block_sums([score.between(99, 100)], 2.0).shape == (0, 3, 3)


def test_resampling_draws_whole_blocks_and_the_same_for_both() -> None:
    first, second = (block_sums([score_of(shares, seed=1)], 5.0) for shares in ([0.5] * 40, [0.9] * 40))
    found = resampled_differences(first, second, resamples=50, generator=generator())
    drawn = generator().multinomial(4, [0.25] * 4, size=50)
    by_hand = [
        mean_iou((counts[:, None, None] * second).sum(axis=0)) - mean_iou((counts[:, None, None] * first).sum(axis=0))
        for counts in drawn
    ]
    assert found.tolist() == pytest.approx(by_hand)
    assert resampled_differences(first, first, resamples=50, generator=generator()).tolist() == [0.0] * 50


def test_classes_that_a_draw_does_not_hold_do_not_count() -> None:
    blocks = np.zeros((2, 2, 2), np.int64)
    blocks[0, 0, 0] = blocks[1, 1, 1] = 5
    found = resampled_differences(blocks, np.zeros_like(blocks), resamples=20, generator=generator())
    assert np.isnan(found).all()
    assert np.unique(resampled_differences(blocks, blocks, resamples=20, generator=generator())).tolist() == [0.0]


def test_the_interval_is_the_middle_95_per_cent() -> None:
    found = interval(np.arange(1001) / 1000)
    assert found == pytest.approx((0.025, 0.975))
    assert found.clear
    assert not Interval(-0.1, 0.1).clear
    assert Interval(-0.2, -0.1).clear


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    random = generator()
    covered = 0
    for trial in range(60):
        shifts = random.normal(0.0, 0.1, 30)
        first, second = ([0.6] * 30, np.clip(0.6 + shifts, 0, 1).tolist())
        sums = [block_sums([score_of(shares, seed=trial)], 0.5) for shares in (first, second)]
        told = interval(resampled_differences(sums[0], sums[1], resamples=300, generator=random))
        covered += told.low <= 0.0 <= told.high
    assert 48 <= covered <= 60


def test_only_the_same_frames_are_compared() -> None:
    score = score_of([0.8] * 10)
    assert comparable([score, score], [score])
    assert not comparable([score], [score_of([0.8] * 9)])
    assert not comparable([score], [score_of([0.8] * 10, period_s=1.0)])
