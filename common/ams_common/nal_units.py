"""NAL units behind start codes: the byte stream of H.264 and of HEVC (annex B of both)."""

from collections.abc import Callable, Set

from ams_common.bits import require

START_CODE = b"\x00\x00\x01"


def split_nal_units(stream: bytes) -> list[bytes]:
    """Return the NAL units of a byte stream, without start codes and trailing zero bytes."""
    return [unit for unit in (piece.rstrip(b"\x00") for piece in stream.split(START_CODE)[1:]) if unit]


def join_nal_units(units: list[bytes]) -> bytes:
    """Return the byte stream of the units, each behind a start code of three bytes."""
    return b"".join(START_CODE + unit for unit in units)


def payload_bits(data: bytes) -> bytes:
    """Return the payload of a unit without the bytes that keep start codes out of it."""
    return data.replace(b"\x00\x00\x03", b"\x00\x00")


def check_units(
    units: list[bytes],
    accepted: Set[int],
    slices: Set[int],
    *,
    kind_of: Callable[[bytes], int],
    starts: Callable[[bytes], bool],
) -> None:
    """See that a packet has units of `accepted` kinds alone, and exactly one picture.

    Raises:
        CodecError: it has others, or not one picture.
    """
    for unit in units:
        require(kind_of(unit) in accepted, f"a NAL unit of type {kind_of(unit)}")
    pictures = sum(starts(unit) for unit in units if kind_of(unit) in slices)
    require(pictures == 1, f"a packet of {pictures} pictures and not one")
