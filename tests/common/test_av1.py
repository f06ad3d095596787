"""The AV1 that is read before decoding."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ams_common.av1 import (
    OBU_FRAME,
    OBU_SEQUENCE_HEADER,
    OBU_TEMPORAL_DELIMITER,
    Unit,
    announced_sizes,
    join_units,
    parse_picture_size,
    split_units,
    without_notes,
)
from ams_common.bits import PictureSize
from ams_common.errors import CodecError


def sequence_header(
    width: int,
    height: int,
    *,
    profile: int = 0,
    reduced: str = "0",
    timing: str = "0",
    points: int = 0,
    spare_bits: int = 0,
    level: int = 8,
    screen: str = "1" + "1",
    colour: str = "0" + "0" + "1" + f"{1:08b}{1:08b}{1:08b}",
    grain: str = "0",
) -> bytes:
    """Write a sequence header after section 5.5."""
    bits_of = [max(1, (side - 1).bit_length()) + spare_bits for side in (width, height)]
    bits = (
        f"{profile:03b}0" + reduced + timing + f"0{points:05b}" + "0" * 12 + f"{level:05b}" + ("0" if level > 7 else "")
        + f"{bits_of[0] - 1:04b}{bits_of[1] - 1:04b}" + f"{width - 1:0{bits_of[0]}b}{height - 1:0{bits_of[1]}b}"
        + "0" + "1010101" + "1" + "00" + screen + "110" + "111" + colour + "0" + "00" + "0" + grain + "1"
    )  # fmt: skip
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


SHOWN = Unit(OBU_FRAME, b"\x10\x00\x55")
sides = st.integers(2, 1 << 15)


@given(sides, sides, st.sampled_from([4, 8]), st.sampled_from(["11", "101", "0100", "00"]))
def test_sizes_are_read_as_written(width: int, height: int, level: int, screen: str) -> None:
    size = parse_picture_size(sequence_header(width, height, level=level, screen=screen))
    assert size == PictureSize(width=width, height=height, coded_width=width, coded_height=height)


def test_a_header_that_an_encoder_wrote() -> None:
    size = parse_picture_size(bytes.fromhex("0000000c477ece357cc020"))
    assert (size.width, size.height) == (480, 360)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (sequence_header(64, 48, profile=1), "profile other than main"),
        (sequence_header(64, 48, reduced="1"), "still picture"),
        (sequence_header(64, 48, timing="1"), "timing"),
        (sequence_header(64, 48, points=2), "operating points"),
        (sequence_header(64, 48, spare_bits=1), "room for larger frames"),
        (sequence_header(64, 48, colour="1" + "0" * 30), "8 bits"),
        (sequence_header(64, 48, colour="0" + "1" + "0" * 30), "no colour"),
        (sequence_header(64, 48, colour="0" + "0" + "1" + f"{1:08b}{13:08b}{0:08b}"), "4:2:0"),
        (sequence_header(64, 48, grain="1"), "film grain"),
        (sequence_header(64, 48)[:6], "cut short"),
        (b"", "cut short"),
    ],
)
def test_what_no_client_needs_is_refused(header: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        parse_picture_size(header)


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_random_bytes_are_refused_or_read(data: bytes) -> None:
    for read in (parse_picture_size, split_units, announced_sizes):
        try:
            read(data)
        except CodecError:
            continue


@given(st.lists(st.builds(Unit, st.integers(0, 15), st.binary(max_size=300)), max_size=5))
def test_units_are_split_where_they_were_joined(units: list[Unit]) -> None:
    assert split_units(join_units(units)) == units


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x36\x00\x00", "unit of a layer"),
        (b"\x30\x00", "without a size"),
        (b"\xb2\x00", "unit of a layer"),
        (b"\x32\x05abc", "cut short"),
        (b"\x32\xff\xff\xff\xff\x7f", "too large"),
        (b"\x32", "cut short"),
    ],
)
def test_units_of_layers_and_broken_ones_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        split_units(data)


def test_a_packet_has_one_picture_that_is_shown() -> None:
    header = Unit(OBU_SEQUENCE_HEADER, sequence_header(64, 48))
    assert [(size.width, size.height) for size in announced_sizes(join_units([header, SHOWN]))] == [(64, 48)]
    for units in ([header], [SHOWN, SHOWN], [Unit(OBU_FRAME, b"\x00")], [Unit(OBU_FRAME, b"\x98")], [Unit(OBU_FRAME, b"")]):
        with pytest.raises(CodecError, match=r"a packet of \d frames"):
            announced_sizes(join_units(units))
    with pytest.raises(CodecError, match="unit of type 3"):
        announced_sizes(join_units([SHOWN, Unit(3, b"\x80")]))


def test_what_no_decoder_needs_is_dropped() -> None:
    notes = [Unit(OBU_TEMPORAL_DELIMITER, b""), Unit(5, b"note"), SHOWN]
    assert without_notes(join_units(notes)) == join_units([SHOWN])
