"""Changes of weights as whole numbers of steps, with a step for each tensor.

A tensor's step is the update's step times one of 64 multiples (offsets 0..63): 2^-16, 1.5 * 2^-16, 2^-15, ... 1.5 * 2^15.
All that a decoder computes is products and sums of two float32 numbers, each rounded once, hence the same on every machine.

k: elements that may change. n: those that do after quantising. T: tensors.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ams_common.delta_rows import LARGEST_LEVEL, OFFSETS, Rows
from ams_common.errors import ModelError
from ams_common.layout import Float32Array, ParameterLayout
from ams_common.rans import Int64Array
from ams_common.rate_distortion import LEAST_PRICED, ChangeBits, cheapest_levels, surely_priced
from ams_common.sparse_update import EncodingPlan

Float64Array = npt.NDArray[np.float64]
MULTIPLES = ((2 + np.arange(OFFSETS) % 2) * 2.0 ** (np.arange(OFFSETS) // 2 - OFFSETS // 4 - 1)).astype(np.float32)
"""float32 [OFFSETS]: exact multiples of the update's step."""
LEAST_STEP, MOST_STEP = 2.0**-40, 2.0**20
_TOLERANCE = 1e-4
"""Far more than float32 rounds off, relative to a step of 1 and a dead zone of LEAST_DEAD_ZONE."""
_LEAST_SCALE, _MOST_SCALE = 2.0**-16, 2.0**15
STEPS_OF_STATISTICS = 16
"""Steps in the root mean square of the change of a tensor that no optimiser moves, such as running statistics."""

STEPS_OF_UNKNOWN = 8
"""Steps in the root mean square of changes of which nothing is known: what is lost in rounding is some percent of them."""


@dataclass(frozen=True, eq=False)
class Changes:
    """The changes that an update should express."""

    indices: Int64Array
    """int64 [k], increasing."""
    values: Float32Array
    """float32 [k]."""
    rows: Int64Array
    """int64 [k]: row of each."""
    tensors: Int64Array
    """int64 [k]: tensor of each."""
    finest_step: float
    """The smallest step of an update."""
    scales: Float32Array
    """float32 [T]: each tensor's step relative to the update's."""
    peaks: Float64Array
    """float64 [T]: the largest change of each tensor."""
    trained: npt.NDArray[np.bool_]
    """bool [T]: False for tensors that no optimiser moves."""
    dead_zone: float
    """Part of a step below which a weight is left as it is."""
    bit_price: float
    """Squared steps of error that a bit is worth, 0 for none."""

    def only(self, kept: Int64Array) -> "Changes":
        """Return the changes at the places `kept`, int64 of 0..k-1, increasing; scales and peaks stay those of all."""
        return replace(
            self, indices=self.indices[kept], values=self.values[kept], rows=self.rows[kept], tensors=self.tensors[kept]
        )


class Survivors:
    """Which changes a step can send: a search over steps has to look at these alone, often a few of all."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        # A price of bits takes the place of the dead zone, but never sends less than half a step.
        part = min(changes.dead_zone, LEAST_PRICED) if changes.bit_price else changes.dead_zone
        multiples = MULTIPLES[_usual_offsets(changes.scales)]
        parts = (multiples * np.where(changes.trained, part, 1.0)).astype(np.float32)
        with np.errstate(over="ignore"):
            self._reaches = np.abs(changes.values) / parts[changes.tensors]
        """float32 [k]: about the coarsest step that sends each."""
        self._certain = surely_priced(changes.bit_price) / part if changes.bit_price else 1.0
        """How much coarser than a step the reach of a change must be that is sent for certain."""
        self._raised_below = float((changes.peaks / multiples).max(initial=0)) / (LARGEST_LEVEL - 1)
        """Step below which that of a tensor is raised for its largest change."""

    def possible(self, step: float) -> Changes:
        """Return the changes, and perhaps some more, that `quantise` sends at `step` and at coarser ones."""
        return self._changes.only(np.flatnonzero(self._reaches >= (1 - _TOLERANCE) * float(rounded_step(step))))

    def least_count(self, step: float) -> int:
        """Return a number of changes that `quantise` sends at `step` at least, whatever bits cost."""
        least = (1 + _TOLERANCE) * float(rounded_step(step))
        # Where a tensor's step does not go with its scale alone, nothing is certain.
        certain = least > (1 + 2 * _TOLERANCE) * self._raised_below
        return int(np.count_nonzero(self._reaches >= self._certain * least)) if certain else 0


@dataclass(frozen=True, eq=False)
class Quantised:
    """What is left of the changes."""

    step: np.float32
    """The update's step, a float32 whose lower 16 bits are zero."""
    offsets: Int64Array
    """int64 [T]: each tensor's step."""
    indices: Int64Array
    """int64 [n], increasing."""
    rows: Int64Array
    """int64 [n]: row of each."""
    tensors: Int64Array
    """int64 [n]: tensor of each."""
    levels: Int64Array
    """int64 [n]: whole steps, none zero, -LARGEST_LEVEL..LARGEST_LEVEL."""

    def only(self, kept: npt.NDArray[np.bool_]) -> "Quantised":
        """Return the changes that are `kept`, bool [n]."""
        return Quantised(self.step, self.offsets, self.indices[kept], self.rows[kept], self.tensors[kept], self.levels[kept])


def changes_of(
    layout: ParameterLayout, rows: Rows, base: Float32Array, target: Float32Array, indices: Int64Array, plan: EncodingPlan
) -> Changes:
    """Return the changes from `base` to `target`, float32 [P], at `indices`, of a layout and its rows.

    Raises:
        ModelError: a change is not finite, or the plan does not fit the layout.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        values = target[indices] - base[indices]
    if not np.isfinite(values).all():
        raise ModelError(f"a parameter or its change is {values[~np.isfinite(values)][0]}: training has diverged")
    rows_of = rows.of(indices)
    tensors = rows.tensors[rows_of]
    trained = np.array([tensor.trainable for tensor in layout.tensors], np.bool_)
    finest_step = plan.step or _default_step(values[trained[tensors]])
    given = np.ones(len(trained), np.float32) if plan.step_scales is None else plan.step_scales
    if given.shape != trained.shape:
        raise ModelError(f"plan holds {given.size} scales for {len(trained)} tensors")
    first = int(np.searchsorted(indices, layout.trainable_size))
    with np.errstate(over="ignore", under="ignore"):
        statistics = _spreads(values[first:], tensors[first:], len(trained)) / (STEPS_OF_STATISTICS * finest_step)
    return Changes(
        indices=indices,
        values=values,
        rows=rows_of,
        tensors=tensors,
        finest_step=finest_step,
        scales=np.clip(np.where(trained, given, statistics), _LEAST_SCALE, _MOST_SCALE).astype(np.float32),
        peaks=_peaks(values, tensors, len(trained)),
        trained=trained,
        dead_zone=plan.dead_zone,
        bit_price=plan.bit_price,
    )


def quantise(changes: Changes, step: float, bits: ChangeBits | None = None) -> Quantised:
    """Return `changes` in whole steps, where the update's step is about `step`; of trained weights as many as `bits` allow.

    Raises:
        ModelError: a change is more than can be expressed.
    """
    rounded = rounded_step(step)
    offsets = _offsets(changes, rounded)
    steps = rounded * MULTIPLES[offsets]
    wanted = np.abs(changes.values) / steps[changes.tensors]
    sizes = np.floor(wanted + np.float32(1 - changes.dead_zone)) if bits is None else cheapest_levels(wanted, bits)
    # A statistic moves towards its target but never beyond: a variance stays positive.
    first = int(np.searchsorted(changes.tensors, np.count_nonzero(changes.trained)))
    sizes[first:] = np.floor(wanted[first:])
    kept = np.flatnonzero(sizes)
    signed = np.where(changes.values[kept] < 0, -sizes[kept], sizes[kept]).astype(np.int64)
    return Quantised(rounded, offsets, changes.indices[kept], changes.rows[kept], changes.tensors[kept], signed)


def rounded_step(step: float) -> np.float32:
    """Return the step between LEAST_STEP and MOST_STEP that two bytes express and that is not above `step`, or the least."""
    bits = np.array([min(max(step, LEAST_STEP), MOST_STEP)], "<f4").view("<u4") & 0xFFFF0000
    return np.float32(bits.view("<f4")[0])


def moved(base: Float32Array, levels: Int64Array, steps: Float32Array) -> Float32Array:
    """Return `base` moved by `levels` whole `steps`, all of the same length: one product and one sum, each rounded once."""
    change: Float32Array = levels.astype(np.float32) * steps
    return base + change


def _default_step(values: Float32Array) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) / STEPS_OF_UNKNOWN if values.any() else 1e-3


def _spreads(values: Float32Array, tensors: Int64Array, count: int) -> Float32Array:
    """Return the root mean square of each tensor's changes, float32 [T], 1 where there are none."""
    squares = np.bincount(tensors, np.square(values, dtype=np.float64), count)
    spreads = np.sqrt(squares / np.maximum(np.bincount(tensors, minlength=count), 1))
    return np.where(spreads > 0, spreads, 1.0).astype(np.float32)


def _peaks(values: Float32Array, tensors: Int64Array, count: int) -> Float64Array:
    peaks = np.zeros(count)
    if len(values):
        starts = np.searchsorted(tensors, np.arange(count + 1))
        present = np.flatnonzero(np.diff(starts))
        peaks[present] = np.maximum.reduceat(np.abs(values), starts[present])
    return peaks


def _offsets(changes: Changes, step: np.float32) -> Int64Array:
    """Return the offset of each tensor: nearly its scale, or more where its largest change needs it."""
    least = np.searchsorted(MULTIPLES, changes.peaks / (float(step) * (LARGEST_LEVEL - 1)))
    if (least >= OFFSETS).any():
        raise ModelError(f"a parameter changes by {changes.peaks.max()}: training has diverged")
    offsets: Int64Array = np.maximum(_usual_offsets(changes.scales), least)
    return offsets


def _usual_offsets(scales: Float32Array) -> Int64Array:
    """Return the offsets, int64 [T], of the multiples next to `scales`, float32 [T]."""
    nearest: Int64Array = np.rint(2 * np.log2(scales)).astype(np.int64) + OFFSETS // 2
    return nearest.clip(0, OFFSETS - 1)
