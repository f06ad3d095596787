"""The flat parameter vector."""

import hashlib
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.errors import ModelError
from ams_common.layout import DIGEST_BYTES, ParameterLayout, TensorSpec, weights_digest


def make_layout(*specs: tuple[str, tuple[int, ...], bool]) -> ParameterLayout:
    return ParameterLayout(tuple(TensorSpec(name=name, shape=shape, trainable=trainable) for name, shape, trainable in specs))


LAYOUT = make_layout(("stem.weight", (2, 3), True), ("scale", (), True), ("norm.mean", (4,), False))


def test_sizes_and_offsets() -> None:
    assert LAYOUT.size == 11
    assert LAYOUT.trainable_size == 7
    assert LAYOUT.offsets == (0, 6, 7)
    assert make_layout(("mean", (4,), False)).trainable_size == 0


@pytest.mark.parametrize("specs", [(), (("weight", (0, 3), True),)])
def test_a_layout_without_elements_is_refused(specs: tuple[tuple[str, tuple[int, ...], bool], ...]) -> None:
    with pytest.raises(ModelError, match="layout has no elements"):
        make_layout(*specs)


def test_a_statistic_before_a_parameter_is_refused() -> None:
    with pytest.raises(ModelError, match="running statistic before a trainable"):
        make_layout(("norm.mean", (4,), False), ("weight", (2,), True))


def test_a_name_may_occur_once() -> None:
    with pytest.raises(ModelError, match="twice"):
        make_layout(("weight", (4,), True), ("weight", (2,), True))


def test_views_write_through() -> None:
    vector = np.zeros(11, np.float32)
    for number, (tensor, view) in enumerate(LAYOUT.views(vector), start=1):
        assert view.shape == tensor.shape
        view[...] = number
    assert vector.tolist() == [1] * 6 + [2] + [3] * 4


@pytest.mark.parametrize("shape", [(10,), (12,), (11, 1), ()])
def test_views_of_another_vector_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="layout of 11 elements"):
        list(LAYOUT.views(np.zeros(shape, np.float32)))


@given(st.randoms(use_true_random=False))
def test_flatten_puts_arrays_in_layout_order_whatever_order_they_come_in(random: Random) -> None:
    vector = np.arange(11, dtype=np.float32)
    arrays = [(tensor.name, view.copy()) for tensor, view in LAYOUT.views(vector)]
    random.shuffle(arrays)
    assert LAYOUT.flatten([*arrays, ("unrelated", np.zeros(3, np.float32))]).tolist() == vector.tolist()


def test_flatten_makes_float32_of_other_floats() -> None:
    layout = make_layout(("a", (2,), True))
    vector = layout.flatten([("a", np.array([0.1, 2.0], np.float64))])
    assert vector.dtype == np.float32
    assert vector.tolist() == np.array([0.1, 2.0], np.float32).tolist()


def test_flatten_says_what_is_missing_or_misshapen() -> None:
    weight = ("stem.weight", np.zeros((2, 3), np.float32))
    with pytest.raises(ModelError, match=r"lack the tensor 'scale' of shape \(\)"):
        LAYOUT.flatten([weight])
    with pytest.raises(ModelError, match=r"'stem.weight' has shape \(3, 2\), the model needs \(2, 3\)"):
        LAYOUT.flatten([("stem.weight", np.zeros((3, 2), np.float32))])


def test_the_digest_tells_names_shapes_order_and_kind_apart() -> None:
    layouts = [
        LAYOUT,
        make_layout(("stem.weight", (3, 2), True), ("scale", (), True), ("norm.mean", (4,), False)),
        make_layout(("stem.weights", (2, 3), True), ("scale", (), True), ("norm.mean", (4,), False)),
        make_layout(("scale", (), True), ("stem.weight", (2, 3), True), ("norm.mean", (4,), False)),
        make_layout(("stem.weight", (2, 3), True), ("scale", (), True), ("norm.mean", (4,), True)),
    ]
    assert len({layout.digest for layout in layouts}) == len(layouts)
    assert all(len(layout.digest) == DIGEST_BYTES for layout in layouts)
    assert ParameterLayout(LAYOUT.tensors).digest == LAYOUT.digest


@given(st.lists(st.floats(width=32), max_size=20))
def test_the_weights_digest_is_blake2b_over_little_endian_float32(values: list[float]) -> None:
    vector = np.array(values, np.float32)
    expected = hashlib.blake2b(vector.astype("<f4").tobytes(), digest_size=16).digest()
    assert weights_digest(vector) == expected
    assert weights_digest(vector.astype(">f4")) == expected
    assert weights_digest(np.repeat(vector, 2)[::2]) == expected


def test_one_bit_changes_the_weights_digest() -> None:
    vector = np.ones(5, np.float32)
    other = vector.copy()
    other.view(np.uint32)[3] ^= 1
    assert weights_digest(vector) != weights_digest(other)
    assert weights_digest(np.zeros(1, np.float32)) != weights_digest(np.array([-0.0], np.float32))
