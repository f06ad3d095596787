"""Fills a number of bytes: the quantiser at which an encoder does so, and which frames to keep where none does.

The logarithm of the size falls nearly linearly with the quantiser, so the search goes along a straight line: through what is
known on both sides of the target, or with the usual slope while only one side is known.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

Packets: TypeAlias = tuple[tuple[int, bytes], ...]
"""(presentation index, data) of each picture, in decoding order."""
FILLED = 0.95
"""Least share of the target that is good enough."""
_AIM = 0.98
"""Share of the target that the search aims at: sizes scatter by a percent or two, and one above the target is of no use."""
_SLOPE = -0.135
"""Usual change of the logarithm of the size for one step of the quantiser: half as many bytes for 5 steps."""
_LEAST_SLOPE, _STEEPEST_SLOPE = -0.04, -0.3
_NARROW = 0.08
"""Distance between two quantisers of which one is too fine that no other between them makes a better choice."""
_MARGIN = 0.1
"""Share of the distance between two such quantisers that the next one keeps from both."""
_STRAIGHT_TRIES = 5
"""After so many tries the line is of no use: halves are taken."""


class QuantiserRange(NamedTuple):
    """Quantisers that make sense, and the one to try first."""

    finest: float
    first: float
    coarsest: float


class _Try(NamedTuple):
    quantiser: float
    log_bytes: float


def packets_bytes(packets: Packets) -> int:
    """Return the bytes of all packets."""
    return sum(len(data) for _, data in packets)


def fill(encode: Callable[[float], Packets], target_bytes: int, quantisers: QuantiserRange) -> tuple[Packets | None, Packets]:
    """Search the quantiser at which `encode` returns from FILLED of `target_bytes` to all of it.

    Less comes out where the finest quantiser does not need more, and where a step of the quantiser is larger than that.

    Returns:
        the packets of the finest that fits, None where not even the coarsest does; and those of the last one that was tried.
    """
    aim = math.log(max(1.0, _AIM * target_bytes))
    best: Packets | None = None
    too_fine: list[_Try] = []
    fitting: list[_Try] = []
    quantiser = quantisers.first
    while True:
        encoded = encode(quantiser)
        size_bytes = packets_bytes(encoded)
        tried = _Try(quantiser, math.log(max(1, size_bytes)))
        if size_bytes > target_bytes:
            too_fine.append(tried)
            ended = quantiser >= quantisers.coarsest
        else:
            best = encoded
            fitting.append(tried)
            ended = quantiser <= quantisers.finest or size_bytes >= FILLED * target_bytes
        if ended or _is_narrow(too_fine, fitting):
            return best, encoded
        quantiser = min(max(_next(too_fine, fitting, aim), quantisers.finest), quantisers.coarsest)


def _is_narrow(too_fine: list[_Try], fitting: list[_Try]) -> bool:
    return bool(too_fine and fitting) and fitting[-1].quantiser - too_fine[-1].quantiser < _NARROW


def _next(too_fine: list[_Try], fitting: list[_Try], aim: float) -> float:
    if not (too_fine and fitting):
        return _beyond(too_fine or fitting, aim)
    low, high = too_fine[-1], fitting[-1]
    width = high.quantiser - low.quantiser
    if len(too_fine) + len(fitting) > _STRAIGHT_TRIES:
        return low.quantiser + width / 2
    place = low.quantiser + width * (aim - low.log_bytes) / (high.log_bytes - low.log_bytes)
    return min(max(place, low.quantiser + _MARGIN * width), high.quantiser - _MARGIN * width)


def _beyond(tries: list[_Try], aim: float) -> float:
    """Return the next quantiser while all tries were on one side of the target."""
    last, slope = tries[-1], _SLOPE
    if len(tries) > 1 and last.quantiser != tries[-2].quantiser:
        measured = (last.log_bytes - tries[-2].log_bytes) / (last.quantiser - tries[-2].quantiser)
        slope = min(max(measured, _STEEPEST_SLOPE), _LEAST_SLOPE)
    return last.quantiser + (aim - last.log_bytes) / slope


def evenly(count: int, kept: int) -> list[int]:
    """Return `kept` of the indices 0 to count - 1, ascending and evenly spread, the last one among them."""
    return [count - 1 - place * count // kept for place in reversed(range(kept))]
