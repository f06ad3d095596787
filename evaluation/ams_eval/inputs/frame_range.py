"""Which frames of a source a recording takes."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from ams_common.errors import ConfigurationError
from ams_eval.inputs.input_config import InputConfig


@dataclass(frozen=True, kw_only=True)
class FrameRange:
    """Consecutive frames of a source, and what labels must know of them."""

    first: int
    """Position in the source of the first frame."""
    count: int
    """Number of frames, at least 1."""
    source_count: int | None
    """Frames of the whole source; None where nobody counted to its end."""
    width: int
    """Width of the pictures in pixels."""
    height: int
    """Height of the pictures in pixels."""
    told_count: int = 0
    """Frames of the whole source by its own header, which may be wrong; 0 where it says nothing."""

    @property
    def end(self) -> int:
        """Position in the source after the last frame."""
        return self.first + self.count


def end_s(config: InputConfig) -> float:
    """Return the capture time at which the frames that `config` takes end, in seconds of the source; infinite for all."""
    return math.inf if config.duration_s is None else config.start_s + config.duration_s


def positions(times_s: Sequence[float], config: InputConfig, name: str) -> range:
    """Return the positions of the frames that `config` takes of those at `times_s`, which ascend.

    Raises:
        ConfigurationError: there are none.
    """
    first, end = bisect_left(times_s, config.start_s), bisect_left(times_s, end_s(config))
    if first == end:
        span = (
            f"from {config.start_s:g} s on" if config.duration_s is None else f"from {config.start_s:g} to {end_s(config):g} s"
        )
        raise ConfigurationError(f"{name!r} has no frame {span}: use another --start-s or --duration-s")
    return range(first, end)
