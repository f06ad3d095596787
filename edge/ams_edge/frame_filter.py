"""Which of the frames that are due need not be sent: those in which the device's own model sees what it has just learnt.

The server asks for frames by what the teacher says of those that came. In front of a fixed camera many of them show what the
last one did. The device sees that without a teacher, for no more than a comparison of two label maps: it labels every frame
anyway. What it has never learnt it does not see. So it judges only after a while, only once it has learnt from the frame sent
last, and never for long; where it has changed its mind about the same scene since, that counts as a change too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from ams_common.classes import UInt8Array
from ams_common.settings import PartConfig

SETTLING_S = 60.0
"""From the first frame on all are sent for so long. A student in front of an indoor camera that judged at once did not see the
people whom it had not learnt yet: 45 instead of 71 % mIoU in the first 20 s."""


class FilterConfig(PartConfig):
    """Which of the frames that the server asks for are sent."""

    skip_below: float = Field(default=0.0, ge=0, le=1)
    """After the first minute skip frames whose labels, by this device's model, differ from those of the frame sent last in less
    than this share of the pixels, once the model has learnt from that one; 0 skips none. 0.08 suits a fixed camera."""
    longest_skip_s: float = Field(default=30.0, gt=0, le=3600)
    """Seconds of capture time after which a frame is sent in any case."""


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """What the device's model says of a frame."""

    labels: UInt8Array
    """uint8 [height, width] at the student's size."""
    learnt_us: int | None
    """Capture time of the newest frame that the model has learnt from; None where that is not known."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sent:
    capture_time_us: int
    labels: UInt8Array


class FrameFilter:
    """Remembers what the model saw in the frame sent last. Belongs to one thread."""

    def __init__(self, config: FilterConfig) -> None:
        self._config = config
        self._first_us: int | None = None
        self._sent: _Sent | None = None

    def skips(self, capture_time_us: int, look: Callable[[], View]) -> bool:
        """Tell whether the frame of `capture_time_us` need not be sent; one that is sent is what later ones are compared with.

        `look` is called for what the model says of it, where that matters.
        """
        if not self._config.skip_below:
            return False
        if self._first_us is None:
            self._first_us = capture_time_us
        if capture_time_us - self._first_us < 1e6 * SETTLING_S:
            return False
        view = look()
        if self._is_known(capture_time_us, view):
            return True
        self._sent = _Sent(capture_time_us=capture_time_us, labels=view.labels.copy())
        return False

    def _is_known(self, capture_time_us: int, view: View) -> bool:
        sent = self._sent
        if sent is None or view.learnt_us is None or view.learnt_us < sent.capture_time_us:
            return False
        if capture_time_us - sent.capture_time_us >= 1e6 * self._config.longest_skip_s:
            return False
        return changed_share(sent.labels, view.labels) < self._config.skip_below


def changed_share(previous: UInt8Array, current: UInt8Array) -> float:
    """Return the share of the pixels of two label maps, uint8 [H, W], whose label differs; 1.0 for maps of different sizes."""
    if previous.shape != current.shape:
        return 1.0
    return np.count_nonzero(previous != current) / current.size
