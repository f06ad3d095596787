"""Bits of a parameter set, and what the readers of all video formats say of one."""

from dataclasses import dataclass

from ams_common.errors import CodecError


@dataclass(frozen=True, kw_only=True)
class PictureSize:
    """Size of the pictures that a parameter set announces, in pixels."""

    width: int
    height: int
    coded_width: int
    """Width before cropping, in whole blocks; what a decoder allocates."""
    coded_height: int


def require(condition: bool, otherwise: str) -> None:
    """Refuse video that has what `otherwise` says.

    Raises:
        CodecError: `condition` does not hold.
    """
    if not condition:
        raise CodecError(f"video has {otherwise}, which is not accepted")


class BitReader:
    """Reads bits from the most significant one on."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def unsigned(self, bits: int) -> int:
        """Return the number in the next `bits`, u(n) or f(n) of the standards.

        Raises:
            CodecError: there are fewer.
        """
        if bits > self._left:
            raise CodecError("video has a sequence parameter set that is cut short")
        self._left -= bits
        return (self._value >> self._left) & ((1 << bits) - 1)

    def exp_golomb(self) -> int:
        """Return the next number in exponential Golomb code, ue(v) of the standards, below 2^32.

        Raises:
            CodecError: it is larger or cut short.
        """
        zeros = 0
        while self.unsigned(1) == 0:
            zeros += 1
            require(zeros < 32, "a number of more than 32 bits")
        return (1 << zeros) - 1 + self.unsigned(zeros)
