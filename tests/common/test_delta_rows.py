"""Rows of a layout, and the walk over what changes in them."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ams_common.delta_rows import (
    LARGEST_LEVEL,
    Rows,
    code_counts,
    code_densities,
    code_levels,
    code_offsets,
    code_positions,
    count_rows,
    layout_rows,
)
from ams_common.errors import CodecError
from ams_common.layout import ParameterLayout, TensorSpec
from ams_common.rans import FrequencyTables, Int64Array, RansReader, RansWriter

SEEDS = np.zeros(2, np.int64)


def rows_of(*shapes: tuple[int, ...], statistics: Sequence[tuple[int, ...]] = ()) -> Rows:
    trained = [TensorSpec(name=f"t{number}", shape=shape) for number, shape in enumerate(shapes)]
    rest = [TensorSpec(name=f"s{number}", shape=shape, trainable=False) for number, shape in enumerate(statistics)]
    return layout_rows(ParameterLayout((*trained, *rest)))


def test_a_row_is_an_output_channel_and_long_ones_are_cut() -> None:
    rows = rows_of((2, 3, 5), (4,), (), (1, 2050), (0, 3), (2, 0), statistics=[(7,)])
    assert rows.lengths.tolist() == [15, 15, 4, 1, 1024, 1024, 2, 7]
    assert rows.starts.tolist() == [0, 15, 30, 34, 35, 1059, 2083, 2085]
    assert rows.tensors.tolist() == [0, 0, 1, 2, 3, 3, 3, 6]
    assert rows.lengths_log.tolist() == [7, 7, 4, 0, 20, 20, 2, 5]


def test_single_rows_share_a_group_and_statistics_another() -> None:
    rows = rows_of((2, 3), (4,), (5,), (3, 2), statistics=[(7,), (7,)])
    assert rows.groups.tolist() == [2, 2, 1, 1, 3, 3, 3, 0, 0]
    assert rows.group_count == 4
    assert rows_of((2, 3)).group_count == 1


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0), (7,), (1, 1), (5, 1024), (5, 1025), (2, 3, 700), (1, 2500)])
def test_rows_are_counted_without_being_made(shape: tuple[int, ...]) -> None:
    tensors = [TensorSpec(name="a", shape=(3, 4)), TensorSpec(name="b", shape=shape)]
    assert count_rows(tensors) == len(layout_rows(ParameterLayout(tuple(tensors))).starts)


def test_elements_find_their_rows() -> None:
    rows = rows_of((2, 3), (4,))
    assert rows.of(np.arange(10)).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]


def there_and_back(rows: Rows, positions: Int64Array) -> Int64Array:
    counts = np.bincount(rows.of(positions), minlength=len(rows.lengths))
    writer = RansWriter()
    assert np.array_equal(code_positions(writer, rows, counts, positions), positions)
    return code_positions(RansReader(writer.finish(SEEDS), 2), rows, counts, None)


@settings(deadline=None)  # the first call computes the tables
@given(st.data(), st.sampled_from([0.0, 0.01, 0.3, 0.95, 1.0]))
def test_positions_survive_at_any_density(data: st.DataObject, density: float) -> None:
    shapes = data.draw(st.lists(st.sampled_from([(3, 5), (2, 40), (1030,), (1,), (2, 2, 300)]), min_size=1, max_size=4))
    rows = rows_of(*shapes)
    generator = np.random.default_rng(data.draw(st.integers(0, 1000)))
    positions = np.flatnonzero(generator.random(int(rows.lengths.sum())) < density)
    assert np.array_equal(there_and_back(rows, positions), positions)


@pytest.mark.parametrize("positions", [[0], [1023], [0, 1023], [1022, 1023], [0, 1], [5, 1020, 1023], [0, 1, 2, 1023]])
def test_positions_survive_at_the_ends_of_a_long_row(positions: list[int]) -> None:
    assert there_and_back(rows_of((1024,)), np.array(positions)).tolist() == positions


@settings(deadline=None)  # the first call computes the tables
@given(st.lists(st.integers(0, 1024), min_size=6, max_size=6), st.integers(0, 47), st.integers(0, 3))
def test_counts_survive_under_any_model(wanted: list[int], density: int, shape: int) -> None:
    rows = rows_of((4, 1024), (1024,), (1024,))
    counts = np.array(wanted)
    densities = np.full(rows.group_count, max(1, density))
    shapes = np.full(rows.group_count, shape)
    writer = RansWriter()
    code_densities(writer, rows, density, densities, shapes)
    code_counts(writer, rows, densities, shapes, counts)
    reader = RansReader(writer.finish(SEEDS), 2)
    found = code_densities(reader, rows, density, None, None)
    assert [each.tolist() for each in found] == [densities.tolist(), shapes.tolist()]
    assert code_counts(reader, rows, densities, shapes, None).tolist() == wanted


def test_rows_of_empty_groups_take_nothing() -> None:
    rows = rows_of((4, 8), (2, 8))
    counts, densities, shapes = np.array([0, 0, 0, 0, 3, 1]), np.array([0, 5]), np.array([0, 2])
    writer = RansWriter()
    code_counts(writer, rows, densities, shapes, counts)
    few_bits = writer.ideal_bits
    assert code_counts(RansReader(writer.finish(SEEDS), 2), rows, densities, shapes, None).tolist() == counts.tolist()
    code_counts(writer, rows, np.array([5, 5]), shapes, counts)
    assert writer.ideal_bits > 2 * few_bits


@given(st.lists(st.integers(1, 20) | st.integers(1, LARGEST_LEVEL), max_size=30), st.integers(0, 255))
def test_levels_survive_under_any_model(wanted: list[int], model: int) -> None:
    writer = RansWriter()
    code_levels(writer, len(wanted), model, np.array(wanted, np.int64))
    assert code_levels(RansReader(writer.finish(SEEDS), 2), len(wanted), model, None).tolist() == wanted


def test_offsets_survive() -> None:
    changed, wanted = np.array([1, 5, 6]), np.array([0, 31, 63])
    writer = RansWriter()
    code_offsets(writer, changed, wanted)
    assert code_offsets(RansReader(writer.finish(SEEDS), 2), changed, None).tolist() == wanted.tolist()


class LyingCoder:
    """Says the largest that each symbol or digit may be."""

    def symbols(self, tables: FrequencyTables, which: Int64Array, wanted: Int64Array | None) -> Int64Array:
        del wanted
        return np.full(len(which), tables.alphabet - 2)

    def digits(self, radices: Int64Array, wanted: Int64Array | None) -> Int64Array:
        del wanted
        return radices - 1


def test_counts_and_gaps_beyond_a_row_are_refused() -> None:
    rows = rows_of((2, 8))
    with pytest.raises(CodecError, match="more weights of a row than there are"):
        code_counts(LyingCoder(), rows, np.array([1]), np.array([0]), None)
    with pytest.raises(CodecError, match="out of its row"):
        code_positions(LyingCoder(), rows, np.array([2, 2]), None)
