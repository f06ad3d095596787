"""The HEVC that is read before decoding."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ams_common.bits import PictureSize
from ams_common.errors import CodecError
from ams_common.hevc import SYNTAX, nal_type, parse_picture_size, starts_picture
from ams_common.nal_units import join_nal_units


def golomb(number: int) -> str:
    digits = f"{number + 1:b}"
    return "0" * (len(digits) - 1) + digits


def sequence_parameters(
    width: int,
    height: int,
    crop: tuple[int, int, int, int] | None = None,
    *,
    sub_layers: int = 0,
    chroma_format: int = 1,
    depth: int = 0,
    references: int = 4,
) -> bytes:
    """Write the NAL unit of a sequence parameter set after section 7.3.2.2.1, up to the number of reference frames."""
    cropping = "1" + "".join(map(golomb, crop)) if crop else "0"
    bits = (
        "0000" + f"{sub_layers:03b}" + "1" + "01" * 48 + golomb(0) + golomb(chroma_format) + golomb(width) + golomb(height)
        + cropping + golomb(depth) + golomb(depth) + golomb(4) + "1" + golomb(references - 1) + golomb(0) + golomb(0) + "1"
    )  # fmt: skip
    payload = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    written = bytearray()
    for byte in payload:
        if written[-2:] == b"\x00\x00" and byte <= 3:
            written.append(3)
        written.append(byte)
    return bytes([33 << 1, 1]) + bytes(written)


sides = st.integers(8, 9000) | st.integers(8, 1 << 28)


@given(sides, sides, st.none() | st.tuples(*[st.integers(0, 3)] * 4))
def test_sizes_are_read_as_written(width: int, height: int, crop: tuple[int, int, int, int] | None) -> None:
    left, right, top, bottom = crop or (0, 0, 0, 0)
    assert parse_picture_size(sequence_parameters(width, height, crop)) == PictureSize(
        width=width - 2 * (left + right), height=height - 2 * (top + bottom), coded_width=width, coded_height=height
    )


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (sequence_parameters(64, 64, sub_layers=2), "several temporal layers"),
        (sequence_parameters(64, 64, chroma_format=3), "4:2:0"),
        (sequence_parameters(64, 64, depth=2), "8 bits"),
        (sequence_parameters(64, 64, references=17), "reference frames"),
        (sequence_parameters(64, 64)[:14], "cut short"),
        (b"\x42\x01", "cut short"),
    ],
)
def test_what_no_client_needs_is_refused(unit: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        parse_picture_size(unit)


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_random_bytes_are_refused_or_read(payload: bytes) -> None:
    for head in (b"", b"\x42\x01", sequence_parameters(64, 64)[:15]):
        try:
            parse_picture_size(head + payload)
        except CodecError:
            continue


def test_units_of_other_layers_are_of_no_known_type() -> None:
    assert nal_type(b"\x42\x01\x01") == 33
    assert nal_type(b"\x42\x09\x01") == nal_type(b"\x43\x01\x01") == nal_type(b"\xc2\x01") == nal_type(b"\x42") == 63


SLICE = b"\x26\x01\xaf"


def test_the_first_bit_of_a_slice_says_whether_it_starts_a_picture() -> None:
    assert starts_picture(SLICE)
    assert not starts_picture(b"\x26\x01\x2f")
    assert not starts_picture(b"\x26\x01")


def test_a_packet_has_one_picture_and_ordinary_units() -> None:
    parameters = sequence_parameters(64, 48)
    assert [(size.width, size.height) for size in SYNTAX.announced_sizes(join_nal_units([parameters, SLICE]))] == [(64, 48)]
    for units, message in (
        ([parameters], "0 pictures"),
        ([SLICE, SLICE], "2 pictures"),
        ([SLICE, b"\x7c\x01\x00\x01"], "type 62"),
        ([SLICE, b"\x42\x09" + parameters[2:]], "type 63"),
    ):
        with pytest.raises(CodecError, match=message):
            SYNTAX.announced_sizes(join_nal_units(units))


def test_notes_of_the_encoder_are_dropped() -> None:
    assert SYNTAX.without_notes(join_nal_units([b"\x4e\x01\x05note", SLICE])) == join_nal_units([SLICE])
