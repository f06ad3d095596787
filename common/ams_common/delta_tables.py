"""Probability tables of the update codec `delta-rans`, computed from integers alone: every machine has the same ones.

Counts. How many weights of a row change is negative binomial with mean m = 2^(a/2) for a = -16..20 and shape k = 1/4, 1/2, 1 or
4: P(r + 1) / P(r) = (k + r) / (r + 1) * m / (k + m). The smaller the shape, the more the rows of a tensor differ. Counts
up to 15 are symbols of their own, larger ones share a symbol with those that agree in the 4 leading bits.

Gaps. Where n weights are still to come among N elements, all C(N, n) choices are equally probable; the number g of unchanged
ones before the next has P(g + 1) / P(g) = (N - n - g) / (N - 1 - g). Tables are for classes of n and of the mean spacing
N / n: each is the mean of that distribution over some n and all N of its class. Gaps of wide spacings are coded in units of
2^shift, so that a spacing has 4 to 8 units.

Levels. A change of q steps is 1 step with probability 1 - b and continues from q to q + 1, q > 1, with probability c; b and c
are 2^(-1/2), 2^-1, ... 2^-8.

Two-sided. Numbers near one that the header tells: weights of 2^20 / (4 + d^2) for a distance d.
"""

from functools import cache
from math import isqrt

import numpy as np

from ams_common.rans import FrequencyTables, Int64Array, frequency_tables

LONGEST_ROW = 1024
SHAPES = 4
LEVEL_CHOICES = 16
"""Choices for each of b and c."""
LEVEL_ESCAPE = 15
"""Symbol of 16 steps and more; smaller changes of q steps are symbol q - 1."""
GAP_ESCAPE = 63
"""Symbol of gaps of 63 units and more."""
_SHAPE_QUARTERS = (1, 2, 4, 16)
_FIRST_MEAN, _LAST_MEAN = -16, 20
_ONE = 1 << 38
"""What stands for the largest probability while a table is computed."""

_EIGHTHS = np.array([8, 9, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64])
"""Bounds of the classes of spacings, in eighths."""
_WIDE_FROM = 9
"""Class from which on spacings occur in units of more than one element too, and then have tables of their own."""
_REMAINING = ((2,), (3,), (4, 5, 6, 7), (8, 12, 20, 40))
"""The n that stand for the classes n = 2, 3, 4..7 and 8 or more."""


def _buckets() -> tuple[Int64Array, Int64Array]:
    counts = np.arange(LONGEST_ROW + 1)
    exponents = np.array([max(0, int(count).bit_length() - 4) for count in counts])
    symbols = np.where(counts < 16, counts, 8 * exponents + (counts >> exponents))
    firsts = np.flatnonzero(np.diff(symbols, prepend=-1))
    return symbols, firsts


COUNT_SYMBOLS, COUNT_FIRSTS = _buckets()
"""int64 [LONGEST_ROW + 1]: the symbol of each count; int64 [65]: the smallest count of each symbol."""
COUNT_WIDTHS = 1 << np.maximum(0, (np.arange(len(COUNT_FIRSTS)) >> 3) - 1)
"""int64 [65]: how many counts share each symbol."""


def count_table(lengths_log: Int64Array, densities: Int64Array, shapes: Int64Array) -> Int64Array:
    """Return which of `count_tables` serve rows of 2^(lengths_log / 2) elements of which 2^(-densities / 2) change."""
    means: Int64Array = np.clip(lengths_log - densities, _FIRST_MEAN, _LAST_MEAN) - _FIRST_MEAN
    return means * SHAPES + shapes


@cache
def count_tables() -> FrequencyTables:
    """Return the tables of counts: by mean, then by shape."""
    means = [isqrt(1 << 32 + half_octaves) for half_octaves in range(_FIRST_MEAN, _LAST_MEAN + 1)]
    return frequency_tables(np.array([_count_weights(mean, quarters) for mean in means for quarters in _SHAPE_QUARTERS]))


def _count_weights(mean: int, quarters: int) -> Int64Array:
    """Return weights, int64 [65], of the symbols of counts whose mean is `mean` / 2^16, with shape `quarters` / 4."""
    ups, downs = mean, 4 * mean + (quarters << 16)
    weights = np.zeros(LONGEST_ROW + 1, np.int64)
    mode = min(LONGEST_ROW, max(0, (quarters - 4) * mean // (quarters << 16)))
    weights[mode] = weight = _ONE
    for count in range(mode, LONGEST_ROW):
        weight = weight * (quarters + 4 * count) * ups // ((count + 1) * downs)
        weights[count + 1] = weight
    weight = _ONE
    for count in range(mode, 0, -1):
        weight = weight * count * downs // ((quarters + 4 * (count - 1)) * ups)
        weights[count - 1] = weight
    return np.add.reduceat(weights, COUNT_FIRSTS) >> 10


def gap_table(remaining: Int64Array, elements: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return which of `gap_tables` serve gaps where `remaining` of `elements` are to come, at least 2, and their shifts."""
    eighths = 8 * elements // remaining
    spacing, shift = _SPACINGS[eighths], _SHIFTS[eighths]
    return _REMAINING_CLASSES[np.minimum(remaining, 8)] * _GAP_CLASSES + spacing, shift


_GAP_CLASSES = len(_EIGHTHS) - 1 + len(_EIGHTHS) - 1 - _WIDE_FROM
_REMAINING_CLASSES = np.array([0, 0, 0, 1, 2, 2, 2, 2, 3])
_SHIFTS = np.array([max(0, eighths.bit_length() - 6) for eighths in range(4 * LONGEST_ROW + 1)])
_SPACINGS = (
    np.searchsorted(_EIGHTHS, np.arange(4 * LONGEST_ROW + 1) >> _SHIFTS, side="right")
    - 1
    + np.where(_SHIFTS > 0, len(_EIGHTHS) - 1 - _WIDE_FROM, 0)
)


@cache
def gap_tables() -> FrequencyTables:
    """Return the tables of gaps: by the number that is to come, then by spacing."""
    weights = np.zeros((len(_REMAINING) * _GAP_CLASSES, GAP_ESCAPE + 1), np.int64)
    for remaining in (number for numbers in _REMAINING for number in numbers):
        for elements in range(remaining, 16 * remaining, max(1, remaining // 8)):
            which, shift = gap_table(np.array(remaining), np.array(elements))
            weights[which] += _gap_weights(remaining, elements, int(shift))
    return frequency_tables(weights)


def _gap_weights(remaining: int, elements: int, shift: int) -> Int64Array:
    """Return weights, int64 [64], of gaps in units of 2^`shift` elements."""
    weights = np.zeros(GAP_ESCAPE + 1, np.int64)
    weight = (_ONE >> 8) * remaining // elements
    for gap in range(elements - remaining + 1):
        weights[min(GAP_ESCAPE, gap >> shift)] += weight
        weight = weight * (elements - remaining - gap) // max(1, elements - 1 - gap)
    return weights


@cache
def level_tables(model: int) -> FrequencyTables:
    """Return the one table of levels for `model`: 16 times the choice of b plus the choice of c, both 0..15."""
    first, later = (isqrt(1 << 39 - choice) for choice in divmod(model, LEVEL_CHOICES))
    one = 1 << 20
    weights, weight = [one - first], first
    for _ in range(LEVEL_ESCAPE - 1):
        weights.append(weight * (one - later) >> 20)
        weight = weight * later >> 20
    return frequency_tables(np.array([[*weights, weight]]))


def two_sided_tables(centre: int, alphabet: int) -> FrequencyTables:
    """Return the one table of numbers 0..alphabet - 1 near `centre`."""
    return frequency_tables((1 << 20) // (4 + (np.arange(alphabet) - centre) ** 2)[np.newaxis])
