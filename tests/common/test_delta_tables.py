"""Tables of `delta-rans`: the distributions that they stand for, and the same ones everywhere."""

import hashlib
from math import comb

import numpy as np
import numpy.typing as npt
import pytest

from ams_common.delta_tables import (
    COUNT_FIRSTS,
    COUNT_SYMBOLS,
    COUNT_WIDTHS,
    LEVEL_ESCAPE,
    LONGEST_ROW,
    count_table,
    count_tables,
    gap_table,
    gap_tables,
    level_tables,
    two_sided_tables,
)
from ams_common.rans import TABLE_BITS, FrequencyTables


def probabilities(tables: FrequencyTables, which: int = 0) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = tables.frequencies.reshape(-1, tables.alphabet)[which] / (1 << TABLE_BITS)
    return found


def test_every_count_has_one_symbol_and_its_place_among_those_that_share_it() -> None:
    counts = np.arange(LONGEST_ROW + 1)
    offsets = counts - COUNT_FIRSTS[COUNT_SYMBOLS]
    assert ((offsets >= 0) & (offsets < COUNT_WIDTHS[COUNT_SYMBOLS])).all()
    assert COUNT_SYMBOLS[:17].tolist() == list(range(17))
    assert COUNT_SYMBOLS[-1] == len(COUNT_FIRSTS) - 1 == 64


@pytest.mark.parametrize(("shape", "quarters"), [(0, 1), (1, 2), (2, 4), (3, 16)])
@pytest.mark.parametrize(("lengths_log", "densities", "mean"), [(13, 14, 2**-0.5), (14, 8, 8.0), (20, 9, 2**5.5)])
def test_counts_are_negative_binomial(shape: int, quarters: int, lengths_log: int, densities: int, mean: float) -> None:
    which = count_table(np.array(lengths_log), np.array(densities), np.array(shape))
    found = probabilities(count_tables(), int(which))
    generator = np.random.default_rng(0)
    drawn = generator.poisson(generator.gamma(quarters / 4, mean / (quarters / 4), 200_000))
    expected = np.bincount(COUNT_SYMBOLS[np.minimum(drawn, LONGEST_ROW)], minlength=65) / len(drawn)
    assert np.abs(found - expected).max() < 0.01


def test_counts_of_rows_beyond_all_means_have_the_last_table() -> None:
    extremes = count_table(np.array([20, 0]), np.array([0, 47]), np.array([3, 0]))
    assert extremes.tolist() == [147, 0]
    assert count_tables().frequencies.size == 148 * 65


@pytest.mark.parametrize(("remaining", "elements"), [(2, 3), (2, 9), (3, 9), (2, 31), (3, 40)])
def test_gaps_are_those_of_equally_probable_choices(remaining: int, elements: int) -> None:
    which, shift = gap_table(np.array(remaining), np.array(elements))
    expected = np.zeros(64)
    for gap in range(elements - remaining + 1):
        expected[gap >> shift] += comb(elements - 1 - gap, remaining - 1) / comb(elements, remaining)
    found = probabilities(gap_tables(), int(which))
    lost_bits = (expected * np.log2(np.maximum(expected, 1e-12) / found)).sum()
    assert lost_bits < 0.06


@pytest.mark.parametrize("remaining", [2, 3, 5, 10, 100, 500])
def test_gap_tables_lose_little_at_any_spacing(remaining: int) -> None:
    for elements in range(remaining + 1, LONGEST_ROW + 1, 13):
        which, shift = gap_table(np.array(remaining), np.array(elements))
        chances = [(elements - remaining) / elements]  # that the first element does not change
        for gap in range(elements - remaining - 1):
            chances.append(chances[-1] * (elements - 1 - gap - remaining) / (elements - 1 - gap))
        exact = -np.diff([1.0, *chances, 0.0])[: elements - remaining + 1]
        found = probabilities(gap_tables(), int(which))
        units = np.minimum(np.arange(len(exact)) >> int(shift), 63)
        lost_bits = (exact * (np.log2(np.maximum(exact, 1e-300)) - np.log2(found[units]) + int(shift))).sum()
        assert lost_bits < 0.25, (remaining, elements)


def test_levels_fall_off_as_the_model_says() -> None:
    found = probabilities(level_tables(16 * 7 + 3))
    assert found[0] == pytest.approx(1 - 2**-4, abs=1e-3)
    assert found[2] / found[1] == pytest.approx(2**-2, rel=0.02)
    assert len(found) == LEVEL_ESCAPE + 1


def test_two_sided_tables_peak_at_their_centre() -> None:
    found = probabilities(two_sided_tables(5, 48))
    assert found.argmax() == 5
    assert found[4] == pytest.approx(found[6])
    assert found[47] > 1e-4


def test_all_machines_have_the_same_tables() -> None:
    digest = hashlib.blake2b(digest_size=8)
    tables = [count_tables(), gap_tables(), two_sided_tables(31, 64), *map(level_tables, range(256))]
    for each in tables:
        digest.update(each.frequencies.astype("<i8").tobytes())
    assert digest.hexdigest() == "70b7a2bea5384703"
