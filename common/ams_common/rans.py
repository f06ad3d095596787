"""Interleaved rANS: integers of known probability as bytes, coded in steps on whole vectors.

Asymmetric numeral systems (Duda, "Asymmetric numeral systems", arXiv 1311.2540) keep all that is coded so far in one number x.
Here L lanes each have such a number, in 2^16..2^32-1, and one step codes up to L symbols, the i-th in lane i. What would make a
lane's number too large leaves it 16 bits at a time. A symbol that owns [start, start + frequency) of 2^bits changes x so:

    read    slot = x mod 2^bits; the symbol is the one that owns slot
            x = frequency * (x >> bits) + slot - start
            if x < 2^16: x = x << 16 | the next word of the stream
    write   the same backwards, from the last symbol to the first

All arithmetic is on integers. The bytes, little-endian:

    4L  the number of each lane as it stands when reading begins, uint32
    2w  words, uint16; a step takes them in the order of the lanes that need one

Before the first symbol is written the number of a lane is 2^16 + its seed, 16 bits that travel for nothing: they come back when
everything is read. A lane costs about one byte more than what its symbols need.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ams_common.errors import CodecError

Int64Array = npt.NDArray[np.int64]
MOST_LANES = 0xFFFF
SEED_BITS = 16
TABLE_BITS = 14
"""Probabilities of tables are multiples of 2^-14."""
LARGEST_RADIX = 1 << 14
_DIGIT_BITS = 16
_LOWER = 1 << 16
_WORD = 0xFFFF


@dataclass(frozen=True, eq=False)
class FrequencyTables:
    """T probability tables over the same alphabet of A symbols, A at most 256."""

    alphabet: int
    starts: Int64Array
    """int64 [T * A]: where the interval of each symbol begins."""
    frequencies: Int64Array
    """int64 [T * A]: its length, at least 1; those of a table add up to 2^TABLE_BITS."""
    symbols: npt.NDArray[np.uint8]
    """uint8 [T << TABLE_BITS]: the symbol that owns each slot."""


def frequency_tables(weights: Int64Array) -> FrequencyTables:
    """Return tables nearly in proportion to `weights`, int64 [T, A], none negative, below 2^40, a row of zeros for uniform.

    Every symbol gets 1 of 2^TABLE_BITS, so that nothing is impossible, and its share of the others; what rounding down leaves
    goes to the most frequent one.
    """
    tables, alphabet = weights.shape
    total = weights.sum(1, keepdims=True)
    shares = np.where(total > 0, weights, 1)
    frequencies = 1 + shares * ((1 << TABLE_BITS) - alphabet) // np.maximum(shares.sum(1, keepdims=True), 1)
    frequencies[np.arange(tables), frequencies.argmax(1)] += (1 << TABLE_BITS) - frequencies.sum(1)
    starts = np.cumsum(frequencies, 1) - frequencies
    owners = np.repeat(np.tile(np.arange(alphabet, dtype=np.uint8), tables), frequencies.ravel())
    return FrequencyTables(alphabet, starts.ravel(), frequencies.ravel(), owners)


class Coder(Protocol):
    """One walk over what is coded serves both directions: a writer takes what it is given, a reader returns what was given."""

    def symbols(self, tables: FrequencyTables, which: Int64Array, wanted: Int64Array | None) -> Int64Array:
        """Code n symbols, each by its table `which`, int64 [n]; return them, int64 [n]."""
        ...

    def digits(self, radices: Int64Array, wanted: Int64Array | None) -> Int64Array:
        """Code n numbers below `radices` (int64 [n], 1 to LARGEST_RADIX), all equally probable; return them, int64 [n]."""
        ...


class RansWriter:
    """Collects symbols and digits and turns them into bytes at the end."""

    def __init__(self) -> None:
        self._calls: list[tuple[Int64Array, Int64Array, int]] = []

    def symbols(self, tables: FrequencyTables, which: Int64Array, wanted: Int64Array | None) -> Int64Array:
        """See Coder; `wanted` must be there."""
        assert wanted is not None
        entries = which * tables.alphabet + wanted
        self._calls.append((tables.starts[entries], tables.frequencies[entries], TABLE_BITS))
        return wanted

    def digits(self, radices: Int64Array, wanted: Int64Array | None) -> Int64Array:
        """See Coder; `wanted` must be there."""
        assert wanted is not None
        starts = (wanted << _DIGIT_BITS) // radices
        self._calls.append((starts, ((wanted + 1 << _DIGIT_BITS) // radices) - starts, _DIGIT_BITS))
        return wanted

    @property
    def ideal_bits(self) -> float:
        """The code length that the probabilities assign to what was collected, in bits."""
        return float(sum((bits - np.log2(frequencies)).sum() for _, frequencies, bits in self._calls))

    def finish(self, seeds: Int64Array) -> bytes:
        """Return the bytes, from lanes that start with `seeds`, int64 [lanes] of 16 bits each."""
        states = seeds + _LOWER
        words: list[Int64Array] = []
        for starts, frequencies, bits in reversed(self._calls):
            last = (len(starts) - 1) // len(states) * len(states)
            for begin in range(last, -1, -len(states)):
                step = slice(begin, begin + len(states))
                words.append(_push(states, starts[step], frequencies[step], bits))
        stream = np.concatenate(words[::-1]) if words else states[:0]
        return states.astype("<u4").tobytes() + stream.astype("<u2").tobytes()


def _push(states: Int64Array, starts: Int64Array, frequencies: Int64Array, bits: int) -> Int64Array:
    """Write one step into the first lanes of `states`, in place, and return the words that leave them."""
    lanes = states[: len(starts)]
    full = lanes >= frequencies << 32 - bits
    leaving = lanes[full] & _WORD
    lanes[full] >>= SEED_BITS
    quotients, remainders = np.divmod(lanes, frequencies)
    lanes[:] = (quotients << bits) + remainders + starts
    return leaving


class RansReader:
    """Reads symbols and digits in the order in which they were collected."""

    def __init__(self, data: bytes, lanes: int) -> None:
        """Read `data`, which was written in `lanes` lanes and may be longer.

        Raises:
            CodecError: it is too short, or a lane begins with a number that is too small.
        """
        if not 1 <= lanes <= MOST_LANES or len(data) < 4 * lanes:
            raise CodecError(f"update of {len(data)} bytes cannot hold {lanes} lanes")
        self._states = np.frombuffer(data, "<u4", lanes).astype(np.int64)
        if (self._states < _LOWER).any():
            raise CodecError("update has a lane whose number is too small")
        self._data = data[4 * lanes :]
        self._words = np.frombuffer(self._data, "<u2", len(self._data) // 2).astype(np.int64)
        self._next = 0

    def symbols(self, tables: FrequencyTables, which: Int64Array, wanted: Int64Array | None = None) -> Int64Array:
        """See Coder.

        Raises:
            CodecError: the words are used up.
        """
        read = np.empty(len(which), np.int64)
        slots, entries = which << TABLE_BITS, which * tables.alphabet
        for begin in range(0, len(which), len(self._states)):
            step = slice(begin, begin + len(self._states))
            lanes = self._states[: len(which[step])]
            slot = lanes & (1 << TABLE_BITS) - 1
            symbol = tables.symbols.take(slots[step] + slot)
            entry = entries[step] + symbol
            lanes[:] = tables.frequencies.take(entry) * (lanes >> TABLE_BITS) + slot - tables.starts.take(entry)
            self._refill(lanes)
            read[step] = symbol
        return read

    def digits(self, radices: Int64Array, wanted: Int64Array | None = None) -> Int64Array:
        """See Coder.

        Raises:
            CodecError: the words are used up.
        """
        read = np.empty(len(radices), np.int64)
        for begin in range(0, len(radices), len(self._states)):
            step = slice(begin, begin + len(self._states))
            radix = radices[step]
            lanes = self._states[: len(radix)]
            slot = lanes & _WORD
            digit = (slot + 1) * radix - 1 >> _DIGIT_BITS
            start = (digit << _DIGIT_BITS) // radix
            frequency = ((digit + 1 << _DIGIT_BITS) // radix) - start
            lanes[:] = frequency * (lanes >> _DIGIT_BITS) + slot - start
            self._refill(lanes)
            read[step] = digit
        return read

    def finish(self) -> tuple[Int64Array, bytes]:
        """Return the seeds of the lanes, int64 [lanes], and the bytes that follow the words that were read.

        Raises:
            CodecError: a lane does not end as it must have begun.
        """
        seeds = self._states - _LOWER
        if (seeds > _WORD).any():
            raise CodecError("update is damaged: a lane holds more than was read")
        return seeds, self._data[2 * self._next :]

    def _refill(self, lanes: Int64Array) -> None:
        empty = lanes < _LOWER
        count = int(np.count_nonzero(empty))
        if count == 0:
            return
        words = self._words[self._next : self._next + count]
        if len(words) < count:
            raise CodecError("update is cut short")
        lanes[empty] = lanes[empty] << SEED_BITS | words
        self._next += count
