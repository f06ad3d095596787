"""Chooses the frames that the server trains on: at the rate that the server last asked for, counted in capture time."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ams_common.messages import Control
from ams_edge.frame import Frame, UInt8Array
from ams_edge.frame_filter import FilterConfig, FrameFilter, View

FIRST_BATCH_SAMPLES = 2
"""The first batch is cut at this many samples instead of a whole interval, so that the device sees its first update early:
two different pictures already move a model that has never seen the place, one alone would teach it that picture."""
FIRST_PERIOD_S = 1.0
"""They are no further apart, however seldom others are: where the uplink is small, the second would come 3 s later or more."""
BUFFER_BYTES = 64 * 1024 * 1024
"""Most pixels kept between two batches: 170 pictures of 512x256, ten times what the slowest training rate asks for."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture kept for training."""

    image: UInt8Array
    """RGB [height, width, 3], both sides even: in the size that the server asked for, or the frame's where that is smaller."""
    capture_time_us: int


class Sampler:
    """Keeps samples between two batches. One thread offers and cuts; `set_control` may be called from any other."""

    def __init__(self, control: Control | None = None, frame_filter: FilterConfig | None = None) -> None:
        """Start with what the server asked for; None keeps nothing until `set_control`. By default no frame is skipped."""
        self._control = control
        self._filter = FrameFilter(frame_filter or FilterConfig())
        self._samples: list[Sample] = []
        self._offered_s = -math.inf
        self._due_s = -math.inf
        self._chosen_s = -math.inf
        self._cut_s: float | None = None
        self.dropped = 0
        """Samples that were thrown away: to make room for newer ones, or because the server asked for another size."""
        self.skipped = 0
        """Frames that were due and not kept, since the device's model knows what they show."""

    def set_control(self, control: Control) -> None:
        """Obey `control` from the next frame on."""
        self._control = control

    def offer(self, frame: Frame, look: Callable[[], View] | None = None) -> bool:
        """Keep `frame` if one is due; tells whether it was kept. Capture times must increase from call to call.

        `look` returns what the device's model says of the frame; None where there is no model yet.
        """
        control = self._control
        if control is None or not control.sampling_hz > 0:
            return False
        period_s = self._period_s(control)
        if not self._is_due(frame.capture_time_s, period_s):
            return False
        self._chosen_s = frame.capture_time_s
        if look is not None and self._filter.skips(frame.capture_time_us, period_s, look):
            self.skipped += 1
            return False
        image = frame.rgb(*_sample_size(control, frame))
        self._make_room_for(image)
        self._samples.append(Sample(image=image, capture_time_us=frame.capture_time_us))
        return True

    def cut(self, capture_time_s: float) -> list[Sample] | None:
        """Return the samples of a batch interval that is over at `capture_time_s`, that of the frame offered last; else None.

        Oldest first. An interval ends with the due frame nearest to its end, so that this one need not wait; one without a
        sample goes on until there is one. Intervals follow each other without gaps, and so hold on average.
        """
        control = self._control
        if control is None or not self._samples or not self._is_over(capture_time_s, control):
            return None
        return self.flush()

    def flush(self) -> list[Sample] | None:
        """Return what is left, oldest first; None if nothing is: for the end of a recording."""
        samples, self._samples = self._samples, []
        return samples or None

    def _period_s(self, control: Control) -> float:
        """Return the seconds from the last sample to the next."""
        first = self._cut_s is None and len(self._samples) < FIRST_BATCH_SAMPLES
        return min(_period_s(control), FIRST_PERIOD_S) if first else _period_s(control)

    def _is_due(self, time_s: float, period_s: float) -> bool:
        """Tell whether this frame is the nearest one to the next point of an even grid of sampling times."""
        half_gap_s = min(time_s - self._offered_s, period_s) / 2
        self._offered_s = time_s
        due_s = self._due_s + period_s
        if time_s + half_gap_s < due_s:
            return False
        self._due_s = due_s if time_s - due_s < period_s else time_s
        return True

    def _is_over(self, time_s: float, control: Control) -> bool:
        """Tell whether the batch in hand ends at this frame, and if so begin the next one."""
        if self._cut_s is None:
            self._cut_s = time_s if len(self._samples) >= FIRST_BATCH_SAMPLES else None
            return self._cut_s is not None
        interval_s = control.batch_interval_s
        due_s = self._cut_s + interval_s
        half_gap_s = min(interval_s, _period_s(control)) / 2
        if time_s < (due_s - half_gap_s if time_s == self._chosen_s else due_s + half_gap_s):
            return False
        self._cut_s = due_s if time_s - due_s < interval_s else time_s
        return True

    def _make_room_for(self, image: UInt8Array) -> None:
        room = max(FIRST_BATCH_SAMPLES, BUFFER_BYTES // image.nbytes)
        fitting = [sample for sample in self._samples if sample.image.shape == image.shape]
        kept = fitting[-(room - 1) :]
        self.dropped += len(self._samples) - len(kept)
        self._samples = kept


def _period_s(control: Control) -> float:
    """Return the seconds from one sample to the next; infinity where none are wanted."""
    return 1 / control.sampling_hz if control.sampling_hz > 0 else math.inf


def _sample_size(control: Control, frame: Frame) -> tuple[int, int]:
    """Return (width, height) of a sample, even: enlarged pixels would cost bits and teach nothing."""
    return min(control.frame_width, frame.width) // 2 * 2, min(control.frame_height, frame.height) // 2 * 2
