"""Interleaved rANS: what is written is read, at the length that the probabilities promise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ams_common.errors import CodecError
from ams_common.rans import (
    LARGEST_RADIX,
    TABLE_BITS,
    Coder,
    Int64Array,
    RansReader,
    RansWriter,
    frequency_tables,
)

TABLES = frequency_tables(np.array([[1, 0, 0], [5, 5, 5], [0, 0, 0], [1 << 39, 1, 7]]))


def array(values: Sequence[int]) -> Int64Array:
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Call:
    """Symbols of tables, or digits of radices."""

    with_tables: bool
    contexts: Int64Array
    values: Int64Array

    def on(self, coder: Coder, *, values: Int64Array | None) -> Int64Array:
        return coder.symbols(TABLES, self.contexts, values) if self.with_tables else coder.digits(self.contexts, values)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    with_tables = draw(st.booleans())
    one = st.integers(0, 3) if with_tables else st.sampled_from([1, 2, 3, 7, 255, 256, 1000, LARGEST_RADIX])
    contexts = draw(st.lists(one, max_size=40))
    values = [draw(st.integers(0, 2 if with_tables else context - 1)) for context in contexts]
    return Call(with_tables, array(contexts), array(values))


def written(made: list[Call], seeds: Int64Array) -> bytes:
    writer = RansWriter()
    for call in made:
        assert np.array_equal(call.on(writer, values=call.values), call.values)
    return writer.finish(seeds)


@given(st.lists(calls(), max_size=6), st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=9))
def test_what_is_written_is_read(made: list[Call], seeds: list[int]) -> None:
    reader = RansReader(written(made, array(seeds)) + b"rest", len(seeds))
    for call in made:
        assert np.array_equal(call.on(reader, values=None), call.values)
    found, rest = reader.finish()
    assert found.tolist() == seeds
    assert rest == b"rest"


def test_golden_bytes() -> None:
    made = [Call(True, array([0, 1, 3, 3]), array([2, 1, 0, 1])), Call(False, array([10, 1, 1000]), array([7, 0, 999]))]
    assert written(made, array([0x1234, 0xFFFF])).hex() == "ffbf640a579501009718feff"


def test_the_length_is_what_the_probabilities_promise() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.choice(3, 30_000, p=[0.9, 0.08, 0.02])
    tables = frequency_tables(np.array([[90, 8, 2]]))
    writer = RansWriter()
    writer.symbols(tables, np.zeros_like(drawn), drawn)
    writer.digits(np.full(1000, 10), generator.integers(0, 10, 1000))
    assert writer.ideal_bits == pytest.approx(30_000 * 0.5422 + 1000 * np.log2(10), rel=0.03)
    seeds = generator.integers(0, 1 << 16, 20)
    assert 8 * len(writer.finish(seeds)) < 1.001 * (writer.ideal_bits + 16 * len(seeds)) + 16 * len(seeds)


@given(st.lists(st.lists(st.integers(0, (1 << 40) - 1), min_size=5, max_size=5), min_size=1, max_size=4))
def test_every_symbol_of_every_table_is_possible(weights: list[list[int]]) -> None:
    tables = frequency_tables(np.array(weights))
    frequencies = tables.frequencies.reshape(-1, 5)
    assert (frequencies >= 1).all()
    assert (frequencies.sum(1) == 1 << TABLE_BITS).all()
    for table, (starts, lengths) in enumerate(zip(tables.starts.reshape(-1, 5), frequencies, strict=True)):
        owners = tables.symbols[table << TABLE_BITS : table + 1 << TABLE_BITS]
        for symbol, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            assert (owners[start : start + length] == symbol).all()


def test_frequencies_are_in_proportion() -> None:
    frequencies = frequency_tables(np.array([[3, 1, 0, 4], [0, 0, 0, 0]])).frequencies.reshape(2, 4)
    assert np.allclose(frequencies[0] / (1 << TABLE_BITS), [3 / 8, 1 / 8, 0, 4 / 8], atol=3e-4)
    assert frequencies[1].tolist() == [1 << TABLE_BITS - 2] * 4


@pytest.mark.parametrize(
    ("data", "lanes", "message"),
    [
        (b"", 1, "cannot hold 1 lanes"),
        (bytes(8), 3, "cannot hold 3 lanes"),
        (bytes(8), 0, "cannot hold 0 lanes"),
        (b"\xff\xff\x00\x00", 1, "too small"),
    ],
)
def test_lanes_that_cannot_be_are_refused(data: bytes, lanes: int, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        RansReader(data, lanes)


def test_a_stream_that_is_cut_short_or_too_full_is_refused() -> None:
    call = Call(False, np.full(50, 1000), np.arange(50))
    data = written([call], array([1, 2]))
    with pytest.raises(CodecError, match="cut short"):
        call.on(RansReader(data[:-1], 2), values=None)
    with pytest.raises(CodecError, match="more than was read"):
        RansReader(data, 2).finish()


@settings(max_examples=200)
@given(st.binary(min_size=8, max_size=60), st.lists(calls(), max_size=4))
def test_random_bytes_are_refused_or_read_as_what_is_possible(data: bytes, made: list[Call]) -> None:
    try:
        reader = RansReader(data, 2)
        for call in made:
            found = call.on(reader, values=None)
            assert ((found >= 0) & (found < (3 if call.with_tables else call.contexts))).all()
        reader.finish()
    except CodecError:
        return
