"""NAL units behind start codes: the byte stream of H.264 and of HEVC (annex B of both)."""

from collections.abc import Callable, Set
from dataclasses import dataclass

from ams_common.bits import PictureSize, require

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


@dataclass(frozen=True, kw_only=True)
class NalSyntax:
    """What tells the units of one format apart, and what follows from it alike in both."""

    accepted: Set[int]
    """Kinds of units that a packet may have."""
    slices: Set[int]
    """Those of them that are parts of a picture."""
    note: int
    """The one in which an encoder writes about itself."""
    parameters: int
    """The one that announces the size of pictures."""
    kind_of: Callable[[bytes], int]
    """Returns the kind of a unit."""
    starts_picture: Callable[[bytes], bool]
    """Tells whether a slice is the first of its picture."""
    parse_picture_size: Callable[[bytes], PictureSize]
    """Reads a unit of parameters; raises CodecError."""

    def without_notes(self, data: bytes) -> bytes:
        """Drop what an encoder says about itself and its options, 700 bytes a batch that no decoder needs."""
        return join_nal_units([unit for unit in split_nal_units(data) if self.kind_of(unit) != self.note])

    def announced_sizes(self, data: bytes) -> list[PictureSize]:
        """Return the sizes that a packet's parameter sets announce.

        Raises:
            CodecError: the packet has units that are not accepted, a parameter set that is not, or not exactly one picture.
        """
        units = split_nal_units(data)
        for unit in units:
            require(self.kind_of(unit) in self.accepted, f"a NAL unit of type {self.kind_of(unit)}")
        pictures = sum(self.starts_picture(unit) for unit in units if self.kind_of(unit) in self.slices)
        require(pictures == 1, f"a packet of {pictures} pictures and not one")
        return [self.parse_picture_size(unit) for unit in units if self.kind_of(unit) == self.parameters]
