"""The flat vector as rows, and what of it changes as counts and gaps: the order in which `delta-rans` codes an update.

A row is what belongs to one output channel of a tensor with two dimensions or more; a tensor with fewer is one row. Rows longer
than 1024 elements are cut into pieces of 1024 and a rest. Each tensor of several rows is a group; all trainable tensors of a
single row are one more, and all that are not trainable another. Rows that change often have many neighbours of the kind, so a
change costs less bits there: a group says how dense it is and how much its rows differ, a row how many of its weights change.

R: rows. G: groups. T: tensors. n: weights that change.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ams_common.delta_tables import (
    COUNT_FIRSTS,
    COUNT_SYMBOLS,
    COUNT_WIDTHS,
    GAP_ESCAPE,
    LEVEL_ESCAPE,
    LONGEST_ROW,
    SHAPES,
    count_table,
    count_tables,
    gap_table,
    gap_tables,
    level_tables,
    two_sided_tables,
)
from ams_common.errors import CodecError
from ams_common.layout import ParameterLayout, TensorSpec
from ams_common.rans import LARGEST_RADIX, Coder, Int64Array

DENSITIES = 48
"""Classes of a group: 0 where nothing changes, else c where about 2^(-(c - 1) / 2) of it do."""
OFFSETS = 64
"""Steps that a tensor may have."""
LARGEST_LEVEL = LEVEL_ESCAPE + LARGEST_RADIX
"""Steps that a weight may move at once."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a layout, in the order of the vector."""

    starts: Int64Array
    """int64 [R]: first element of each row."""
    lengths: Int64Array
    """int64 [R], 1..1024."""
    lengths_log: Int64Array
    """int64 [R]: half octaves of the length, rounded down."""
    tensors: Int64Array
    """int64 [R]: tensor of the layout to which each belongs."""
    groups: Int64Array
    """int64 [R]: its group."""
    group_count: int

    def of(self, indices: Int64Array) -> Int64Array:
        """Return the row, int64 [n], of each element, int64 [n], increasing."""
        counts = np.diff(np.searchsorted(indices, self.starts), append=len(indices))
        return np.repeat(np.arange(len(self.starts)), counts)

    @cached_property
    def kinds(self) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Groups and half octaves that occur together, both int64 [kinds], and the kind of each row, int64 [R]."""
        span = int(_HALF_OCTAVES[-1]) + 1
        kinds, kind_of = np.unique(self.groups * span + self.lengths_log, return_inverse=True)
        groups, lengths_log = np.divmod(kinds, span)
        return groups, lengths_log, kind_of


def count_rows(tensors: Iterable[TensorSpec]) -> int:
    """Return how many rows `tensors` have together, without making them: those from outside may have very many."""
    channels = [(tensor, _channels(tensor)) for tensor in tensors]
    return sum(count * -(-tensor.size // (count * LONGEST_ROW)) for tensor, count in channels if count)


def layout_rows(layout: ParameterLayout) -> Rows:
    """Return the rows of `layout`; tensors without elements have none."""
    lengths: list[Int64Array] = []
    groups: list[int] = []
    for number, tensor in enumerate(layout.tensors):
        channels = _channels(tensor)
        lengths.append(np.tile(_pieces(tensor.size // max(1, channels)), channels))
        groups.append(2 + number if len(lengths[-1]) > 1 else int(tensor.trainable))
    tensors = np.repeat(np.arange(len(lengths)), [len(each) for each in lengths])
    all_lengths = np.concatenate([np.empty(0, np.int64), *lengths])
    present, group_of = np.unique(np.array(groups, np.int64)[tensors], return_inverse=True)
    return Rows(
        starts=np.cumsum(all_lengths) - all_lengths,
        lengths=all_lengths,
        lengths_log=_HALF_OCTAVES[all_lengths],
        tensors=tensors,
        groups=group_of,
        group_count=len(present),
    )


_HALF_OCTAVES = np.array([(length * length).bit_length() - 1 for length in range(LONGEST_ROW + 1)])


def _channels(tensor: TensorSpec) -> int:
    return tensor.shape[0] if len(tensor.shape) > 1 and tensor.size else min(1, tensor.size)


def _pieces(length: int) -> Int64Array:
    whole, rest = divmod(length, LONGEST_ROW)
    return np.array([LONGEST_ROW] * whole + [rest] * (rest > 0), np.int64)


def code_densities(
    coder: Coder, rows: Rows, centre: int, densities: Int64Array | None, shapes: Int64Array | None
) -> tuple[Int64Array, Int64Array]:
    """Code the classes of the groups, int64 [G] of 0..DENSITIES - 1, and their shapes, int64 [G] of 0..3, 0 where empty."""
    densities = coder.symbols(two_sided_tables(centre, DENSITIES), np.zeros(rows.group_count, np.int64), densities)
    dense = np.flatnonzero(densities)
    coded = np.zeros(rows.group_count, np.int64)
    coded[dense] = coder.digits(np.full(len(dense), SHAPES), _at(shapes, dense))
    return densities, coded


def code_counts(coder: Coder, rows: Rows, densities: Int64Array, shapes: Int64Array, counts: Int64Array | None) -> Int64Array:
    """Code how many weights change in each row, int64 [R].

    Raises:
        CodecError: more than the row has.
    """
    present = np.flatnonzero(densities[rows.groups])
    groups, wanted = rows.groups[present], _at(counts, present)
    which = count_table(rows.lengths_log[present], densities[groups] - 1, shapes[groups])
    symbols = coder.symbols(count_tables(), which, None if wanted is None else COUNT_SYMBOLS[wanted])
    coded = COUNT_FIRSTS[symbols]
    shared = np.flatnonzero(COUNT_WIDTHS[symbols] > 1)
    coded[shared] += coder.digits(COUNT_WIDTHS[symbols[shared]], None if wanted is None else (wanted - coded)[shared])
    if (coded > rows.lengths[present]).any():
        raise CodecError("update changes more weights of a row than there are")
    all_counts = np.zeros(len(rows.lengths), np.int64)
    all_counts[present] = coded
    return all_counts


def code_positions(coder: Coder, rows: Rows, counts: Int64Array, positions: Int64Array | None) -> Int64Array:
    """Code which elements change, int64 [n], increasing, where `counts`, int64 [R], change in each row.

    The first changed element of every row comes first, then the second of those that have one, and so on; of rows with equally
    many, the earlier goes before.

    Raises:
        CodecError: a gap leads out of the row.
    """
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    left, sizes, elements = counts[order], rows.lengths[order], rows.starts[order]
    ends, slots = elements + sizes, (np.cumsum(counts) - counts)[order]
    coded = np.empty(int(counts.sum()), np.int64)
    active = len(order)
    while active:
        elements, left, slots = elements[:active], left[:active], slots[:active]
        gaps = _code_gaps(coder, left, ends[:active] - elements, None if positions is None else positions[slots] - elements)
        coded[slots] = elements + gaps
        elements, left, slots = elements + gaps + 1, left - 1, slots + 1
        active = int(np.count_nonzero(left))
    return coded


def _code_gaps(coder: Coder, left: Int64Array, elements: Int64Array, gaps: Int64Array | None) -> Int64Array:
    """Code the unchanged elements before the next changed one in rows where `left`, falling, of `elements` are to come."""
    several = int(np.count_nonzero(left > 1))
    most = elements - left
    which, shifts = gap_table(left[:several], elements[:several])
    units = None if gaps is None else np.minimum(gaps[:several] >> shifts, GAP_ESCAPE)
    units = coder.symbols(gap_tables(), which, units)
    escaped = units == GAP_ESCAPE
    firsts, radices = np.zeros(len(left), np.int64), most + 1
    firsts[:several] = np.where(escaped, 0, units << shifts)
    radices[:several] = np.where(escaped, radices[:several], 1 << shifts)
    coded = firsts + coder.digits(radices, None if gaps is None else gaps - firsts)
    if (coded > most).any():
        raise CodecError("update has a gap that leads out of its row")
    return coded


def code_offsets(coder: Coder, changed: Int64Array, offsets: Int64Array | None) -> Int64Array:
    """Code the step of each tensor of `changed`, int64 [n] of 0..OFFSETS - 1."""
    return coder.symbols(two_sided_tables(OFFSETS // 2, OFFSETS), np.zeros(len(changed), np.int64), offsets)


def code_levels(coder: Coder, count: int, model: int, levels: Int64Array | None) -> Int64Array:
    """Code by how many steps, int64 [count] of 1..LARGEST_LEVEL, each weight changes."""
    symbols = None if levels is None else np.minimum(levels - 1, LEVEL_ESCAPE)
    symbols = coder.symbols(level_tables(model), np.zeros(count, np.int64), symbols)
    coded = symbols + 1
    large = np.flatnonzero(symbols == LEVEL_ESCAPE)
    excess = None if levels is None else levels[large] - 1 - LEVEL_ESCAPE
    coded[large] += coder.digits(np.full(len(large), LARGEST_RADIX), excess)
    return coded


def _at(values: Int64Array | None, where: Int64Array) -> Int64Array | None:
    return None if values is None else values[where]
