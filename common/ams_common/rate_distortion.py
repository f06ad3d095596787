"""Rounding by rate and distortion: as many whole steps as make squared error and bits, at a price, least together.

How many bits a change takes depends on how the others are rounded: `bits_of_changes` goes by some rounding of all, such as that
to the nearest step. Nothing here is needed to read an update, so floating point may differ between machines.

k: elements that may change. n: those that do in that rounding.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ams_common.layout import Float32Array
from ams_common.rans import Int64Array

Float64Array = npt.NDArray[np.float64]
_LEAST_SHARE = 2.0**-8
"""Of changes that go on for a further step, as of the least likely in `delta_models`."""
LEAST_PRICED = 0.5
"""Steps of a change below which moving it makes the error larger, whatever bits cost."""


@dataclass(frozen=True, eq=False)
class ChangeBits:
    """About how many bits a change takes more than none, and what they are worth."""

    first: Float64Array
    """float64 [k], none negative: for the place, the sign and the first step."""
    further: float
    """For each further step."""
    price: float
    """Squared steps of error that a bit is worth."""


def bits_of_changes(lengths: Int64Array, others: Int64Array, levels: Int64Array, price: float) -> ChangeBits:
    """Return the bits of changes in rows of `lengths`, int64 [k], in which `others`, int64 [k], change too.

    One more among N makes log2((N - c) / (c + 1)) bits more of C(N, c) choices; half an element on both sides keeps full rows
    finite. Where most of a row changes one more takes less than nothing: that counts as nothing, for no weight shall move by
    more than it should. `levels`, int64 [n] of 1 or more, are taken as geometric.
    """
    places = np.log2((lengths - others + 0.5) / (others + 0.5))
    steps = int(levels.sum())
    goes_on = min(max((steps - len(levels)) / max(1, steps), _LEAST_SHARE), 1 - _LEAST_SHARE)
    first = np.maximum(0.0, places + 1 - np.log2(1 - goes_on))
    return ChangeBits(first=first, further=float(-np.log2(goes_on)), price=price)


def cheapest_levels(wanted: Float64Array | Float32Array, bits: ChangeBits) -> Float64Array:
    """Return the whole steps, float64 [k], for `wanted`, float [k], none negative: never more than the nearest."""
    levels = np.maximum(1, np.floor(wanted + 0.5 - bits.price * bits.further / 2))
    cost = np.square(wanted - levels) + bits.price * (bits.first + (levels - 1) * bits.further)
    return np.where(cost < np.square(wanted), levels, 0.0)


def surely_priced(price: float) -> float:
    """Return of how many steps a change is moved by at least one, whatever the bits of `bits_of_changes` are at `price`.

    The first step takes less than 21 bits: about 11 for the place among 1024, 1 for the sign, 8 for going no further. Each
    further one takes 8 at most. L steps for a change of w, L of 1 up to w + 1/2, save L (2 w - L) of the squared error: more
    than price (21 + 8 (L - 1)) where w is above 1/2 + 21 price.
    """
    return 0.5 + 21 * price
