"""The update codec `delta-rans`: changes in whole steps, only those that are not zero, positions and sizes entropy-coded.

Legend: n weights change, L lanes. All integers are little-endian.

    2   the update's step: the upper half of a float32
    2   L, uint16
    1   centre of the groups' density classes
    1   model of the levels: 16 times the choice for the first step plus the choice for later ones
    .   rANS in L lanes, as in `rans`: densities and shapes of the groups, counts of the rows, steps of the tensors that change,
        gaps between the changed weights, levels; in the order and with the probabilities of `delta_rows` and `delta_tables`
    .   a bit for each changed weight in the order of the vector, 1 = it falls, least significant bit first, padded with zero
        bits: the first 16 L of these bits, 16 a lane, are the seeds of the lanes, the others follow in whole bytes

The new value is base + float32(level) * step of the tensor, and step of the tensor = step of the update * its multiple, every
operation rounded once to float32.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ams_common.delta_models import choose_densities, choose_level_model, estimated_bits
from ams_common.delta_rows import (
    DENSITIES,
    LARGEST_LEVEL,
    Rows,
    code_counts,
    code_densities,
    code_levels,
    code_offsets,
    code_positions,
    layout_rows,
)
from ams_common.errors import CodecError
from ams_common.layout import Float32Array, ParameterLayout
from ams_common.quantiser import LEAST_STEP, MOST_STEP, MULTIPLES, Changes, Quantised, Survivors, changes_of, moved, quantise
from ams_common.rans import MOST_LANES, SEED_BITS, Int64Array, RansReader, RansWriter
from ams_common.rate_distortion import bits_of_changes
from ams_common.sparse_update import NO_PLAN, EncodingPlan, SparseUpdate, check_vectors

_HEADER = struct.Struct("<HHBB")
_WEIGHTS_PER_LANE = 192
"""About 200 bytes a lane, of which its end is one."""
_MOST_PER_LANE = 4096
"""Rows or weights in a lane: a payload that would keep a decoder busy for long is refused."""
_ATTEMPTS = 4
_CLOSE = 0.98
"""Part of the limit from which on an update is large enough."""
_AIM = 0.995
"""Part of the limit that later attempts aim at."""
_PRECISION = 1.003
"""Ratio of steps that two bytes can hardly tell apart."""
_NEAR = 0.99
"""Part of what is aimed at from which on an estimate needs no better one."""
_FULL = 0.9
"""Part of the limit below which an update leaves out what a finer step would send."""
_FAR = 1.5
"""Times the limit from which on an estimate is believed without trying: it is below the truth, or above by less than that."""


class DeltaRans:
    """Quantised changes, entropy-coded."""

    name = "delta-rans"
    keeps_limit = True

    def __init__(self, layout: ParameterLayout) -> None:
        self._layout = layout
        self._rows = layout_rows(layout)

    def encode(self, base: Float32Array, target: Float32Array, indices: Int64Array, plan: EncodingPlan = NO_PLAN) -> bytes:
        """See UpdateCodec."""
        check_vectors(self._layout, base, target)
        changes = changes_of(self._layout, self._rows, base, target, indices, plan)
        if plan.limit_bytes is None:
            return self._pack(self._quantised(changes, changes.finest_step))
        return self._within(changes, plan.limit_bytes)

    def decode(self, payload: bytes, base: Float32Array) -> SparseUpdate:
        """See UpdateCodec."""
        check_vectors(self._layout, base)
        if len(payload) < _HEADER.size:
            raise CodecError(f"update of {len(payload)} bytes is shorter than its header")
        step_bits, lanes, centre, level_model = _HEADER.unpack_from(payload)
        step = _step(step_bits)
        if centre >= DENSITIES:
            raise CodecError(f"update centres its densities at class {centre} of {DENSITIES}")
        reader = RansReader(payload[_HEADER.size :], lanes)
        rows = self._rows
        densities, shapes = code_densities(reader, rows, centre, None, None)
        _check_load(int(np.count_nonzero(densities[rows.groups])), lanes)
        counts = code_counts(reader, rows, densities, shapes, None)
        _check_load(int(counts.sum()), lanes)
        changed, tensors = _tensors(rows, counts)
        offsets = code_offsets(reader, changed, None)
        indices = code_positions(reader, rows, counts, None)
        levels = code_levels(reader, len(indices), level_model, None)
        levels[_falling(*reader.finish(), len(indices))] *= -1
        values = moved(base[indices], levels, (step * MULTIPLES[offsets])[tensors])
        if not np.isfinite(values).all():
            raise CodecError("update makes a value that is not finite")
        return SparseUpdate(indices, values)

    def _within(self, changes: Changes, limit_bytes: int) -> bytes:
        """Return an update of at most `limit_bytes`, by the smallest step not below the finest that allows it."""
        survivors = Survivors(changes)
        coarsest = max(changes.finest_step, 2 * float((changes.peaks / changes.scales).max(initial=0)) / changes.dead_zone)
        steps = _Choice(
            lambda step: self._quantised(survivors.possible(step), step), survivors.least_count, changes.finest_step, coarsest
        )
        search = self._search(steps, limit_bytes)
        if search.is_filled or search.by_halves():
            return search.best.payload
        # Many changes are of one size, so that the next finer step would send them all: it sends the largest.
        finer = steps.quantised(search.too_fine)
        places, count = _places_by_size(finer.levels), len(finer.levels)
        parts = _Choice(lambda part: finer.only(places < int(count / part)), lambda part: int(count / part), 1.0, count + 1.0)
        fewer = self._search(parts, limit_bytes)
        if not fewer.is_filled:
            fewer.by_halves()
        return max(search.best, fewer.best, key=lambda update: (update.changes, len(update.payload))).payload

    def _search(self, choice: "_Choice", limit_bytes: int) -> "_Search":
        search = _Search(choice, limit_bytes, self._packed, self._estimated_bytes)
        search.by_estimates()
        return search

    def _packed(self, quantised: Quantised) -> "_Packed":
        return _Packed(self._pack(quantised), len(quantised.levels))

    def _estimated_bytes(self, quantised: Quantised) -> float:
        return estimated_bits(self._rows, self._counts(quantised), np.abs(quantised.levels)) / 8

    def _quantised(self, changes: Changes, step: float) -> Quantised:
        nearest = quantise(changes, step)
        if not changes.bit_price:
            return nearest
        others = self._counts(nearest)[changes.rows]
        others[np.searchsorted(changes.indices, nearest.indices)] -= 1
        lengths = self._rows.lengths[changes.rows]
        return quantise(changes, step, bits_of_changes(lengths, others, np.abs(nearest.levels), changes.bit_price))

    def _counts(self, quantised: Quantised) -> Int64Array:
        return np.bincount(quantised.rows, minlength=len(self._rows.lengths))

    def _pack(self, quantised: Quantised) -> bytes:
        rows, counts, sizes = self._rows, self._counts(quantised), np.abs(quantised.levels)
        model, level_model = choose_densities(rows, counts), choose_level_model(sizes)
        writer = RansWriter()
        code_densities(writer, rows, model.centre, model.densities, model.shapes)
        code_counts(writer, rows, model.densities, model.shapes, counts)
        changed, _ = _tensors(rows, counts)
        code_offsets(writer, changed, quantised.offsets[changed])
        code_positions(writer, rows, counts, quantised.indices)
        code_levels(writer, len(sizes), level_model, sizes)
        lanes = _lanes(int(np.count_nonzero(model.densities[rows.groups])), len(sizes))
        signs = np.packbits(_padded(quantised.levels < 0, SEED_BITS * lanes), bitorder="little")
        seeds = signs[: 2 * lanes].view("<u2").astype(np.int64)
        step_bits = int(quantised.step.view(np.uint32)) >> 16
        header = _HEADER.pack(step_bits, lanes, model.centre, level_model)
        return header + writer.finish(seeds) + signs[2 * lanes :].tobytes()


class _Packed(NamedTuple):
    payload: bytes
    changes: int
    """How many weights it changes."""


@dataclass(frozen=True)
class _Choice:
    """Updates that differ by a measure: the larger it is, the smaller they are."""

    quantised: Callable[[float], Quantised]
    """The update of a measure."""
    least_count: Callable[[float], int]
    """Changes that it has at least, quickly."""
    finest: float
    coarsest: float


class _Search:
    """Looks for about the largest update within a limit."""

    def __init__(
        self,
        choice: _Choice,
        limit_bytes: int,
        packed: Callable[[Quantised], _Packed],
        estimated_bytes: Callable[[Quantised], float],
    ) -> None:
        self._choice = choice
        self._limit_bytes = limit_bytes
        self._pack, self._estimate = packed, estimated_bytes
        self._estimates: dict[float, float] = {}
        self._low, self._high = choice.finest, choice.coarsest
        self._finest_is_too_fine = False
        self.best = packed(choice.quantised(choice.coarsest))

    @property
    def too_fine(self) -> float:
        """The coarsest measure known to be too fine, where the finest is."""
        return self._low

    @property
    def is_filled(self) -> bool:
        """Whether the best update leaves little room, or none can be larger."""
        return self._high == self._choice.finest or len(self.best.payload) >= _FULL * self._limit_bytes

    def by_estimates(self) -> None:
        """Try the measures that should fill the limit: they nearly do where levels are spread as they usually are."""
        aim_bytes = float(self._limit_bytes)
        for _ in range(_ATTEMPTS):
            measure = self._measure_for(aim_bytes)
            if measure == self._high:
                return
            size_bytes = self._try(measure)
            if self._is_close():
                return
            # The estimate is off by some percent, but by nearly as many everywhere near.
            aim_bytes *= _AIM * self._limit_bytes / size_bytes

    def by_halves(self) -> bool:
        """Try measures half way between one that fits and one that does not, whatever estimates near the limit say.

        They go by the entropy of the levels. Where nearly all are of one size above 1, their model needs several times as much.

        Returns:
            whether that has filled the limit, or the finest fits.
        """
        if not self._finest_is_too_fine and not self._is_far_above(self._choice.finest):
            self._try(self._choice.finest)
        while not self._is_close() and self._high > _PRECISION * self._low:
            middle = (self._low * self._high) ** 0.5
            if self._is_far_above(middle):
                self._low = middle
            else:
                self._try(middle)
        return self._is_close()

    def _is_close(self) -> bool:
        return self._high == self._choice.finest or len(self.best.payload) >= _CLOSE * self._limit_bytes

    def _try(self, measure: float) -> int:
        """Narrow the search by the update of `measure`, and return its bytes."""
        update = self._pack(self._choice.quantised(measure))
        size_bytes = len(update.payload)
        if size_bytes > self._limit_bytes:
            self._low, self._finest_is_too_fine = measure, True
        else:
            is_longer = size_bytes > len(self.best.payload)
            self._high, self.best = measure, update if is_longer or measure == self._choice.finest else self.best
        return size_bytes

    def _measure_for(self, aim_bytes: float) -> float:
        """Return about the finest measure that is not too fine for about `aim_bytes`."""
        if not self._finest_is_too_fine and not self._is_above(self._low, aim_bytes):
            return self._low
        low, high = self._known_around(aim_bytes)
        is_halved = True
        while high > _PRECISION * low and self._estimates.get(high, 0.0) < _NEAR * aim_bytes:
            span = high / low
            middle = low * span ** (self._part(low, high, aim_bytes) if is_halved else 0.5)
            low, high = (middle, high) if self._is_above(middle, aim_bytes) else (low, middle)
            # What is between estimates of two sizes may be far from either: every other guess halves what is left.
            is_halved = high / low <= span**0.5
        return high

    def _known_around(self, aim_bytes: float) -> tuple[float, float]:
        """Return the closest measures between which that of `aim_bytes` must be."""
        inside = [(measure, size) for measure, size in self._estimates.items() if self._low < measure < self._high]
        low = max((measure for measure, size in inside if size > aim_bytes), default=self._low)
        return low, min((measure for measure, size in inside if measure > low and size <= aim_bytes), default=self._high)

    def _part(self, low: float, high: float, aim_bytes: float) -> float:
        """Return how far from `low` to `high` an update of `aim_bytes` should be, on a scale of logarithms, 0..1."""
        large_bytes, small_bytes = self._estimates.get(low), self._estimates.get(high)
        if not large_bytes or not small_bytes or large_bytes <= small_bytes:
            return 0.5
        part = math.log(large_bytes / (_AIM * aim_bytes)) / math.log(large_bytes / small_bytes)
        return min(max(part, 0.02), 0.98)

    def _is_far_above(self, measure: float) -> bool:
        return self._is_above(measure, _FAR * self._limit_bytes)

    def _is_above(self, measure: float, size_bytes: float) -> bool:
        """Return whether the update of `measure` is estimated at more than `size_bytes`."""
        if self._choice.least_count(measure) > 8 * size_bytes + 1:  # a sign takes a bit
            return True
        if measure not in self._estimates:
            self._estimates[measure] = self._estimate(self._choice.quantised(measure))
        return self._estimates[measure] > size_bytes


def _places_by_size(levels: Int64Array) -> Int64Array:
    """Return the place, int64 [n], of each of `levels`, int64 [n], from the largest on; those of one size in random order.

    The order is drawn from a seed.
    """
    shuffled = np.random.default_rng(0).permutation(len(levels))
    # Numbers of 16 bits are sorted in a few passes.
    order = shuffled[np.argsort((LARGEST_LEVEL - np.abs(levels[shuffled])).astype(np.uint16), kind="stable")]
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def _lanes(rows: int, weights: int) -> int:
    """Return in how many lanes to write counts of `rows` and `weights` that change."""
    least = -(-max(rows, weights) // _MOST_PER_LANE)
    return min(MOST_LANES, max(1, least, weights // _WEIGHTS_PER_LANE))


def _check_load(symbols: int, lanes: int) -> None:
    if symbols > lanes * _MOST_PER_LANE:
        raise CodecError(f"update has {symbols} rows or weights in {lanes} lanes, at most {_MOST_PER_LANE} belong in each")


def _step(step_bits: int) -> np.float32:
    step = np.array([step_bits << 16], "<u4").view("<f4")[0]
    if not LEAST_STEP <= step <= MOST_STEP:
        raise CodecError(f"update has a step of {step}")
    return np.float32(step)


def _tensors(rows: Rows, counts: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return the tensors that change, int64 [m], and which of these each changed weight belongs to, int64 [n]."""
    return np.unique(np.repeat(rows.tensors, counts), return_inverse=True)


def _padded(bits: npt.NDArray[np.bool_], length: int) -> npt.NDArray[np.bool_]:
    return np.pad(bits, (0, max(0, length - len(bits))))


def _falling(seeds: Int64Array, rest: bytes, count: int) -> npt.NDArray[np.bool_]:
    """Return which of `count` weights fall, bool [count], from the seeds of the lanes and the bytes at the end.

    Raises:
        CodecError: there are more or fewer bits.
    """
    if len(rest) != max(0, -(-(count - SEED_BITS * len(seeds)) // 8)):
        raise CodecError(f"update ends in {len(rest)} bytes of signs, which do not fit {count} weights")
    packed = np.concatenate([seeds.astype("<u2").view(np.uint8), np.frombuffer(rest, np.uint8)])
    bits = np.unpackbits(packed, bitorder="little").astype(np.bool_)
    if bits[count:].any():
        raise CodecError("update has padding bits set among its signs")
    return bits[:count]
