"""The H.264 that is read before decoding."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ams_common.bits import PictureSize
from ams_common.errors import CodecError
from ams_common.h264 import NAL_SEQUENCE_PARAMETERS, nal_type, parse_picture_size, starts_picture


def golomb(number: int) -> str:
    digits = f"{number + 1:b}"
    return "0" * (len(digits) - 1) + digits


def high_fields(chroma_format: int = 1, depth: int = 0, lossless_and_scaling: str = "00") -> str:
    return golomb(chroma_format) + golomb(depth) + golomb(depth) + lossless_and_scaling


def sequence_parameters(
    width_blocks: int,
    height_blocks: int,
    crop: tuple[int, int, int, int] | None = None,
    *,
    profile: int = 100,
    format_fields: str = high_fields(),
    order_type: int = 0,
    references: int = 4,
    progressive: str = "1",
) -> bytes:
    """Write the NAL unit of a sequence parameter set after section 7.3.2.1.1, without VUI."""
    cropping = "1" + "".join(map(golomb, crop)) if crop else "0"
    bits = (
        f"{profile:08b}" + "0" * 8 + f"{31:08b}" + golomb(0) + format_fields
        + golomb(0) + golomb(order_type) + (golomb(2) if order_type == 0 else "") + golomb(references) + "0"
        + golomb(width_blocks - 1) + golomb(height_blocks - 1) + progressive + "1" + cropping + "0" + "1"
    )  # fmt: skip
    payload = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    return bytes([0x60 | NAL_SEQUENCE_PARAMETERS]) + with_emulation_prevention(payload)


def with_emulation_prevention(payload: bytes) -> bytes:
    written = bytearray()
    for byte in payload:
        if written[-2:] == b"\x00\x00" and byte <= 3:
            written.append(3)
        written.append(byte)
    return bytes(written)


# The large ones write runs of zeros, which need emulation prevention.
blocks = st.integers(1, 600) | st.integers(1, 1 << 28)
crops = st.none() | st.tuples(*[st.integers(0, 3)] * 4)


@given(blocks, blocks, crops, st.sampled_from([66, 77, 100]), st.sampled_from([0, 2]))
def test_sizes_are_read_as_written(
    width: int, height: int, crop: tuple[int, int, int, int] | None, profile: int, order_type: int
) -> None:
    fields = high_fields() if profile == 100 else ""
    unit = sequence_parameters(width, height, crop, profile=profile, format_fields=fields, order_type=order_type)
    left, right, top, bottom = crop or (0, 0, 0, 0)
    assert parse_picture_size(unit) == PictureSize(
        width=16 * width - 2 * (left + right),
        height=16 * height - 2 * (top + bottom),
        coded_width=16 * width,
        coded_height=16 * height,
    )


def test_a_set_that_x264_wrote() -> None:
    unit = bytes.fromhex("67640015acd9408021a1000003000100000300020f162d96")
    assert parse_picture_size(unit) == PictureSize(width=512, height=256, coded_width=512, coded_height=256)


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (sequence_parameters(4, 4, profile=110), "profile 110"),
        (sequence_parameters(4, 4, format_fields=high_fields(chroma_format=3)), "4:2:0"),
        (sequence_parameters(4, 4, format_fields=high_fields(depth=2)), "8 bits"),
        (sequence_parameters(4, 4, format_fields=high_fields(lossless_and_scaling="01")), "scaling"),
        (sequence_parameters(4, 4, format_fields=high_fields(lossless_and_scaling="10")), "lossless"),
        (sequence_parameters(4, 4, order_type=1), "picture order count type 1"),
        (sequence_parameters(4, 4, references=17), "reference frames"),
        (sequence_parameters(4, 4, progressive="0"), "interlaced"),
        (sequence_parameters(4, 4)[:6], "cut short"),
        (b"\x67", "cut short"),
        (b"\x67\x42\x00\x1f" + bytes(1_000_000), "32 bits"),
        (b"\x67\x42\x00\x1f\x00\x00\x00\x00\xff", "32 bits"),
    ],
)
def test_what_no_client_needs_is_refused(unit: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        parse_picture_size(unit)


@settings(max_examples=500)
@given(st.binary(max_size=60))
def test_random_bytes_are_refused_or_read(payload: bytes) -> None:
    for head in (b"\x67", b"\x67\x42\x00\x1f", b"\x67\x64\x00\x1f\xac"):
        try:
            size = parse_picture_size(head + payload)
        except CodecError:
            continue
        assert size.coded_width >= 16
        assert size.coded_height >= 16


def test_the_first_slice_of_a_picture_starts_with_block_zero() -> None:
    assert nal_type(b"\x65\x88") == 5
    assert starts_picture(b"\x65\x88")
    assert not starts_picture(b"\x65\x48")
    assert not starts_picture(b"\x65")
