"""Whole vectors: exact round trips, alone and against a base, golden bytes, and bytes from outside."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ams_common.compression import zstd_compress
from ams_common.errors import CodecError, ModelError
from ams_common.layout import Float32Array, ParameterLayout, TensorSpec
from ams_common.snapshot_codec import decode_snapshot, encode_snapshot

LAYOUT = ParameterLayout((TensorSpec(name="matrix", shape=(3, 4)), TensorSpec(name="bias", shape=(2,))))
ROWS = 4
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def noise(seed: int, size: int = LAYOUT.size) -> Float32Array:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def vectors(values: st.SearchStrategy[float]) -> st.SearchStrategy[Float32Array]:
    lists = st.lists(values, min_size=LAYOUT.size, max_size=LAYOUT.size)
    return lists.map(lambda numbers: np.array(numbers, np.float32))


@settings(max_examples=300)
@given(vector=vectors(FINITE | st.sampled_from([0.0, -0.0, 0.5, 1e-45, 3e38, -3e38])), base=st.none() | vectors(FINITE))
def test_a_snapshot_is_exact(vector: Float32Array, base: Float32Array | None) -> None:
    restored = decode_snapshot(encode_snapshot(vector, LAYOUT, base), LAYOUT, base)
    assert restored.tobytes() == vector.tobytes()
    assert restored.dtype == np.float32


@example(exponent=103, wholes=np.full(14, 8, np.float32))
@example(exponent=112, wholes=np.full(14, 2**14, np.float32))
@given(exponent=st.integers(-149, 104), wholes=vectors(st.integers(-(2**15) + 1, 2**15 - 1).map(float)))
def test_multiples_of_a_power_of_two_are_exact_at_any_scale(exponent: int, wholes: Float32Array) -> None:
    vector = np.ldexp(wholes, exponent)
    assert decode_snapshot(encode_snapshot(vector, LAYOUT), LAYOUT).tobytes() == vector.tobytes()


def test_the_bytes_are_as_documented() -> None:
    vector = np.array([1, -1, 0, 300, *[0] * 4, *[0.1] * 4, 0.5, -1.5], np.float32)
    tenth = np.float32(0.1).tobytes()
    exponents = bytes([150, 150, 0, 149])
    lower, upper = bytes([2, 1, 0, 88, 0, 0, 0, 0, 2, 5]), bytes([0, 0, 0, 2, 0, 0, 0, 0, 0, 0])
    planes = b"".join(tenth[byte : byte + 1] * 4 for byte in range(4))
    document = exponents + lower + upper + planes
    assert encode_snapshot(vector, LAYOUT) == zstd_compress(document, 3)
    assert decode_snapshot(zstd_compress(document, 19), LAYOUT).tobytes() == vector.tobytes()


def test_a_base_of_equal_bits_leaves_next_to_nothing() -> None:
    layout = ParameterLayout((TensorSpec(name="matrix", shape=(1000, 1000)),))
    weights = noise(1, layout.size)
    nothing = np.zeros_like(weights)
    data = encode_snapshot(weights, layout, weights)
    assert len(data) < 300
    assert data == encode_snapshot(nothing, layout, nothing)


def test_what_is_rounded_takes_what_its_whole_numbers_take() -> None:
    layout = ParameterLayout((TensorSpec(name="matrix", shape=(100, 1000)),))
    base, wholes = (np.rint(deviation * noise(deviation, layout.size)) + np.float32(0) for deviation in (100, 4))
    # The entropy of a Gaussian of deviation 4, in whole numbers: log2(4 sqrt(2 pi e)) bits.
    bits = 8 * len(encode_snapshot(base + np.ldexp(wholes, -12), layout, base)) / layout.size
    assert 4.05 < bits < 4.7


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_snapshot_is_finite_both_ways(value: float) -> None:
    vector = noise(1)
    vector[1] = value
    with pytest.raises(ModelError, match="parameter 1 is not finite"):
        encode_snapshot(vector, LAYOUT)
    planes = vector.view(np.uint8).reshape(-1, 4).T.tobytes()
    with pytest.raises(CodecError, match="not finite"):
        decode_snapshot(zstd_compress(bytes(ROWS) + planes, 3), LAYOUT)


def test_a_sum_that_leaves_the_range_is_refused() -> None:
    base = np.full(LAYOUT.size, 3.4e38, np.float32)
    steps = b"\xfe\xff" * LAYOUT.size
    document = bytes([254] * ROWS) + steps[::2] + steps[1::2]
    with pytest.raises(CodecError, match="not finite"):
        decode_snapshot(zstd_compress(document, 3), LAYOUT, base)


@pytest.mark.parametrize("size", [0, 1, ROWS - 1, ROWS, ROWS + 4 * LAYOUT.size - 1, ROWS + 4 * LAYOUT.size + 1])
@pytest.mark.parametrize("fill", [0, 150])
def test_another_length_is_refused(size: int, fill: int) -> None:
    with pytest.raises(CodecError):
        decode_snapshot(zstd_compress(bytes([fill] * size), 3), LAYOUT)


def test_no_memory_is_taken_for_what_cannot_be() -> None:
    bomb = zstd_compress(bytes(2**26), 19)
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="states a size of 67108864 bytes"):
            decode_snapshot(bomb, LAYOUT)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_finite(data: st.DataObject) -> None:
    content = bytearray(encode_snapshot(noise(1), LAYOUT))
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[position] ^= data.draw(st.integers(1, 255))
    elif data.draw(st.booleans()):
        del content[position:]
    else:
        content += data.draw(st.binary(min_size=1, max_size=20))
    try:
        vector = decode_snapshot(bytes(content), LAYOUT)
    except CodecError:
        return
    assert np.isfinite(vector).all()


@given(document=st.binary(max_size=ROWS + 4 * LAYOUT.size))
def test_whatever_decompresses_is_refused_or_finite(document: bytes) -> None:
    try:
        vector = decode_snapshot(zstd_compress(document, 1), LAYOUT, noise(1))
    except CodecError:
        return
    assert np.isfinite(vector).all()
