"""Rounding by rate and distortion: what it costs to change, and that nothing else is cheaper."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.delta_models import estimated_bits
from ams_common.delta_rows import layout_rows
from ams_common.layout import ParameterLayout, TensorSpec
from ams_common.rans import Int64Array
from ams_common.rate_distortion import LEAST_PRICED, ChangeBits, bits_of_changes, cheapest_levels, surely_priced

ROWS = layout_rows(ParameterLayout((TensorSpec(name="a", shape=(200, 300)),)))
PER_ROW = np.random.default_rng(0).poisson(6, 200)


def geometric_levels(count: int, goes_on: float = 0.25) -> Int64Array:
    return np.random.default_rng(1).geometric(1 - goes_on, count)


@given(
    wanted=st.lists(st.floats(0, 12), min_size=1, max_size=20),
    first=st.floats(0, 20),
    further=st.floats(0.01, 8),
    price=st.floats(0, 1),
)
def test_no_other_number_of_steps_is_cheaper(wanted: list[float], first: float, further: float, price: float) -> None:
    changes = np.array(wanted)
    levels = cheapest_levels(changes, ChangeBits(first=np.full(len(changes), first), further=further, price=price))
    choices = np.arange(15.0)
    bits = np.where(choices > 0, first + (choices - 1) * further, 0)
    costs = np.square(changes[:, np.newaxis] - choices) + price * bits
    chosen = np.take_along_axis(costs, levels.astype(np.int64)[:, np.newaxis], 1)[:, 0]
    assert chosen == pytest.approx(costs.min(1), abs=1e-9)
    assert (levels <= np.floor(changes + 0.5)).all()


def test_what_costs_nothing_is_rounded_to_the_nearest() -> None:
    changes = np.linspace(0.01, 6.02, 50)
    bits = ChangeBits(first=np.full(50, 9.0), further=2.0, price=0.0)
    assert np.array_equal(cheapest_levels(changes, bits), np.rint(changes))


def test_one_change_more_in_each_row_takes_as_many_bits_as_the_whole_grows_by() -> None:
    levels, more = geometric_levels(int(PER_ROW.sum())), geometric_levels(200)
    bits = bits_of_changes(ROWS.lengths, PER_ROW, levels, 0.1)
    before = estimated_bits(ROWS, PER_ROW, levels)
    after = estimated_bits(ROWS, PER_ROW + 1, np.concatenate([levels, more]))
    assert bits.first.sum() + bits.further * (more - 1).sum() == pytest.approx(after - before, rel=0.05)


def test_a_change_is_cheaper_where_many_change() -> None:
    counts = np.zeros(200, np.int64)
    counts[:3] = 1, 30, 300
    first = bits_of_changes(ROWS.lengths, counts, np.ones(331, np.int64), 0.1).first
    assert first[3] > first[0] > first[1] > first[2] == 0
    assert first[0] - first[1] == pytest.approx(np.log2((299.5 / 1.5) / (270.5 / 30.5)))


@pytest.mark.parametrize("goes_on", [0.1, 0.5, 0.8])
def test_a_further_step_takes_the_bits_of_going_on(goes_on: float) -> None:
    bits = bits_of_changes(ROWS.lengths, PER_ROW, geometric_levels(100_000, goes_on), 0.1)
    assert bits.further == pytest.approx(-np.log2(goes_on), rel=0.02)


def test_without_changes_there_are_still_bits() -> None:
    bits = bits_of_changes(ROWS.lengths, np.zeros(200, np.int64), np.zeros(0, np.int64), 0.1)
    assert bits.further == 8
    assert bits.first[0] == pytest.approx(np.log2(601) + 1, abs=0.01)


@given(
    price=st.floats(1e-3, 1.0),
    others=st.integers(0, 1023),
    levels=st.lists(st.integers(1, 5000), max_size=5),
    more=st.floats(0, 50),
)
def test_large_changes_move_whatever_bits_cost_and_small_ones_do_not(
    price: float, others: int, levels: list[int], more: float
) -> None:
    bits = bits_of_changes(np.array([1024, 1024]), np.array([others, 0]), np.array(levels, np.int64), price)
    sure = surely_priced(price) * 1.0001 + more
    assert (cheapest_levels(np.array([sure, sure]), bits) > 0).all()
    assert not cheapest_levels(np.full(2, LEAST_PRICED * 0.9999), bits).any()
