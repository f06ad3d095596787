"""Changes in whole steps: how far off, how many, and what cannot be expressed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.delta_rows import LARGEST_LEVEL, layout_rows
from ams_common.errors import ModelError
from ams_common.layout import Float32Array, ParameterLayout, TensorSpec
from ams_common.quantiser import (
    LEAST_STEP,
    MOST_STEP,
    MULTIPLES,
    Quantised,
    Survivors,
    changes_of,
    moved,
    quantise,
    rounded_step,
)
from ams_common.rate_distortion import ChangeBits, bits_of_changes
from ams_common.sparse_update import EncodingPlan

LAYOUT = ParameterLayout(
    (
        TensorSpec(name="first", shape=(40, 5)),
        TensorSpec(name="second", shape=(100,)),
        TensorSpec(name="variance", shape=(50,), trainable=False),
    )
)


def quantised(base: Float32Array, target: Float32Array, **plan: Any) -> Quantised:
    changes = changes_of(LAYOUT, layout_rows(LAYOUT), base, target, np.arange(LAYOUT.size), EncodingPlan(**plan))
    return quantise(changes, changes.finest_step)


def applied(base: Float32Array, result: Quantised) -> Float32Array:
    vector = base.copy()
    steps = (result.step * MULTIPLES[result.offsets])[result.tensors]
    vector[result.indices] = moved(base[result.indices], result.levels, steps)
    return vector


def draw(seed: int, spread: float) -> tuple[Float32Array, Float32Array]:
    generator = np.random.default_rng(seed)
    base = generator.normal(0, 0.1, LAYOUT.size).astype(np.float32)
    target = base + generator.normal(0, spread, LAYOUT.size).astype(np.float32)
    base[300:], target[300:] = generator.uniform(1e-4, 10, (2, 50))
    return base, target


@given(st.integers(0, 1000), st.sampled_from([1e-4, 1e-2, 1.0]), st.sampled_from([0.5, 0.7, 1.0]))
def test_no_weight_is_off_by_more_than_the_dead_zone(seed: int, spread: float, dead_zone: float) -> None:
    base, target = draw(seed, spread)
    result = quantised(base, target, step=0.01, step_scales=np.array([1, 0.25, 1], np.float32), dead_zone=dead_zone)
    steps = result.step * MULTIPLES[result.offsets]
    errors = np.abs(applied(base, result) - target)
    assert steps[:2] == pytest.approx([0.01, 0.0025], rel=0.01)
    assert errors[:200].max() <= dead_zone * steps[0] * 1.001
    assert errors[200:300].max() <= dead_zone * steps[1] * 1.001
    assert (result.levels != 0).all()
    assert (np.diff(result.indices) > 0).all()


@pytest.mark.parametrize("dead_zone", [0.5, 1.0])
def test_the_price_of_bits_is_for_trained_weights_alone(dead_zone: float) -> None:
    plan = EncodingPlan(step=1e-4, dead_zone=dead_zone, bit_price=1.0)
    changes = changes_of(LAYOUT, layout_rows(LAYOUT), *draw(0, 1e-3), np.arange(LAYOUT.size), plan)
    dear = ChangeBits(first=np.full(LAYOUT.size, 1e9), further=1.0, price=1.0)
    result = quantise(changes, changes.finest_step, dear)
    assert np.array_equal(np.unique(result.tensors), [2])
    plain = quantise(changes, changes.finest_step)
    assert np.array_equal(result.levels, plain.levels[plain.tensors == 2])


@given(st.integers(0, 1000))
def test_a_statistic_never_passes_its_target(seed: int) -> None:
    base, target = draw(seed, 1e-3)
    new = applied(base, quantised(base, target, step=0.01))[300:]
    low, high = np.minimum(base, target)[300:], np.maximum(base, target)[300:]
    assert (new >= low * 0.999).all()
    assert (new <= high * 1.001).all()
    assert np.abs(new - target[300:]).max() < 0.7


@pytest.mark.parametrize("step", [1e-4, 0.01, 1.0])
def test_statistics_move_by_sixteenths_of_their_own_changes_whatever_the_step(step: float) -> None:
    base, target = draw(0, 1e-3)
    result = quantised(base, target, step=step)
    usual_change = np.sqrt(np.mean((target[300:] - base[300:]) ** 2))
    assert result.step * MULTIPLES[result.offsets[2]] == pytest.approx(usual_change / 16, rel=0.25)


def test_without_a_plan_the_step_is_an_eighth_of_a_usual_change() -> None:
    base, target = draw(0, 0.02)
    assert float(quantised(base, target).step) == pytest.approx(0.0025, rel=0.1)
    assert len(quantised(base, base.copy()).indices) == 0


def test_a_large_change_makes_its_tensors_step_coarser() -> None:
    base = np.zeros(LAYOUT.size, np.float32)
    target = base.copy()
    target[[0, 250]] = [1000.0, 0.01]
    result = quantised(base, target, step=0.001)
    assert result.offsets[0] > result.offsets[1] == 32
    assert result.levels.max() <= LARGEST_LEVEL
    assert applied(base, result)[[0, 250]] == pytest.approx([1000.0, 0.01], rel=0.02)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -3.4e38])
def test_a_weight_that_ran_away_is_not_expressed(value: float) -> None:
    base = np.full(LAYOUT.size, 3e38, np.float32) if value == -3.4e38 else np.zeros(LAYOUT.size, np.float32)
    target = base.copy()
    target[7] = value
    with pytest.raises(ModelError, match="training has diverged"):
        quantised(base, target, step=0.001)


@given(
    st.integers(0, 1000),
    st.sampled_from([1e-4, 1e-2, 1.0]),
    st.sampled_from([0.01, 0.5, 0.7, 1.0]),
    st.sampled_from([0.0, 0.05, 1.0]),
    st.floats(1e-6, 1.0),
    st.floats(1.0, 3.0),
)
def test_what_a_step_or_a_coarser_one_sends_is_among_its_survivors(
    seed: int, spread: float, dead_zone: float, price: float, step: float, coarser: float
) -> None:
    scales = np.array([1, 0.25, 1], np.float32)
    plan = EncodingPlan(step=1e-6, step_scales=scales, dead_zone=dead_zone, bit_price=price)
    rows = layout_rows(LAYOUT)
    changes = changes_of(LAYOUT, rows, *draw(seed, spread), np.arange(LAYOUT.size), plan)
    survivors = Survivors(changes)
    possible = survivors.possible(step)
    lengths, others = rows.lengths[changes.rows], np.full(LAYOUT.size, 2)
    levels = np.array([1, 1, 1, 2])
    among = possible.indices
    of_all = quantise(changes, coarser * step, bits_of_changes(lengths, others, levels, price) if price else None)
    of_possible = quantise(
        possible, coarser * step, bits_of_changes(lengths[among], others[among], levels, price) if price else None
    )
    assert np.array_equal(of_all.indices, of_possible.indices)
    assert np.array_equal(of_all.levels, of_possible.levels)
    assert np.array_equal(of_all.offsets, of_possible.offsets)
    assert survivors.least_count(coarser * step) <= len(of_all.indices)


@pytest.mark.parametrize("price", [0.0, 0.05])
def test_a_fine_step_is_known_to_send_most_changes(price: float) -> None:
    plan = EncodingPlan(step=1e-4, bit_price=price)
    changes = changes_of(LAYOUT, layout_rows(LAYOUT), *draw(0, 1e-2), np.arange(LAYOUT.size), plan)
    assert Survivors(changes).least_count(1e-4) > 300
    assert len(Survivors(changes).possible(0.04).indices) < 60


def test_scales_of_another_layout_are_refused() -> None:
    with pytest.raises(ModelError, match="2 scales for 3 tensors"):
        quantised(*draw(0, 1.0), step_scales=np.ones(2, np.float32))


@given(st.floats(1e-20, 1e20))
def test_two_bytes_express_the_step_nearly(step: float) -> None:
    rounded = rounded_step(step)
    assert LEAST_STEP <= rounded <= MOST_STEP
    assert int(rounded.view(np.uint32)) & 0xFFFF == 0
    if LEAST_STEP <= step <= MOST_STEP:
        assert 0.992 * step <= rounded <= step


def test_multiples_are_exact() -> None:
    assert MULTIPLES[30:36].tolist() == [0.5, 0.75, 1.0, 1.5, 2.0, 3.0]
    assert MULTIPLES[[0, 63]].tolist() == [2.0**-16, 1.5 * 2.0**15]
