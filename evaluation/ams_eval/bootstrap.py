"""How sure a difference of mIoU is: a paired bootstrap over blocks of time.

Neighbouring frames are alike, so single frames would promise too much. The recording is cut into blocks of time; blocks are
drawn with replacement, the same ones for both sides, and the mIoU of the confusion summed over them is taken again and again.

Shapes: B blocks, C classes, R resamples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ams_common.iou import Float64Array, Int64Array
from ams_eval.scores import Score

BLOCK_S = 10.0
RESAMPLES = 2000
LEAST_BLOCKS = 5
"""From fewer blocks no interval is told."""
SHARE = 0.95


class Interval(NamedTuple):
    """Where a difference lies with a probability of SHARE; NaN where there is too little to tell."""

    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether it is on one side of 0."""
        return self.low > 0 or self.high < 0


def comparable(first: Sequence[Score], second: Sequence[Score]) -> bool:
    """Tell whether all scores are of the same frames and classes."""
    return all(
        each.matrices.shape == first[0].matrices.shape and np.array_equal(each.times_s, first[0].times_s)
        for each in (*first, *second)
    )


def block_sums(scores: Sequence[Score], block_s: float) -> Int64Array:
    """Return the confusion of each block of time, summed over its frames and over the scores, int64 [B, C, C].

    The scores are of the same frames. Blocks without frames are left out.
    """
    times_s = scores[0].times_s
    total = np.asarray(np.sum([score.matrices for score in scores], axis=0), np.int64)
    if not len(times_s):
        return total
    blocks = np.floor((times_s - times_s[0]) / block_s)
    starts = np.flatnonzero(np.diff(blocks, prepend=-1.0))
    return np.asarray(np.add.reduceat(total, starts, axis=0), np.int64)


def resampled_differences(
    first: Int64Array, second: Int64Array, *, resamples: int, generator: np.random.Generator
) -> Float64Array:
    """Return the mIoU of `second` minus that of `first`, both int64 [B, C, C], for blocks drawn with replacement, "
    "float64 [R]."""
    blocks = len(first)
    drawn = generator.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)
    return _mean_ious(np.tensordot(drawn, second, axes=1)) - _mean_ious(np.tensordot(drawn, first, axes=1))


def interval(differences: Float64Array) -> Interval:
    """Return the middle SHARE of resampled differences."""
    low, high = np.nanpercentile(differences, [50 * (1 - SHARE), 50 * (1 + SHARE)])
    return Interval(float(low), float(high))


def _mean_ious(matrices: Int64Array) -> Float64Array:
    """Return the mIoU of each confusion of [R, C, C], float64 [R], as `iou.mean_iou` takes it of one."""
    hits = np.diagonal(matrices, axis1=1, axis2=2).astype(np.float64)
    union = matrices.sum(axis=1) + matrices.sum(axis=2) - hits
    occurring = union > 0
    values = np.divide(hits, union, out=np.zeros_like(hits), where=occurring)
    count = occurring.sum(axis=1)
    means = np.full(len(matrices), np.nan)
    np.divide(values.sum(axis=1), count, out=means, where=count > 0)
    return means
