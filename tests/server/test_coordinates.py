import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ams_common.layout import ParameterLayout, TensorSpec
from ams_server.coordinates import (
    Int64Array,
    biases_and_last_coordinates,
    coordinate_count,
    first_and_last_coordinates,
    first_coordinates,
    largest_coordinates,
    last_coordinates,
    uniform_coordinates,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_well_formed(positions: Int64Array, size: int, count: int) -> None:
    assert positions.dtype == np.int64
    assert len(positions) == count
    assert (np.diff(positions) > 0).all()
    assert count == 0 or 0 <= positions[0] <= positions[-1] < size


@pytest.mark.parametrize(
    ("size", "fraction", "count"), [(2_113_043, 0.05, 105_652), (100, 1.0, 100), (7, 0.01, 1), (10, 0.25, 2), (1, 1.0, 1)]
)
def test_count_is_the_rounded_fraction_and_at_least_one(size: int, fraction: float, count: int) -> None:
    assert coordinate_count(size, fraction) == count


# Few distinct values make ties at the threshold the rule.
SCORES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]) | st.floats(0, 10, width=32), min_size=1, max_size=60)


@given(SCORES, st.data())
def test_largest_are_exactly_count_and_none_left_out_is_larger(values: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(values)))
    scores = torch.tensor(values)
    positions = largest_coordinates(scores, count, seeded())
    assert_well_formed(positions, len(values), count)
    left_out = np.delete(scores.numpy(), positions)
    assert left_out.size == 0 or scores.numpy()[positions].min() >= left_out.max()


def test_largest_without_ties_need_no_luck() -> None:
    scores = torch.tensor([0.1, 5.0, 0.3, 4.0, 0.2])
    assert largest_coordinates(scores, 2, seeded(1)).tolist() == [1, 3]
    assert largest_coordinates(scores, 2, seeded(2)).tolist() == [1, 3]


def test_ties_are_broken_by_the_seed_and_not_by_position() -> None:
    scores = torch.ones(1000)
    scores[990] = 2.0
    positions = largest_coordinates(scores, 100, seeded(3))
    assert 990 in positions
    assert 350 < positions.mean() < 650
    np.testing.assert_array_equal(positions, largest_coordinates(scores, 100, seeded(3)))
    assert positions.tolist() != largest_coordinates(scores, 100, seeded(4)).tolist()


@given(st.integers(1, 200), st.data())
def test_uniform_positions_are_well_formed(size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, size))
    assert_well_formed(uniform_coordinates(size, count, seeded(7)), size, count)


def test_uniform_positions_cover_everything_equally_and_follow_the_seed() -> None:
    generator = seeded(11)
    counts = np.zeros(50)
    for _ in range(2000):
        counts[uniform_coordinates(50, 5, generator)] += 1
    assert counts.sum() == 10_000
    assert 140 < counts.min() <= counts.max() < 260
    assert uniform_coordinates(50, 5, seeded(1)).tolist() == uniform_coordinates(50, 5, seeded(1)).tolist()
    assert uniform_coordinates(50, 5, seeded(1)).tolist() != uniform_coordinates(50, 5, seeded(2)).tolist()


@given(st.integers(1, 100), st.data())
def test_ends_are_well_formed(size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, size))
    for choose in (first_coordinates, last_coordinates, first_and_last_coordinates):
        assert_well_formed(choose(size, count), size, count)


def test_ends_are_where_they_should_be() -> None:
    assert first_coordinates(10, 3).tolist() == [0, 1, 2]
    assert last_coordinates(10, 3).tolist() == [7, 8, 9]
    assert first_and_last_coordinates(10, 5).tolist() == [0, 1, 2, 8, 9]
    assert first_and_last_coordinates(10, 1).tolist() == [0]


def layout(*shapes: tuple[int, ...]) -> ParameterLayout:
    tensors = [TensorSpec(name=str(number), shape=shape) for number, shape in enumerate(shapes)]
    return ParameterLayout((*tensors, TensorSpec(name="running", shape=(4,), trainable=False)))


def test_biases_scales_and_the_last_layer_are_found_by_their_shapes() -> None:
    convolution_norm_and_two_layers = layout((2, 1, 3, 1), (2,), (2,), (3, 2), (3,), (2, 3, 1, 1), (2,))
    positions = biases_and_last_coordinates(convolution_norm_and_two_layers)
    assert positions.tolist() == [6, 7, 8, 9, *range(16, 27)]
    assert_well_formed(positions, convolution_norm_and_two_layers.trainable_size, 15)


@pytest.mark.parametrize(("shapes", "count"), [([(4, 2)], 8), ([(5,), (1,)], 6), ([()], 1), ([], 0)])
def test_a_network_of_one_layer_or_none_has_biases_and_last_too(shapes: list[tuple[int, ...]], count: int) -> None:
    assert biases_and_last_coordinates(layout(*shapes)).tolist() == list(range(count))
