"""The bytes of a whole vector, exact: alone, or against a base that the receiver holds.

Weights that are handed out whole are rounded before (`ams_server.rounding`), so that the values of most rows, or what they
differ from the base, are small multiples of a power of two. Such rows are written as whole numbers, others as float32.

Legend: P elements of the flat vector in R rows (`ams_common.delta_rows`), n of them in rows of whole numbers. A snapshot is one
zstd frame of R + 2 n + 4 (P - n) bytes:

    R           for each row its exponent e plus 150, uint8; 0 for a row of float32
    n           lower bytes of the whole numbers z, uint16, in the order of the vector
    n           their upper bytes
    4 (P - n)   the rows of float32 in four planes, lowest bytes first: bits of the value less bits of the base's, modulo 2^32

In a row of exponent e an element is base + k 2^e, computed in float32; z is 2 k, or -2 k - 1 where k is negative. Without a
base every element of it is 0.0.

A student of 2.3 million parameters takes 1.87 MB at the start, and after two minutes of adaptation 0.88 MB on that as a base
(0.24 MB where updates are coded by `delta-rans`), in 0.3 s to code and 0.2 s to decode. zstd is within 5 % of the entropy of
the whole numbers, so that a coder of our own would not pay.
"""

import numpy as np
import numpy.typing as npt

from ams_common.compression import zstd_compress, zstd_decompress_within
from ams_common.delta_rows import Rows, layout_rows
from ams_common.errors import CodecError, ModelError
from ams_common.layout import Float32Array, ParameterLayout

FAST, SMALL = 3, 19
"""Levels of zstd: for a snapshot of one device, and for one that many get."""
_BIAS = 150
_LARGEST_EXPONENT = 255 - _BIAS
_MANTISSA_BITS = 24
_LARGEST = 2**15 - 1
_NO_BITS = 127
"""Place of the lowest bit of a zero: higher than that of any float32."""

Int32Array = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]


def encode_snapshot(
    vector: Float32Array, layout: ParameterLayout, base: Float32Array | None = None, *, level: int = FAST
) -> bytes:
    """Return the exact bytes of `vector`, float32 [P], for a receiver that holds `base`, float32 [P], or nothing.

    Raises:
        ModelError: a value is not finite.
    """
    if not np.isfinite(vector).all():
        raise ModelError(f"parameter {int(np.flatnonzero(~np.isfinite(vector))[0])} is not finite: training has diverged")
    base = np.zeros_like(vector) if base is None else base
    rows = layout_rows(layout)
    exponents = _row_exponents(vector, base, rows)
    spread = np.repeat(exponents, rows.lengths)
    with np.errstate(over="ignore", invalid="ignore"):
        wholes = np.ldexp(vector - base, -spread)
        exact = np.abs(wholes) <= _LARGEST
        exact &= _bits(base + np.ldexp(wholes, spread)) == _bits(vector)
    whole_rows = np.logical_and.reduceat(exact, rows.starts)
    whole = np.repeat(whole_rows, rows.lengths)
    folded = _folded(wholes[whole].astype(np.int32))
    plain = _bits(vector[~whole]) - _bits(base[~whole])
    parts = (np.where(whole_rows, exponents + _BIAS, 0).astype(np.uint8), _planes(folded, 2), _planes(plain, 4))
    return zstd_compress(b"".join(part.tobytes() for part in parts), level)


def decode_snapshot(data: bytes, layout: ParameterLayout, base: Float32Array | None = None) -> Float32Array:
    """Return float32 [P] from what `encode_snapshot` made of it with the same `base`, float32 [P].

    Raises:
        CodecError: the bytes do not hold exactly one finite value for each element of `layout`.
    """
    rows = layout_rows(layout)
    count = len(rows.starts)
    raw = np.frombuffer(zstd_decompress_within(data, count + 4 * layout.size), np.uint8)
    biased, body = raw[:count].astype(np.int32), raw[count:]
    if len(biased) < count:
        raise CodecError(f"snapshot of {len(raw)} bytes has no exponents for {count} rows")
    whole = np.repeat(biased > 0, rows.lengths)
    n = int(np.count_nonzero(whole))
    if len(body) != 2 * n + 4 * (layout.size - n):
        raise CodecError(f"snapshot has {len(body)} bytes for {n} whole numbers and {layout.size - n} other values")
    vector = np.zeros(layout.size, np.float32) if base is None else base.copy()
    folded = _joined(body[: 2 * n], 2)
    steps = np.ldexp(_unfolded(folded).astype(np.float32), np.repeat(biased - _BIAS, rows.lengths)[whole])
    with np.errstate(over="ignore"):
        vector[whole] += steps
    vector[~whole] = (_bits(vector[~whole]) + _joined(body[2 * n :], 4)).view(np.float32)
    if not np.isfinite(vector).all():
        raise CodecError("snapshot holds a value that is not finite")
    return vector


def _row_exponents(vector: Float32Array, base: Float32Array, rows: Rows) -> Int32Array:
    """Return, int32 [R], the largest e for each row of which all differences are multiples of 2^e, up to what a byte holds.

    It is 0 where all are zero.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mantissas, exponents = np.frexp(vector - base)
        wholes = np.ldexp(mantissas, _MANTISSA_BITS).astype(np.int32)
    lowest_bits = np.frexp((wholes & -wholes).astype(np.float32))[1] - 1
    lowest = np.where(wholes == 0, _NO_BITS, exponents - _MANTISSA_BITS + lowest_bits)
    least: Int32Array = np.minimum.reduceat(lowest, rows.starts).astype(np.int32)
    return np.where(least == _NO_BITS, 0, np.minimum(least, _LARGEST_EXPONENT))


def _bits(values: Float32Array) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(values).view(np.uint32)


def _folded(wholes: Int32Array) -> npt.NDArray[np.uint16]:
    """Put the sign into the lowest bit, so that the upper bytes of small numbers are zero."""
    return ((wholes << 1) ^ (wholes >> 31)).astype(np.uint16)


def _unfolded(folded: npt.NDArray[np.uint32]) -> Int32Array:
    signed = folded.astype(np.int32)
    return (signed >> 1) ^ -(signed & 1)


def _planes(values: npt.NDArray[np.unsignedinteger], width: int) -> npt.NDArray[np.uint8]:
    little = values.astype(f"<u{width}").view(np.uint8).reshape(-1, width)
    return np.ascontiguousarray(little.T)


def _joined(planes: npt.NDArray[np.uint8], width: int) -> npt.NDArray[np.uint32]:
    """Return the numbers, uint32 [n], whose bytes `planes`, uint8 [width n], holds, lowest first."""
    little = np.ascontiguousarray(planes.reshape(width, -1).T)
    return little.view(f"<u{width}").reshape(-1).astype(np.uint32)
