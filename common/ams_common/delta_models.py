"""What a writer of `delta-rans` chooses: the models under which an update is shortest, and an estimate of its length.

Nothing here is needed to read an update, so floating point may differ between machines. R: rows. G: groups.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from ams_common.delta_rows import DENSITIES, Rows
from ams_common.delta_tables import (
    COUNT_SYMBOLS,
    COUNT_WIDTHS,
    LEVEL_CHOICES,
    LEVEL_ESCAPE,
    LONGEST_ROW,
    SHAPES,
    count_table,
    count_tables,
)
from ams_common.rans import LARGEST_RADIX, TABLE_BITS, Int64Array

Float64Array = npt.NDArray[np.float64]
_HALF_OCTAVES = np.arange(int(LONGEST_ROW**2).bit_length())
"""Lengths of rows, as `Rows.lengths_log` gives them."""
_BITS_OF_CLASSES = 9.0
"""About what density and shape of a group, and the step of its tensor, take together."""


@dataclass(frozen=True, eq=False)
class DensityModel:
    """How dense groups are, and how much their rows differ."""

    centre: int
    """Density class near which those of the groups are."""
    densities: Int64Array
    """int64 [G]: class of each group, 0 where nothing changes."""
    shapes: Int64Array
    """int64 [G]: 0..3."""
    bits: float
    """Code length of the rows' counts, with that of the classes."""


def choose_densities(rows: Rows, counts: Int64Array) -> DensityModel:
    """Return the classes under which `counts`, int64 [R], of the rows are shortest."""
    groups, lengths_log, kind_of = rows.kinds
    keys = kind_of * len(COUNT_WIDTHS) + COUNT_SYMBOLS[counts]
    histograms = np.bincount(keys, minlength=len(groups) * len(COUNT_WIDTHS)).reshape(len(groups), -1)
    by_table = histograms.astype(np.float64) @ _count_costs()
    costs = np.zeros((rows.group_count, (DENSITIES - 1) * SHAPES))
    np.add.at(costs, groups, np.take_along_axis(by_table, _tables_of_classes()[lengths_log], 1))
    empty = np.bincount(rows.groups, counts, rows.group_count) == 0
    best = costs.argmin(1)
    densities = np.where(empty, 0, best // SHAPES + 1)
    bits = costs[np.arange(len(best)), best][~empty].sum() + _BITS_OF_CLASSES * np.count_nonzero(~empty)
    centre = int(np.median(densities[~empty])) if not empty.all() else 0
    return DensityModel(centre, densities, np.where(empty, 0, best % SHAPES), float(bits))


@cache
def _count_costs() -> Float64Array:
    """Return the bits of each symbol of a count, float64 [65, tables], in each table."""
    tables = count_tables()
    costs = TABLE_BITS - np.log2(tables.frequencies.reshape(-1, tables.alphabet)) + np.log2(COUNT_WIDTHS)
    return np.ascontiguousarray(costs.T)


@cache
def _tables_of_classes() -> Int64Array:
    """Return which table serves each class of density and shape, int64 [half octaves, 47 * 4], by the length of the rows."""
    densities, shapes = np.divmod(np.arange((DENSITIES - 1) * SHAPES), SHAPES)
    return count_table(_HALF_OCTAVES[:, np.newaxis], densities, shapes)


def choose_level_model(levels: Int64Array) -> int:
    """Return the model, 0..255, under which `levels`, int64 [n] of 1 or more, are nearly shortest."""
    large = int(np.count_nonzero(levels > 1))
    more = int((np.minimum(levels, LEVEL_ESCAPE + 1) - 2).clip(0).sum())
    return _nearest_choice(large, len(levels) - large) * LEVEL_CHOICES + _nearest_choice(more, large)


def _nearest_choice(yes: int, no: int) -> int:
    """Return which of the probabilities 2^(-1/2), 2^-1, ... 2^-8 makes `yes` and `no` cases shortest."""
    probabilities = 2.0 ** (-(np.arange(LEVEL_CHOICES) + 1) / 2)
    return int((-yes * np.log2(probabilities) - no * np.log2(1 - probabilities)).argmin())


def estimated_bits(rows: Rows, counts: Int64Array, levels: Int64Array) -> float:
    """Return about how many bits changes of `levels`, int64 [n] of 1 or more, in rows with `counts`, int64 [R], take."""
    factorials = _log_factorials()
    choices = factorials[rows.lengths] - factorials[counts] - factorials[rows.lengths - counts]
    return choose_densities(rows, counts).bits + float(choices.sum()) + _level_bits(levels) + len(levels)


@cache
def _log_factorials() -> Float64Array:
    """Return log2 of 0!, 1!, ... as float64 [LONGEST_ROW + 1]."""
    return np.concatenate([[0.0], np.cumsum(np.log2(np.arange(1, LONGEST_ROW + 1)))])


def _level_bits(levels: Int64Array) -> float:
    histogram = np.bincount(np.minimum(levels, LEVEL_ESCAPE + 1))
    present = histogram[histogram > 0]
    entropy = float((present * np.log2(len(levels) / present)).sum())
    return entropy + (LARGEST_RADIX.bit_length() - 1) * int(np.count_nonzero(levels > LEVEL_ESCAPE))
