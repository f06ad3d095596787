"""Update codecs: exact mirrors, golden bytes, and bytes from outside."""

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ams_common.compression import gzip_compress, zstd_compress
from ams_common.errors import CodecError, ConfigurationError, ModelError
from ams_common.layout import Float32Array, ParameterLayout, TensorSpec
from ams_common.sparse_update import Int64Array, SparseUpdate, apply_update
from ams_common.update_codec import (
    CODECS,
    DEFAULT_CODEC,
    create_codec,
)

every_codec = pytest.mark.parametrize("name", sorted(CODECS))
every_exact_codec = pytest.mark.parametrize("name", ["gap-zstd", "mask-float16"])
"""Codecs that change all the weights they are told to; `delta-rans` has tests of its own."""


@dataclass(frozen=True)
class Change:
    layout: ParameterLayout
    base: Float32Array
    target: Float32Array
    indices: Int64Array


def make_layout(*sizes: int) -> ParameterLayout:
    return ParameterLayout(tuple(TensorSpec(name=f"t{number}", shape=(size,)) for number, size in enumerate(sizes)))


def make_change(sizes: tuple[int, ...], indices: list[int], seed: int = 0) -> Change:
    layout = make_layout(*sizes)
    generator = np.random.default_rng(seed)
    base = generator.normal(0, 0.1, layout.size).astype(np.float32)
    target = base.copy()
    target[indices] += generator.normal(0, 0.01, len(indices)).astype(np.float32)
    return Change(layout, base, target, np.array(indices, np.int64))


def encoded(name: str, change: Change) -> bytes:
    return create_codec(name, change.layout).encode(change.base, change.target, change.indices)


def decoded(name: str, change: Change, payload: bytes) -> SparseUpdate:
    return create_codec(name, change.layout).decode(payload, change.base)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    sizes = draw(st.lists(st.sampled_from([1, 7, 8, 9, 300, 1000]), min_size=1, max_size=4))
    indices = draw(st.sets(st.integers(0, sum(sizes) - 1), max_size=40))
    return make_change(tuple(sizes), sorted(indices), draw(st.integers(0, 1000)))


SMALL = make_change((9, 700, 3), [0, 8, 9, 300, 708, 711])
MEDIUM = make_change((9, 3000, 30), [*range(3, 1000, 7), *range(1000, 3000, 50), 3010])


@given(changes())
def test_mask_float16_carries_absolute_values_rounded_to_float16(change: Change) -> None:
    update = decoded("mask-float16", change, encoded("mask-float16", change))
    assert np.array_equal(update.indices, change.indices)
    assert np.array_equal(update.values, change.target[change.indices].astype(np.float16).astype(np.float32))
    assert update.indices.dtype == np.int64
    assert update.values.dtype == np.float32


@given(changes())
def test_gap_zstd_carries_changes_rounded_to_float16(change: Change) -> None:
    update = decoded("gap-zstd", change, encoded("gap-zstd", change))
    old, new = change.base[change.indices], change.target[change.indices]
    assert np.array_equal(update.indices, change.indices)
    assert np.array_equal(update.values, old + (new - old).astype(np.float16).astype(np.float32))
    assert update.indices.dtype == np.int64
    assert update.values.dtype == np.float32


@every_exact_codec
@given(
    gaps=st.lists(st.sampled_from([0, 1, 253, 254, 255, 256, 509, 510, 511, 765]), min_size=1, max_size=8),
    rest=st.integers(0, 600),
)
def test_positions_survive_whatever_the_gaps(name: str, gaps: list[int], rest: int) -> None:
    indices = (np.cumsum(np.array(gaps) + 1) - 1).tolist()
    change = make_change((indices[-1] + 1 + rest,), indices)
    assert decoded(name, change, encoded(name, change)).indices.tolist() == indices


@every_exact_codec
@pytest.mark.parametrize("indices", [[], list(range(20))], ids=["none", "all"])
def test_none_and_all_parameters_may_change(name: str, indices: list[int]) -> None:
    change = make_change((13, 7), indices)
    assert decoded(name, change, encoded(name, change)).indices.tolist() == indices


@every_exact_codec
def test_applying_moves_only_the_chosen_parameters_of_a_new_vector(name: str) -> None:
    before = SMALL.base.copy()
    vector = apply_update(SMALL.base, decoded(name, SMALL, encoded(name, SMALL)))
    assert np.flatnonzero(vector != before).tolist() == SMALL.indices.tolist()
    assert np.allclose(vector, SMALL.target, atol=1e-4)
    assert np.array_equal(SMALL.base, before)


GOLDEN = {
    "mask-float16": "1a000000" + "1f8b0800000000000203736860a016600400f512eb404c000000" + "003c00c00034",
    "gap-zstd": "03000000050000000e0000000c000000"
    + "28b52ffd20052900000101ffff58"
    + "28b52ffd20031900003cc034"
    + "28b52ffd2003190000000000",
}


@every_exact_codec
def test_golden_bytes(name: str) -> None:
    layout = make_layout(3, 600)
    base = np.zeros(603, np.float32)
    target = base.copy()
    target[[1, 3, 602]] = [1.0, -2.0, 0.25]
    codec = create_codec(name, layout)
    payload = codec.encode(base, target, np.array([1, 3, 602]))
    assert payload.hex() == GOLDEN[name]
    assert apply_update(base, codec.decode(payload, base)).tolist() == target.tolist()


@every_exact_codec
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 70000.0])
def test_a_value_beyond_float16_is_never_encoded(name: str, value: float) -> None:
    target = SMALL.target.copy()
    target[SMALL.indices[2]] = value
    with pytest.raises(ModelError, match="training has diverged"):
        create_codec(name, SMALL.layout).encode(SMALL.base, target, SMALL.indices)


@every_codec
def test_vectors_of_another_model_are_refused(name: str) -> None:
    codec = create_codec(name, SMALL.layout)
    with pytest.raises(ModelError, match="711"):
        codec.encode(SMALL.base[1:], SMALL.target, SMALL.indices)
    with pytest.raises(ModelError, match="711"):
        codec.decode(encoded(name, SMALL), SMALL.base[1:])


@every_codec
def test_any_truncation_and_any_addition_is_refused(name: str) -> None:
    payload = encoded(name, SMALL)
    for length in range(len(payload)):
        with pytest.raises(CodecError):
            decoded(name, SMALL, payload[:length])
    with pytest.raises(CodecError):
        decoded(name, SMALL, payload + b"\x00")


def test_an_empty_update_is_its_header_alone() -> None:
    change = make_change((5,), [])
    assert encoded("gap-zstd", change) == bytes(16)
    with pytest.raises(CodecError):
        decoded("gap-zstd", change, bytes(17))


def decode_or_refuse(name: str, payload: bytes, change: Change = SMALL) -> None:
    """Whatever arrives is refused with a CodecError or is an update that may be applied."""
    try:
        update = decoded(name, change, payload)
    except CodecError:
        return
    assert update.indices.size == update.values.size <= change.layout.size
    assert np.isfinite(update.values).all()
    assert (np.diff(update.indices) > 0).all()
    assert apply_update(change.base, update).shape == change.base.shape


MOST_CALLS = {"gap-zstd": 200, "mask-float16": 200, "delta-rans": 300_000}
"""Calls that decoding a payload for MEDIUM may take. Each works on no more than the memory it may have, so they bound time.

delta-rans reads in steps of some ten calls, in one lane at worst: four for each of 3000 weights, and two rounds of ten for each
place in the longest row.
"""


def calls_of(work: Callable[[], object]) -> int:
    """Return how many calls of functions, those written in C too, `work` takes."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@every_codec
@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(1, 255))
def test_a_mutated_payload_is_refused_or_harmless(name: str, position: int, value: int) -> None:
    payload = bytearray(encoded(name, SMALL))
    payload[position % len(payload)] ^= value
    decode_or_refuse(name, bytes(payload))


@every_codec
@settings(max_examples=300, deadline=None)
@given(
    bytes_changed=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=2, max_size=30),
    moved=st.tuples(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 60)),
    length=st.integers(1, 10_000),
)
def test_a_payload_mangled_in_many_places_is_refused_or_harmless_and_takes_little_memory_and_work(
    name: str, bytes_changed: list[tuple[int, int]], moved: tuple[int, int, int], length: int
) -> None:
    payload = bytearray(encoded(name, MEDIUM))
    for position, value in bytes_changed:
        payload[position % len(payload)] = value
    source, target, size = moved[0] % len(payload), moved[1] % len(payload), moved[2]
    payload[target : target + size] = payload[source : source + size]
    mangled = bytes(payload[: max(length, len(payload) // 2)])
    decode_or_refuse(name, mangled, MEDIUM)  # fills caches
    tracemalloc.start()
    decode_or_refuse(name, mangled, MEDIUM)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 100 * MEDIUM.layout.size + 200_000
    assert calls_of(lambda: decode_or_refuse(name, mangled, MEDIUM)) <= MOST_CALLS[name]


@every_codec
@given(payload=st.binary(max_size=200))
def test_random_bytes_are_refused_or_harmless(name: str, payload: bytes) -> None:
    decode_or_refuse(name, payload)


@given(header=st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 20), min_size=4, max_size=4), body=st.binary(max_size=40))
def test_random_counts_are_refused_or_harmless(header: list[int], body: bytes) -> None:
    decode_or_refuse("gap-zstd", np.array(header, "<u4").tobytes() + body)


def gap_zstd_payload(count: int, gaps: bytes, upper: bytes, lower: bytes) -> bytes:
    frames = [zstd_compress(plane, 3) for plane in (gaps, upper, lower)]
    return np.array([count, len(gaps), len(frames[0]), len(frames[1])], "<u4").tobytes() + b"".join(frames)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (gap_zstd_payload(713, b"\x00" * 713, b"\x00" * 713, b"\x00" * 713), "713 changes"),
        (gap_zstd_payload(1, b"\xff\xff\xff\x00", b"\x00", b"\x00"), "in 4 bytes"),
        (gap_zstd_payload(1, b"\xff\xff\xca", b"\x00", b"\x00"), "parameter 712 of 712"),
        (gap_zstd_payload(2, b"\x01", b"\x00\x00", b"\x00\x00"), "gaps for 1 changes"),
        (gap_zstd_payload(1, b"\x01\x01", b"\x00", b"\x00"), "gaps for 2 changes"),
        (gap_zstd_payload(1, b"\x01\xff", b"\x00", b"\x00"), "gaps for 1 changes"),
        (gap_zstd_payload(0, b"\xff", b"", b""), "gaps for 0 changes"),
        (gap_zstd_payload(1, b"\x01", b"\x00\x00", b"\x00"), "states a size of 2 bytes"),
        (gap_zstd_payload(1, b"\x01", b"\x7c", b"\x00"), "not finite"),
        (gap_zstd_payload(1, b"\x01", b"\x7e", b"\x01"), "not finite"),
        (gap_zstd_payload(1, b"\x01", b"\xfc", b"\x01"), "not finite"),  # a signalling NaN
    ],
)
def test_gap_zstd_says_what_is_wrong(payload: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        decoded("gap-zstd", SMALL, payload)


def test_mask_float16_says_what_is_wrong() -> None:
    mask = gzip_compress(b"\x80\x00" + bytes(88) + b"\x00")
    header = np.array([len(mask)], "<u4").tobytes()
    assert decoded("mask-float16", SMALL, header + mask + b"\x00\x3c").values.tolist() == [1.0]
    with pytest.raises(CodecError, match="0 bytes of values for 1 parameters"):
        decoded("mask-float16", SMALL, header + mask)
    for value in (b"\x00\x7c", b"\x01\xfc"):
        with pytest.raises(CodecError, match="not finite"):
            decoded("mask-float16", SMALL, header + mask + value)
    padded = gzip_compress(b"\x80\x01" + bytes(88) + b"\x00")
    with pytest.raises(CodecError, match="padding"):
        decoded("mask-float16", SMALL, np.array([len(padded)], "<u4").tobytes() + padded + b"\x00\x3c")


def bombs() -> dict[str, bytes]:
    zeros = bytes(1 << 26)
    zstd, gzip = zstd_compress(zeros, 1), gzip_compress(zeros)
    return {
        "gap-zstd": np.array([700, 700, len(zstd), len(zstd)], "<u4").tobytes() + 3 * zstd,
        "mask-float16": np.array([len(gzip)], "<u4").tobytes() + gzip,
    }


@every_exact_codec
def test_a_bomb_takes_no_memory_and_no_work(name: str) -> None:
    payload = bombs()[name]
    assert calls_of(lambda: decode_or_refuse(name, payload)) <= MOST_CALLS[name]
    tracemalloc.start()
    with pytest.raises(CodecError):
        decoded(name, SMALL, payload)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 4 * len(payload) + 100_000


def test_a_frame_that_lies_about_its_size_is_refused() -> None:
    frame = bytearray(zstd_compress(bytes(5000), 3))
    assert int.from_bytes(frame[5:7], "little") + 256 == 5000
    frame[5:7] = (400 - 256).to_bytes(2, "little")
    payload = np.array([400, 400, len(frame), len(frame)], "<u4").tobytes() + 3 * bytes(frame)
    with pytest.raises(CodecError, match="damaged"):
        decoded("gap-zstd", SMALL, payload)


def test_gaps_beat_the_reference_format_on_a_plausible_update() -> None:
    indices = np.flatnonzero(np.random.default_rng(1).random(200_000) < 0.05)
    change = make_change((200_000,), indices.tolist())
    gap, mask = (len(encoded(name, change)) * 8 / indices.size for name in ("gap-zstd", "mask-float16"))
    assert gap < 20 < 22 < mask < 24


def test_codecs_are_found_by_name() -> None:
    assert DEFAULT_CODEC == next(iter(CODECS)) == "delta-rans"
    assert [create_codec(name, SMALL.layout).name for name in CODECS] == list(CODECS)
    with pytest.raises(ConfigurationError, match="unknown update codec 'gap': use delta-rans, gap-zstd, mask-float16"):
        create_codec("gap", SMALL.layout)


@pytest.mark.parametrize("name", CODECS)
def test_changes_that_no_float_holds_are_refused_in_words(name: str) -> None:
    target = np.full(SMALL.layout.size, 3e38, np.float32)
    with pytest.raises(ModelError, match="training has diverged"):
        create_codec(name, SMALL.layout).encode(-target, target, SMALL.indices)
