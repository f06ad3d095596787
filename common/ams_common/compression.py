"""zstd and gzip for bytes whose decompressed size is known beforehand; the rest is refused before memory is taken."""

import zlib

import zstandard

from ams_common.errors import CodecError

_GZIP_WINDOW = 31


def zstd_compress(data: bytes, level: int) -> bytes:
    """Return one zstd frame that states its content size; no bytes for no data."""
    return zstandard.ZstdCompressor(level=level).compress(data) if data else b""


def zstd_decompress(frame: bytes, size: int) -> bytes:
    """Return the `size` bytes that `zstd_compress` turned into `frame`.

    Raises:
        CodecError: `frame` is no valid zstd frame, states another size, holds another size, or something follows it.
    """
    if size == 0 and not frame:
        return b""
    try:
        stated = zstandard.frame_content_size(frame)
        if size == 0 or stated != size:
            raise CodecError(f"compressed data states a size of {stated} bytes, {size} were expected")
        # Takes exactly the stated size: a frame that holds more or less is an error.
        return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CodecError(f"compressed data is damaged: {error}") from error


def zstd_decompress_within(frame: bytes, most: int) -> bytes:
    """Return what `zstd_compress` turned into `frame`, at most `most` bytes.

    Raises:
        CodecError: `frame` is no valid zstd frame, states no size or more than `most`, holds another size than it states, or
            something follows it.
    """
    try:
        stated = zstandard.frame_content_size(frame)
    except zstandard.ZstdError as error:
        raise CodecError(f"compressed data is damaged: {error}") from error
    if not 0 < stated <= most:
        raise CodecError(f"compressed data states a size of {stated} bytes, 1 to {most} were expected")
    return zstd_decompress(frame, stated)


def gzip_compress(data: bytes) -> bytes:
    """Return a gzip member at level 9 with no time stamp: equal data gives equal bytes."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, _GZIP_WINDOW)
    return compressor.compress(data) + compressor.flush()


def gzip_decompress(member: bytes, size: int) -> bytes:
    """Return the `size` bytes of one gzip member.

    Raises:
        CodecError: `member` is no valid gzip member, holds another size, or something follows it.
    """
    decompressor = zlib.decompressobj(_GZIP_WINDOW)
    try:
        data = decompressor.decompress(member, max_length=size + 1)
    except zlib.error as error:
        raise CodecError(f"gzip data is damaged: {error}") from error
    if len(data) != size or not decompressor.eof or decompressor.unused_data:
        raise CodecError(f"gzip data is cut short or does not hold exactly {size} bytes")
    return data
