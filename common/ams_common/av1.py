"""The little of AV1 (its specification, sections 5.3 to 5.9) to know before a decoder is let loose on bytes from outside."""

from typing import NamedTuple

from ams_common.bits import BitReader, PictureSize, require
from ams_common.errors import CodecError

OBU_SEQUENCE_HEADER, OBU_TEMPORAL_DELIMITER, OBU_FRAME = 1, 2, 6
_ACCEPTED = frozenset({OBU_SEQUENCE_HEADER, OBU_TEMPORAL_DELIMITER, OBU_FRAME})
_HEAD_BYTES = 64
"""More than a sequence header with one operating point can take."""
_SRGB = (1, 13, 0)
"""Primaries, transfer and matrix that stand for 4:4:4."""
_SHOWN = 0b1001_0000
"""Bits of a frame header's first byte: show_existing_frame and show_frame."""


class Unit(NamedTuple):
    """An open bitstream unit."""

    kind: int
    """obu_type, 0..15."""
    payload: bytes


def without_notes(data: bytes) -> bytes:
    """Drop what no decoder needs: delimiters, metadata and padding."""
    return join_units([unit for unit in split_units(data) if unit.kind in (OBU_SEQUENCE_HEADER, OBU_FRAME)])


def announced_sizes(data: bytes) -> list[PictureSize]:
    """Return the sizes that a packet's sequence headers announce.

    Raises:
        CodecError: the packet has units that are not accepted, a header that is not, or not exactly one picture.
    """
    units = split_units(data)
    for unit in units:
        require(unit.kind in _ACCEPTED, f"a unit of type {unit.kind}")
    frames = [unit for unit in units if unit.kind == OBU_FRAME]
    require(len(frames) == 1 and shows_picture(frames[0]), f"a packet of {len(frames)} frames and not one that is shown")
    return [parse_picture_size(unit.payload) for unit in units if unit.kind == OBU_SEQUENCE_HEADER]


def split_units(data: bytes) -> list[Unit]:
    """Return the units of a temporal unit in the low-overhead format.

    Raises:
        CodecError: a unit is cut short, has no size, or belongs to a layer.
    """
    units, place = [], 0
    while place < len(data):
        header = data[place]
        require(header & 0b1000_0101 == 0 and header & 2 == 2, "a unit of a layer, or one without a size")
        size, start = _leb128(data, place + 1)
        place = start + size
        if place > len(data):
            raise CodecError("video has a unit that is cut short")
        units.append(Unit(header >> 3, data[start:place]))
    return units


def join_units(units: list[Unit]) -> bytes:
    """Return the temporal unit that `units` make up."""
    return b"".join(bytes([unit.kind << 3 | 2]) + _to_leb128(len(unit.payload)) + unit.payload for unit in units)


def shows_picture(unit: Unit) -> bool:
    """Tell whether a frame is one to be shown, and not a hidden one or one shown before."""
    return bool(unit.payload) and unit.payload[0] & _SHOWN == 0b0001_0000


def parse_picture_size(payload: bytes) -> PictureSize:
    """Read a sequence header.

    8-bit 4:2:0 video of the main profile is accepted: one layer, no film grain, and fields for sizes no wider than needed. A
    frame that states a size of its own then has less than twice the sides.

    Raises:
        CodecError: the header is cut short, or asks for something else.
    """
    bits = BitReader(payload[:_HEAD_BYTES])
    require(bits.unsigned(3) == 0, "a profile other than main")
    bits.unsigned(1)  # still_picture
    require(bits.unsigned(1) == 0, "the header of a still picture")
    require(bits.unsigned(1) == 0, "timing information")
    delays = bits.unsigned(1)
    require(bits.unsigned(5) == 0 and bits.unsigned(12) == 0, "several operating points")
    if bits.unsigned(5) > 7:
        bits.unsigned(1)  # seq_tier
    if delays and bits.unsigned(1):
        bits.unsigned(4)
    width_bits, height_bits = bits.unsigned(4) + 1, bits.unsigned(4) + 1
    width, height = bits.unsigned(width_bits) + 1, bits.unsigned(height_bits) + 1
    require(2 * width > 1 << width_bits and 2 * height > 1 << height_bits, "room for larger frames than it announces")
    if bits.unsigned(1):  # frame_id_numbers_present_flag
        bits.unsigned(7)
    _skip_tools(bits)
    _check_colour(bits)
    require(bits.unsigned(1) == 0, "film grain")
    return PictureSize(width=width, height=height, coded_width=width, coded_height=height)


def _skip_tools(bits: BitReader) -> None:
    bits.unsigned(7)  # use_128x128_superblock to enable_dual_filter
    ordered = bits.unsigned(1)
    if ordered:
        bits.unsigned(2)  # enable_jnt_comp, enable_ref_frame_mvs
    screen = bits.unsigned(1) or bits.unsigned(1)  # seq_choose_screen_content_tools, seq_force_screen_content_tools
    if screen and not bits.unsigned(1):  # seq_choose_integer_mv
        bits.unsigned(1)
    if ordered:
        bits.unsigned(3)  # order_hint_bits_minus_1
    bits.unsigned(3)  # enable_superres, enable_cdef, enable_restoration


def _check_colour(bits: BitReader) -> None:
    require(bits.unsigned(1) == 0, "more than 8 bits a sample")
    require(bits.unsigned(1) == 0, "no colour")
    if bits.unsigned(1):
        code_points = bits.unsigned(8), bits.unsigned(8), bits.unsigned(8)
        require(code_points != _SRGB, "a chroma format other than 4:2:0")
    bits.unsigned(4)  # color_range, chroma_sample_position, separate_uv_delta_q


def _leb128(data: bytes, place: int) -> tuple[int, int]:
    """Return the number at `place` and the place behind it."""
    value = 0
    for index, byte in enumerate(data[place : place + 4]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, place + index + 1
    raise CodecError("video has a unit whose size is cut short or too large")


def _to_leb128(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])
