"""Rounding by rate and distortion: as many whole steps as make squared error and bits, at a price, least together.

How many bits a change takes depends on how the others are rounded: `bits_of_changes` goes by some rounding of all, such as that
to the nearest step. Nothing here is needed to read an update, so floating point may differ between machines.

k: elements that may change. n: those that do in that rounding. R: rows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ams_common.delta_rows import Rows
from ams_common.layout import Float32Array
from ams_common.rans import Int64Array

Float64Array = npt.NDArray[np.float64]
_LEAST_SHARE = 2.0**-8
"""Of changes that go on for a further step, as of the least likely in `delta_models`."""


@dataclass(frozen=True, eq=False)
class ChangeBits:
    """About how many bits a change takes more than none."""

    first: Float64Array
    """float64 [k], none negative: for the place, the sign and the first step."""
    further: float
    """For each further step."""


def bits_of_changes(rows: Rows, rows_of: Int64Array, counts: Int64Array, levels: Int64Array) -> ChangeBits:
    """Return the bits of changes in `rows_of`, int64 [k], beside others of `levels`, int64 [n] of 1 or more.

    `counts`, int64 [R], is how many of the others are in each row. One more among N makes log2((N - c) / (c + 1)) bits more of
    C(N, c) choices; half an element on both sides keeps full rows finite. Where most of a row changes one more takes less than
    nothing: that counts as nothing, for no weight shall move by more than it should. Levels are taken as geometric.
    """
    places = np.log2((rows.lengths - counts + 0.5) / (counts + 0.5))
    steps = int(levels.sum())
    goes_on = min(max((steps - len(levels)) / max(1, steps), _LEAST_SHARE), 1 - _LEAST_SHARE)
    first = np.maximum(0.0, places + 1 - np.log2(1 - goes_on))
    return ChangeBits(first=first[rows_of], further=float(-np.log2(goes_on)))


def cheapest_levels(wanted: Float64Array | Float32Array, bits: ChangeBits, price: float) -> Float64Array:
    """Return the whole steps, float64 [k], for `wanted`, float [k], none negative, where a bit is worth `price` squared steps.

    They are never more than the nearest.
    """
    levels = np.maximum(1, np.floor(wanted + 0.5 - price * bits.further / 2))
    cost = np.square(wanted - levels) + price * (bits.first + (levels - 1) * bits.further)
    return np.where(cost < np.square(wanted), levels, 0.0)
