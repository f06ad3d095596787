"""What a field that arrived may hold: each function returns the value or raises a ProtocolError that names the field."""

import re
from typing import TypeVar

from ams_common.errors import ProtocolError
from ams_common.layout import DIGEST_BYTES

MAX_NAME = 256
"""Longest name of a tensor, class, codec and the like, in characters."""
MAX_REASON = 500
"""Longest reason for a person, in characters."""
MAX_COUNT = 2**53
"""Largest version, batch id and count of parameters: exact in a float too."""
MAX_TIME_US = 2**60
"""Largest absolute capture time: sums and differences still fit 64 bits."""
MAX_SIDE = 4096
"""Largest width or height, in pixels."""

_DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NumberT = TypeVar("NumberT", int, float)


def in_range(field: str, value: NumberT, least: NumberT, most: NumberT) -> NumberT:
    """Return `value` when it lies in least..most; NaN and infinities never do."""
    if not least <= value <= most:
        raise ProtocolError(f"{field} is {value}, it must be {least} to {most}")
    return value


def count(field: str, value: int) -> int:
    """Return a version, an id or a number of things, 0 to MAX_COUNT."""
    return in_range(field, value, 0, MAX_COUNT)


def side(field: str, value: int) -> int:
    """Return a width or height, 1 to MAX_SIDE pixels."""
    return in_range(field, value, 1, MAX_SIDE)


def at_least_zero(field: str, value: float) -> float:
    """Return a time or a loss, finite and not negative."""
    return in_range(field, value, 0.0, 1e12)


def digest(field: str, value: bytes) -> bytes:
    """Return 16 bytes."""
    if len(value) != DIGEST_BYTES:
        raise ProtocolError(f"{field} has {len(value)} bytes, it must have {DIGEST_BYTES}")
    return value


def name(field: str, value: str) -> str:
    """Return a printable name of 1 to MAX_NAME characters."""
    if not value:
        raise ProtocolError(f"{field} is empty")
    return optional_name(field, value)


def optional_name(field: str, value: str) -> str:
    """Return a printable name of at most MAX_NAME characters, perhaps none."""
    return _printable(field, value, MAX_NAME)


def device_id(value: str) -> str:
    """Return a name of a device, which is safe as the name of a file too."""
    if not _DEVICE_ID.fullmatch(value):
        raise ProtocolError(f"device id {value[:64]!r} must be 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or digit")
    return value


def reason(value: str) -> str:
    """Return a sentence that may go to a log."""
    return _printable("reason", value, MAX_REASON)


def as_reason(text: str) -> str:
    """Return `text` made fit to pass `reason`: one line, cut at MAX_REASON."""
    return "".join(character if character.isprintable() else " " for character in text)[:MAX_REASON]


def _printable(field: str, value: str, longest: int) -> str:
    if len(value) > longest:
        raise ProtocolError(f"{field} has {len(value)} characters, {longest} are allowed")
    if not value.isprintable():
        raise ProtocolError(f"{field} holds characters that cannot be printed: {value[:64]!r}")
    return value
