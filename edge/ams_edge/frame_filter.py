"""Which of the frames that are due need not be sent: those in which the device's own model sees what it has just learnt.

The server asks for frames by what the teacher says of those that came. In front of a fixed camera many of them show what the
last one did. The device sees that without a teacher, for no more than a comparison of two label maps: it labels every frame
anyway. What it has never learnt it does not see. So it judges only after a while, only beside a frame that it has learnt from,
and never for long; where it has changed its mind about the same scene since, that counts as a change too.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import Field

from ams_common.classes import UInt8Array
from ams_common.iou import changed_share
from ams_common.settings import PartConfig

SETTLING_S = 60.0
"""All frames are sent for so long from the first update on, of this process or of a new connection. A student in front of an
indoor camera that judged at once did not see the people whom it had not learnt: 45 instead of 71 % mIoU in the first 20 s."""
KEPT_BYTES = 16 << 20
"""Of label maps that are kept of the frames sent and not learnt yet, 128 of 512x256. Where they are more the oldest are let go,
so that later frames are compared with one that was learnt before."""


class FilterConfig(PartConfig):
    """Which of the frames that the server asks for are sent."""

    skip_below: float = Field(default=0.0, ge=0, le=1)
    """After the first minute skip frames whose labels, by this device's model, differ in less than this share of the pixels
    from those of the newest frame that it has learnt from; 0 skips none. 0.08 suits a fixed camera."""
    longest_skip_s: float = Field(default=30.0, gt=0, le=3600)
    """Seconds of capture time after which the next frame that is due is sent in any case, give or take half a period."""


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """What the device's model says of a frame."""

    labels: UInt8Array
    """uint8 [height, width] at the student's size."""
    learnt_us: int | None
    """Capture time of the newest frame that the model has learnt from; None where it has not learnt on this stream."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sent:
    capture_time_us: int
    labels: UInt8Array


class FrameFilter:
    """Remembers what the model saw in the frames sent lately. Belongs to one thread."""

    def __init__(self, config: FilterConfig) -> None:
        self._config = config
        self._since_us: int | None = None
        """Capture time since which the model has been learning; None while it is not."""
        self._learnt: _Sent | None = None
        """The newest one that the model has learnt from, as far as it is known."""
        self._unlearnt: deque[_Sent] = deque()
        """Those that came after it."""
        self._sent_us = 0
        """Capture time of the newest of all."""

    def skips(self, capture_time_us: int, period_s: float, look: Callable[[], View]) -> bool:
        """Tell whether the frame of `capture_time_us` need not be sent; one that is sent is what later ones are compared with.

        The next frame is due after `period_s`. `look` is called for what the model says of this one, where that matters.
        """
        if not self._config.skip_below:
            return False
        view = look()
        if self._is_known(capture_time_us, period_s, view):
            return True
        self._sent_us = capture_time_us
        self._unlearnt.append(_Sent(capture_time_us=capture_time_us, labels=view.labels.copy()))
        while len(self._unlearnt) * view.labels.nbytes > KEPT_BYTES:
            self._unlearnt.popleft()
        return False

    def _is_known(self, capture_time_us: int, period_s: float, view: View) -> bool:
        if view.learnt_us is None:
            self._since_us = None
            return False
        if self._since_us is None:
            self._since_us = capture_time_us
        learnt = self._newest_until(view.learnt_us)
        if learnt is None or capture_time_us - self._since_us < 1e6 * SETTLING_S:
            return False
        silent_s = (capture_time_us - self._sent_us) / 1e6
        if silent_s + period_s / 2 > self._config.longest_skip_s or learnt.labels.shape != view.labels.shape:
            return False
        share = changed_share(learnt.labels, view.labels)
        return share is not None and share < self._config.skip_below

    def _newest_until(self, learnt_us: int) -> _Sent | None:
        """Return the newest frame sent that the model has learnt from; those that came after it may be on their way still."""
        while self._unlearnt and self._unlearnt[0].capture_time_us <= learnt_us:
            self._learnt = self._unlearnt.popleft()
        return self._learnt if self._learnt is not None and self._learnt.capture_time_us <= learnt_us else None
