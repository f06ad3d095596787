"""Bounded decompression."""

import gzip
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ams_common.compression import gzip_compress, gzip_decompress, zstd_compress, zstd_decompress
from ams_common.errors import CodecError

Compress = Callable[[bytes], bytes]
Decompress = Callable[[bytes, int], bytes]

both = pytest.mark.parametrize(
    ("compress", "decompress"),
    [(gzip_compress, gzip_decompress), (lambda data: zstd_compress(data, 3), zstd_decompress)],
    ids=["gzip", "zstd"],
)


@both
@given(data=st.binary(max_size=500))
def test_round_trip(compress: Compress, decompress: Decompress, data: bytes) -> None:
    assert decompress(compress(data), len(data)) == data


@both
@pytest.mark.parametrize("size", [0, 99, 101])
def test_another_size_than_expected_is_refused(compress: Compress, decompress: Decompress, size: int) -> None:
    with pytest.raises(CodecError, match=str(size)):
        decompress(compress(bytes(100)), size)


@both
@pytest.mark.parametrize("size", [0, 100])
def test_what_follows_is_refused(compress: Compress, decompress: Decompress, size: int) -> None:
    with pytest.raises(CodecError):
        decompress(compress(bytes(size)) + b"x", size)
    with pytest.raises(CodecError):
        decompress(compress(bytes(100)) + compress(bytes(size)) + b"x", 100)


@both
def test_every_truncation_is_refused(compress: Compress, decompress: Decompress) -> None:
    data = compress(bytes(range(100)))
    for length in range(len(data)):
        with pytest.raises(CodecError):
            decompress(data[:length], 100)


@both
@given(data=st.binary(min_size=1, max_size=100), size=st.integers(1, 200))
def test_random_bytes_are_refused(compress: Compress, decompress: Decompress, data: bytes, size: int) -> None:
    with pytest.raises(CodecError):
        decompress(data, size)


def test_a_zstd_frame_must_state_its_size() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    with pytest.raises(CodecError, match="states a size of -1 bytes"):
        zstd_decompress(frame, 100)


def test_gzip_bytes_depend_on_the_data_alone() -> None:
    data = bytes(range(256)) * 4
    assert gzip_compress(data) == gzip_compress(data)
    assert gzip_compress(data)[4:8] == bytes(4), "no time stamp"
    assert gzip.decompress(gzip_compress(data)) == data
    with pytest.raises(CodecError, match="damaged"):
        gzip_decompress(zlib.compress(data), len(data))
