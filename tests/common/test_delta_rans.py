"""The update codec `delta-rans`: mirrors, sizes, golden bytes, limits, and bytes from outside."""

import struct
import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ams_common.delta_rans import DeltaRans
from ams_common.errors import CodecError, ModelError
from ams_common.layout import Float32Array, ParameterLayout, TensorSpec
from ams_common.quantiser import Changes, Quantised, quantise
from ams_common.rans import RansReader, RansWriter
from ams_common.rate_distortion import ChangeBits
from ams_common.sparse_update import (
    COARSEST_STEP,
    FINEST_STEP,
    LEAST_DEAD_ZONE,
    MOST_BIT_PRICE,
    EncodingPlan,
    Int64Array,
    SparseUpdate,
    apply_update,
)

SHAPES = ((8, 3, 3, 3), (8,), (16, 8), (16, 1, 3, 3), (2, 1500), ())


@dataclass(frozen=True)
class Change:
    layout: ParameterLayout
    base: Float32Array
    target: Float32Array
    indices: Int64Array

    def encoded(self, **plan: Any) -> bytes:
        return DeltaRans(self.layout).encode(self.base, self.target, self.indices, EncodingPlan(**plan))

    def decoded(self, payload: bytes) -> SparseUpdate:
        return DeltaRans(self.layout).decode(payload, self.base)


def make_change(shapes: tuple[tuple[int, ...], ...], density: float, seed: int = 0, spread: float = 0.01) -> Change:
    """Draw a change in which rows differ in how much of them changes."""
    layout = ParameterLayout(tuple(TensorSpec(name=f"t{number}", shape=shape) for number, shape in enumerate(shapes)))
    generator = np.random.default_rng(seed)
    base = generator.normal(0, 0.1, layout.size).astype(np.float32)
    rows = [np.repeat(generator.gamma(0.5, 2.0, shape[0] if shape else 1), max(1, int(np.prod(shape[1:])))) for shape in shapes]
    indices = np.flatnonzero(generator.random(layout.size) < density * np.concatenate(rows))
    target = base.copy()
    target[indices] += generator.laplace(0, spread, indices.size).astype(np.float32)
    return Change(layout, base, target, indices)


SMALL = make_change(SHAPES, 0.1)
LARGE = make_change(((256, 512), (512,), (512, 256), (64, 9)), 0.03)


@settings(deadline=None)  # the first call computes the tables
@given(
    shapes=st.lists(st.sampled_from(SHAPES), min_size=1, max_size=4),
    density=st.sampled_from([0.0, 0.02, 0.4, 10.0]),
    seed=st.integers(0, 1000),
    step=st.sampled_from([0.0, 1e-4, 0.01, 0.2]),
)
def test_the_edge_gets_the_change_in_whole_steps(shapes: list[tuple[int, ...]], density: float, seed: int, step: float) -> None:
    change = make_change(tuple(shapes), density, seed)
    payload = change.encoded(step=step)
    update = change.decoded(payload)
    sent_step = np.array([struct.unpack_from("<H", payload)[0] << 16], "<u4").view("<f4")[0]
    changes = change.target - change.base
    levels = np.sign(changes) * np.floor(np.abs(changes) / sent_step + np.float32(0.5))
    expected = np.flatnonzero(levels)
    assert np.array_equal(update.indices, expected)
    assert np.array_equal(update.values, change.base[expected] + levels[expected].astype(np.float32) * sent_step)
    assert update.indices.dtype == np.int64
    assert update.values.dtype == np.float32


def test_an_update_of_an_update_leads_on() -> None:
    """What is lost in one update is in the difference to the target of the next."""
    vector, codec = SMALL.base, DeltaRans(SMALL.layout)
    for _ in range(3):
        vector = apply_update(vector, codec.decode(codec.encode(vector, SMALL.target, SMALL.indices), vector))
    assert np.abs(vector - SMALL.target).max() < 0.2 * np.abs(SMALL.base - SMALL.target).max()
    untouched = np.setdiff1d(np.arange(SMALL.layout.size), SMALL.indices)
    assert np.array_equal(vector[untouched], SMALL.base[untouched])


def test_nothing_to_say_takes_a_few_bytes() -> None:
    payload = DeltaRans(LARGE.layout).encode(LARGE.base, LARGE.base, LARGE.indices)
    assert len(payload) < 16
    assert len(LARGE.decoded(payload).indices) == 0


def test_golden_bytes() -> None:
    layout = ParameterLayout((TensorSpec(name="a", shape=(2, 600)), TensorSpec(name="b", shape=(3,))))
    base = np.zeros(1203, np.float32)
    target = base.copy()
    target[[1, 599, 700, 1202]] = [1.0, -2.0, 20.0, 0.25]
    codec = DeltaRans(layout)
    payload = codec.encode(base, target, np.array([1, 3, 599, 700, 1202]), EncodingPlan(step=0.25))
    assert payload.hex() == "803e01000b008802990079f0b92096fbff2d3fc9"
    assert apply_update(base, codec.decode(payload, base)).tolist() == target.tolist()


def test_the_size_is_within_five_percent_of_what_its_own_model_assigns(monkeypatch: pytest.MonkeyPatch) -> None:
    ideal_bits: list[float] = []
    finish = RansWriter.finish

    def watched(writer: RansWriter, seeds: Int64Array) -> bytes:
        ideal_bits.append(writer.ideal_bits)
        return finish(writer, seeds)

    monkeypatch.setattr(RansWriter, "finish", watched)
    for step, least_bytes in ((0.005, 7000), (0.02, 3000), (0.05, 800), (0.09, 150)):
        payload = LARGE.encoded(step=step)
        assert least_bytes < len(payload) < 1.3 * least_bytes
        changed = len(LARGE.decoded(payload).indices)
        assert 8 * len(payload) < 1.05 * (ideal_bits[-1] + changed)


def test_rows_that_differ_take_less_than_the_entropy_of_their_tensors() -> None:
    payload = LARGE.encoded(step=0.01)
    update = LARGE.decoded(payload)
    levels = np.zeros(LARGE.layout.size, np.int64)
    levels[update.indices] = np.rint((update.values - LARGE.base[update.indices]) / 0.01)
    unstructured = 0.0
    for tensor, start in zip(LARGE.layout.tensors, LARGE.layout.offsets, strict=True):
        _, counts = np.unique(levels[start : start + tensor.size], return_counts=True)
        unstructured += float((counts * np.log2(tensor.size / counts)).sum())
    assert 8 * len(payload) < 0.95 * unstructured


@pytest.mark.parametrize("limit_bytes", [6000, 2500, 900])
def test_an_update_keeps_to_its_limit_and_uses_it(limit_bytes: int) -> None:
    payload = LARGE.encoded(step=1e-4, limit_bytes=limit_bytes)
    assert 0.95 * limit_bytes <= len(payload) <= limit_bytes
    assert len(LARGE.decoded(payload).indices) > 100


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    assert LARGE.encoded(step=0.01, limit_bytes=1_000_000) == LARGE.encoded(step=0.01)


def test_where_nothing_fits_nothing_is_sent() -> None:
    payload = LARGE.encoded(step=1e-4, limit_bytes=5)
    assert len(payload) < 30


def test_steps_follow_the_scales_of_the_tensors() -> None:
    scales = np.array([4.0, 1, 0.25, 1], np.float32)
    counts = [
        np.histogram(LARGE.decoded(LARGE.encoded(step=0.01, **plan)).indices, [0, 131072, 131584, 262656])[0]
        for plan in ({}, {"step_scales": scales})
    ]
    assert counts[1][0] < counts[0][0] / 4
    assert counts[1][2] > counts[0][2]


@pytest.mark.parametrize("price", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("limit_bytes", [100, 150, 200, 250, 300])
def test_small_limits_are_used_too(limit_bytes: int, price: float) -> None:
    payload = make_change(((256, 512), (512,), (512, 256), (64, 9)), 0.3, seed=35).encoded(
        step=1e-4, limit_bytes=limit_bytes, bit_price=price
    )
    assert 0.93 * limit_bytes < len(payload) <= limit_bytes


@pytest.mark.parametrize("limit_bytes", [500, 5000, 20000])
@pytest.mark.parametrize("spread", [0.0, 0.02])
def test_changes_of_one_size_are_sent_as_far_as_they_fit(spread: float, limit_bytes: int) -> None:
    """Between the step that sends all of them and the next coarser one there is nothing."""
    generator = np.random.default_rng(0)
    layout = ParameterLayout((TensorSpec(name="a", shape=(512, 512)), TensorSpec(name="b", shape=(512, 256))))
    base = generator.normal(0, 0.1, layout.size).astype(np.float32)
    indices = np.sort(generator.choice(layout.size, 40_000, replace=False))
    sizes = generator.choice([-1e-3, 1e-3], len(indices)) * generator.normal(1, spread, len(indices))
    target = base.copy()
    target[indices] += sizes.astype(np.float32)
    change = Change(layout, base, target, indices)
    payload = change.encoded(step=1e-4, limit_bytes=limit_bytes)
    assert 0.9 * limit_bytes < len(payload) <= limit_bytes
    sent = change.decoded(payload).indices
    share = np.count_nonzero(sent < 512 * 512) / len(sent)
    assert share == pytest.approx(2 / 3, abs=0.1)


def make_sizes(count: int, sizes: tuple[float, ...], spread: float = 0.0, seed: int = 0) -> Change:
    """Draw a change of `count` weights by a few sizes, up and down, as one step of an optimiser makes them."""
    generator = np.random.default_rng(seed)
    layout = ParameterLayout((TensorSpec(name="a", shape=(256, 256)), TensorSpec(name="b", shape=(128, 9))))
    base = generator.normal(0, 0.1, layout.size).astype(np.float32)
    indices = np.sort(generator.choice(layout.size, count, replace=False))
    moves = generator.choice([-1, 1], count) * generator.choice(sizes, count) * np.exp(generator.normal(0, spread, count))
    target = base.copy()
    target[indices] += moves.astype(np.float32)
    return Change(layout, base, target, indices)


@pytest.mark.parametrize("parts", [4, 32])
@pytest.mark.parametrize(("count", "limit_bytes"), [(4000, 4700), (20_000, 17_000), (40_000, 28_000)])
def test_changes_of_one_size_are_all_sent_where_a_coarser_step_lets_them(count: int, limit_bytes: int, parts: int) -> None:
    """Levels that are all 4 take several times their entropy."""
    change = make_sizes(count, (1e-3,))
    assert len(change.encoded(step=1e-3)) < limit_bytes < len(change.encoded(step=1e-3 / parts))
    payload = change.encoded(step=1e-3 / parts, limit_bytes=limit_bytes)
    assert len(payload) <= limit_bytes
    assert len(change.decoded(payload).indices) == count


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    count=st.sampled_from([300, 3000]),
    sizes=st.sampled_from([(1e-3,), (1e-3, 2e-3), (1e-3, 3e-2), (1e-4, 1e-3, 1e-2)]),
    spread=st.sampled_from([0.0, 0.02, 0.7]),
    parts=st.sampled_from([0.7, 2.5, 4.0, 20.0, 300.0]),
    share=st.floats(0.02, 1.5),
    seed=st.integers(0, 100),
)
def test_whatever_the_sizes_of_changes_a_limit_is_kept_and_filled(
    count: int, sizes: tuple[float, ...], spread: float, parts: float, share: float, seed: int
) -> None:
    change, step = make_sizes(count, sizes, spread, seed), 1e-3 / parts
    without = change.encoded(step=step)
    limit_bytes = max(150, int(share * len(without)))
    payload = change.encoded(step=step, limit_bytes=limit_bytes)
    sent, all_sent = len(change.decoded(payload).indices), len(change.decoded(without).indices)
    assert len(payload) <= limit_bytes
    assert len(payload) >= 0.9 * limit_bytes or sent >= 0.95 * all_sent


@pytest.mark.parametrize("price", [0.0, 0.05])
def test_a_search_looks_at_a_part_of_what_could_change(price: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of half a million candidates a small limit lets a thousand pass."""
    looked_at: list[int] = []

    def counting(changes: Changes, step: float, bits: ChangeBits | None = None) -> Quantised:
        looked_at.append(len(changes.indices))
        return quantise(changes, step, bits)

    monkeypatch.setattr("ams_common.delta_rans.quantise", counting)
    change = make_change(((512, 1024),), 1e3, spread=1e-3)
    payload = change.encoded(step=1e-4, limit_bytes=2000, bit_price=price)
    assert 0.95 * 2000 < len(payload) <= 2000
    assert sum(looked_at) < 1.5 * change.layout.size


@settings(deadline=None)
@given(
    density=st.sampled_from([0.0, 0.02, 0.4]),
    seed=st.integers(0, 1000),
    limit_bytes=st.integers(0, 3000),
    dead_zone=st.floats(LEAST_DEAD_ZONE, 1),
    price=st.sampled_from([0.0, 0.05, 1.0]),
)
def test_no_update_is_above_its_limit(density: float, seed: int, limit_bytes: int, dead_zone: float, price: float) -> None:
    change = make_change(SHAPES, density, seed)
    nothing = change.encoded(step=1e6)
    payload = change.encoded(step=1e-4, limit_bytes=limit_bytes, dead_zone=dead_zone, bit_price=price)
    assert len(payload) <= max(limit_bytes, len(nothing))


@settings(deadline=None)
@given(seed=st.integers(0, 1000), density=st.sampled_from([0.02, 0.4, 10.0]), price=st.sampled_from([0.02, 0.2, 1.0]))
def test_whatever_bits_cost_no_weight_moves_by_more_than_it_should(seed: int, density: float, price: float) -> None:
    change = make_change(SHAPES, density, seed)
    update = change.decoded(change.encoded(step=0.01, bit_price=price))
    moves, wanted = update.values - change.base[update.indices], (change.target - change.base)[update.indices]
    assert (moves * wanted > 0).all()
    assert (np.abs(moves) < np.abs(wanted) + 0.00501).all()


@pytest.mark.parametrize("limit_bytes", [1500, 4000])
def test_bits_that_have_a_price_leave_less_error_in_the_same_bytes(limit_bytes: int) -> None:
    wanted = LARGE.target - LARGE.base
    errors = []
    for price in (0.0, 0.05):
        payload = LARGE.encoded(step=1e-3, limit_bytes=limit_bytes, bit_price=price)
        assert 0.97 * limit_bytes < len(payload) <= limit_bytes
        sent = apply_update(LARGE.base, LARGE.decoded(payload)) - LARGE.base
        errors.append(float(np.square(wanted - sent).sum()))
    assert errors[1] < 0.95 * errors[0]


def test_the_dearer_the_bits_the_fewer_are_sent() -> None:
    sizes = [len(LARGE.encoded(step=4e-3, bit_price=price)) for price in (0.0, 0.02, 0.05, 0.15, 1.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 2


@pytest.mark.parametrize("change", [1e-42, 1e-10, 1e-5])
@pytest.mark.parametrize("step", [FINEST_STEP, 1e-10, 1.0, COARSEST_STEP])
@pytest.mark.parametrize("price", [0.0, MOST_BIT_PRICE])
@pytest.mark.parametrize("limit_bytes", [None, 60])
def test_a_plan_at_its_bounds_makes_an_update(change: float, step: float, price: float, limit_bytes: int | None) -> None:
    tensors = (TensorSpec(name="a", shape=(9, 9)), TensorSpec(name="v", shape=(9,), trainable=False))
    codec, base = DeltaRans(ParameterLayout(tensors)), np.zeros(90, np.float32)
    plan = EncodingPlan(step=step, bit_price=price, limit_bytes=limit_bytes)
    payload = codec.encode(base, base + np.float32(change), np.arange(90), plan)
    moved = codec.decode(payload, base).values
    assert (np.abs(moved - np.float32(change)) <= change).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e30])
def test_a_weight_that_ran_away_is_never_encoded(value: float) -> None:
    target = SMALL.target.copy()
    target[SMALL.indices[2]] = value
    with pytest.raises(ModelError, match="training has diverged"):
        DeltaRans(SMALL.layout).encode(SMALL.base, target, SMALL.indices, EncodingPlan(step=0.001))


# --- bytes from outside


def decode_or_refuse(payload: bytes) -> None:
    try:
        update = SMALL.decoded(payload)
    except CodecError:
        return
    assert np.isfinite(update.values).all()
    assert (np.diff(update.indices) > 0).all()
    assert apply_update(SMALL.base, update).shape == SMALL.base.shape


PAYLOAD = SMALL.encoded(step=0.004)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, len(PAYLOAD) - 1), value=st.integers(1, 255))
def test_a_mutated_payload_is_refused_or_harmless(position: int, value: int) -> None:
    payload = bytearray(PAYLOAD)
    payload[position] ^= value
    decode_or_refuse(bytes(payload))


@pytest.mark.parametrize("length", range(0, len(PAYLOAD), 7))
def test_a_truncated_payload_is_refused(length: int) -> None:
    with pytest.raises(CodecError):
        SMALL.decoded(PAYLOAD[:length])


def test_bytes_after_the_payload_are_refused() -> None:
    with pytest.raises(CodecError, match="bytes of signs"):
        SMALL.decoded(PAYLOAD + b"\0")


@settings(max_examples=300, deadline=None)
@given(
    step_bits=st.sampled_from([0x3C00, 0x2B80, 0x4980]),
    lanes=st.integers(0, 5),
    centre=st.integers(0, 50),
    model=st.integers(0, 255),
    body=st.binary(min_size=20, max_size=200),
)
def test_random_bytes_are_refused_or_harmless(step_bits: int, lanes: int, centre: int, model: int, body: bytes) -> None:
    decode_or_refuse(struct.pack("<HHBB", step_bits, lanes, centre, model) + body)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\0" * 5, "shorter than its header"),
        (struct.pack("<HHBB", 0x7FC0, 1, 0, 0) + bytes(4), "step of nan"),
        (struct.pack("<HHBB", 0x7F80, 1, 0, 0) + bytes(4), "step of inf"),
        (struct.pack("<HHBB", 0xBC00, 1, 0, 0) + bytes(4), "step of -0.0078125"),
        (struct.pack("<HHBB", 0, 1, 0, 0) + bytes(4), "step of 0"),
        (struct.pack("<HHBB", 0x3C00, 1, 48, 0) + bytes(4), "class 48 of 48"),
        (struct.pack("<HHBB", 0x3C00, 0xFFFF, 0, 0) + bytes(4), "cannot hold 65535 lanes"),
    ],
)
def test_it_says_what_is_wrong(payload: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        SMALL.decoded(payload)


def test_more_weights_than_its_lanes_may_hold_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are nearly certain to change take next to no bytes, but time."""
    change = make_change(((9, 1000),), 100.0, spread=1.0)
    payload = change.encoded(step=1e-3)
    assert struct.unpack_from("<HH", payload)[1] > 2
    assert len(change.decoded(payload).indices) > 8000
    monkeypatch.setattr("ams_common.delta_rans._lanes", lambda rows, weights: 1)
    with pytest.raises(CodecError, match="weights in 1 lanes"):
        change.decoded(change.encoded(step=1e-3))


MOST_STEPS = 5 * 4096 + 2 * 1024 + 3
"""Steps of reading that any payload may take: counts, their places, gaps in two runs, levels and escapes, each at most 4096 for
each lane; two for each round, of which the longest row has 1024; and the first ones of groups and tensors."""


@pytest.fixture
def steps_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of one number, which counts steps of reading: what decoding takes time for."""
    count, refill = [0], RansReader._refill

    def counting(reader: RansReader, lanes: Int64Array) -> None:
        count[0] += 1
        refill(reader, lanes)

    monkeypatch.setattr(RansReader, "_refill", counting)
    return count


@pytest.mark.parametrize(("rows", "valid"), [(4, True), (24, False)])
def test_a_payload_that_packs_much_into_one_lane_is_read_in_a_bounded_number_of_steps_or_refused(
    rows: int, valid: bool, steps_read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ams_common.delta_rans._lanes", lambda rows, weights: 1)
    change = make_change(((rows, 1024),), 100.0, spread=1.0)
    payload = change.encoded(step=1e-4)
    if valid:
        assert len(change.decoded(payload).indices) > 4000
        assert steps_read[0] > 3 * 4000
    else:
        with pytest.raises(CodecError, match="weights in 1 lanes"):
            change.decoded(payload)
    assert steps_read[0] <= MOST_STEPS


def test_decoding_takes_memory_for_what_there_is() -> None:
    layout = ParameterLayout((TensorSpec(name="a", shape=(2000, 1000)),))
    codec, base = DeltaRans(layout), np.zeros(2_000_000, np.float32)
    target = base.copy()
    target[::1000] = 1.0
    payload = codec.encode(base, target, np.arange(0, 2_000_000, 1000))
    tracemalloc.start()
    codec.decode(payload, base)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1_000_000


def test_a_result_that_is_not_finite_is_refused() -> None:
    change = make_change(((4,),), 10.0)
    payload = change.encoded(step=0.001)
    with pytest.raises(CodecError, match="not finite"), np.errstate(over="ignore"):
        DeltaRans(change.layout).decode(payload, np.full(4, np.inf, np.float32))
