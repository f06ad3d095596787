"""Update codecs: the bytes of a sparse change of the flat parameter vector.

Contract, lossless to the mirror: the values lose precision when they are encoded, so the server decodes its own bytes against
the vector that the edge holds and trains on from the result. Decoding is exact integer and IEEE float32 arithmetic: the same
bytes and the same base give bit-identical weights on every machine.

Legend: P elements of the flat vector, k of them changed. All integers are little-endian.

`mask-float16`, the format of the AMS reference:

    4   length m of the mask, uint32
    m   gzip -9 of the mask: a bit per element of the vector, 1 = changed, most significant bit first, each tensor of the
        layout padded with zero bits to a whole byte
    2k  the changed elements' new values, float16, in the order of the vector

`gap-zstd`:

    4   k, uint32
    4   length g of the gaps before compression, uint32
    4   length of the compressed gaps, uint32
    4   length of the compressed upper bytes, uint32
    .   zstd frame of the gaps, g bytes: for each changed element the number of unchanged ones before it since the last changed
        one, as a base-255 tally: a byte 255 for each whole 255, then the rest (0..254)
    .   zstd frame of the upper bytes, k bytes: sign, exponent and two bits of the mantissa of each change (new - old, float16)
    .   zstd frame of the lower bytes, k bytes: the rest of the mantissa

`delta-rans`, the smallest by far: see `delta_rans`.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ams_common.compression import gzip_compress, gzip_decompress, zstd_compress, zstd_decompress
from ams_common.delta_rans import DeltaRans
from ams_common.errors import CodecError, ConfigurationError, ModelError
from ams_common.layout import Float32Array, ParameterLayout
from ams_common.sparse_update import NO_PLAN, EncodingPlan, Int64Array, SparseUpdate, UpdateCodec, check_vectors

Float16Array = npt.NDArray[np.float16]
_TALLY = 255
_UPDATE_ZSTD_LEVEL = 16
"""1.5 % smaller than level 3 for 20 ms more on updates of 105,000 parameters; 17 to 22 gain nothing."""


class MaskFloat16:
    """The reference format: a gzipped bit mask and absolute float16 values."""

    name = "mask-float16"
    keeps_limit = False

    def __init__(self, layout: ParameterLayout) -> None:
        self._layout = layout
        self._mask_size = sum(_mask_bytes(tensor.size) for tensor in layout.tensors)

    def encode(self, base: Float32Array, target: Float32Array, indices: Int64Array, plan: EncodingPlan = NO_PLAN) -> bytes:
        """See UpdateCodec."""
        check_vectors(self._layout, base, target)
        chosen = np.zeros(self._layout.size, np.bool_)
        chosen[indices] = True
        mask = gzip_compress(b"".join(np.packbits(chosen[start:end]).tobytes() for start, end in self._bounds()))
        return _uint32(len(mask)) + mask + _to_float16(target[indices]).tobytes()

    def decode(self, payload: bytes, base: Float32Array) -> SparseUpdate:
        """See UpdateCodec."""
        check_vectors(self._layout, base)
        (length,), body = _split_header(payload, 1)
        mask = np.frombuffer(gzip_decompress(body[:length], self._mask_size), np.uint8)
        indices = self._unpack(mask)
        values = body[length:]
        if len(values) != 2 * indices.size:
            raise CodecError(f"update holds {len(values)} bytes of values for {indices.size} parameters")
        return SparseUpdate(indices, _finite_float32(np.frombuffer(values, "<f2")))

    def _bounds(self) -> list[tuple[int, int]]:
        tensors = zip(self._layout.offsets, self._layout.tensors, strict=True)
        return [(start, start + tensor.size) for start, tensor in tensors]

    def _unpack(self, mask: npt.NDArray[np.uint8]) -> Int64Array:
        chosen = np.empty(self._layout.size, np.bool_)
        for start, end in self._bounds():
            bits = np.unpackbits(mask[: _mask_bytes(end - start)])
            if bits[end - start :].any():
                raise CodecError("update has padding bits set in its mask")
            chosen[start:end] = bits[: end - start]
            mask = mask[_mask_bytes(end - start) :]
        return np.flatnonzero(chosen)


def _mask_bytes(size: int) -> int:
    return (size + 7) // 8


class GapZstd:
    """Gaps between positions and float16 changes in planes of bytes, each plane compressed by zstd."""

    name = "gap-zstd"
    keeps_limit = False

    def __init__(self, layout: ParameterLayout) -> None:
        self._layout = layout

    def encode(self, base: Float32Array, target: Float32Array, indices: Int64Array, plan: EncodingPlan = NO_PLAN) -> bytes:
        """See UpdateCodec."""
        check_vectors(self._layout, base, target)
        with np.errstate(over="ignore", invalid="ignore"):
            differences = target[indices] - base[indices]
        changes = _to_float16(differences).view("<u2")
        gaps = _tally(np.diff(indices, prepend=-1) - 1)
        planes = (gaps.tobytes(), (changes >> 8).astype(np.uint8).tobytes(), (changes & 0xFF).astype(np.uint8).tobytes())
        frames = [zstd_compress(plane, _UPDATE_ZSTD_LEVEL) for plane in planes]
        return _uint32(indices.size, gaps.size, len(frames[0]), len(frames[1])) + b"".join(frames)

    def decode(self, payload: bytes, base: Float32Array) -> SparseUpdate:
        """See UpdateCodec."""
        check_vectors(self._layout, base)
        (count, gap_bytes, first, second), body = _split_header(payload, 4)
        if count > base.size or gap_bytes > count + base.size // _TALLY:
            raise CodecError(f"update claims {count} changes in {gap_bytes} bytes for {base.size} parameters")
        indices = _positions(zstd_decompress(body[:first], gap_bytes), count, base.size)
        upper = zstd_decompress(body[first : first + second], count)
        lower = zstd_decompress(body[first + second :], count)
        changes = np.frombuffer(upper, np.uint8).astype("<u2") << 8 | np.frombuffer(lower, np.uint8)
        return SparseUpdate(indices, base[indices] + _finite_float32(changes.view("<f2")))


def _tally(gaps: Int64Array) -> npt.NDArray[np.uint8]:
    """Write each gap as whole 255s and a rest below 255."""
    ends = np.cumsum(gaps // _TALLY + 1)
    written = np.full(ends[-1] if ends.size else 0, _TALLY, np.uint8)
    written[ends - 1] = gaps % _TALLY
    return written


def _positions(written: bytes, count: int, size: int) -> Int64Array:
    """Read tallied gaps back into positions."""
    tally = np.frombuffer(written, np.uint8)
    rests = np.flatnonzero(tally != _TALLY)
    complete = tally.size == 0 or tally[-1] != _TALLY
    if rests.size != count or not complete:
        raise CodecError(f"update has gaps for {rests.size} changes, its header says {count}")
    positions = np.cumsum(tally, dtype=np.int64)[rests] + np.arange(count)
    if count and positions[-1] >= size:
        raise CodecError(f"update changes parameter {positions[-1]} of {size}")
    return positions


CODECS: dict[str, Callable[[ParameterLayout], UpdateCodec]] = {each.name: each for each in (DeltaRans, GapZstd, MaskFloat16)}
"""Every update codec by its name on the wire, the default first."""
DEFAULT_CODEC = DeltaRans.name


def create_codec(name: str, layout: ParameterLayout) -> UpdateCodec:
    """Return the codec called `name` for vectors of `layout`.

    Raises:
        ConfigurationError: there is no such codec.
    """
    if name not in CODECS:
        raise ConfigurationError(f"unknown update codec {name!r}: use {', '.join(CODECS)}")
    return CODECS[name](layout)


def _to_float16(values: Float32Array) -> Float16Array:
    with np.errstate(over="ignore"):
        halves: Float16Array = values.astype("<f2")
    if not np.isfinite(halves).all():
        worst = values[~np.isfinite(halves)][0]
        raise ModelError(f"a parameter or its change is {worst}, more than float16 holds: training has diverged")
    return halves


def _finite_float32(halves: Float16Array) -> Float32Array:
    if not np.isfinite(halves).all():
        raise CodecError("update holds a value that is not finite")
    return halves.astype(np.float32)


def _uint32(*numbers: int) -> bytes:
    return np.array(numbers, "<u4").tobytes()


def _split_header(payload: bytes, numbers: int) -> tuple[list[int], bytes]:
    if len(payload) < 4 * numbers:
        raise CodecError(f"update of {len(payload)} bytes is shorter than its header")
    return np.frombuffer(payload[: 4 * numbers], "<u4").tolist(), payload[4 * numbers :]
