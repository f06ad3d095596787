"""What every learner does: a session labels the frames of its device and leaves the rest of the learning to one of these."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from ams_common.classes import UInt8Array
from ams_server.state import State
from ams_server.trainer import PhaseResult, Trainer


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledFrames:
    """The n frames of one batch with the teacher's labels, oldest first."""

    images: UInt8Array
    """uint8 RGB [n, H, W, 3], at the size that the device sent."""
    labels: UInt8Array
    """uint8 [n, H, W] in the classes of the student; 255 is ignored."""
    capture_times_us: tuple[int, ...]
    """n capture times in microseconds, which may be negative."""


class Learner(Protocol):
    """One device's way of learning: takes labelled frames, trains when it is due, and says what it needs of the device."""

    @property
    def trainer(self) -> Trainer:
        """The student; what `learn` changed is sent, and what the device decodes is handed back through `Trainer.adopt`."""
        ...

    @property
    def sampling_hz(self) -> float:
        """Frames per second of capture time that it wishes for; where the uplink is slow, the device sends fewer."""
        ...

    @property
    def least_sampling_hz(self) -> float:
        """Frames per second of capture time that it needs at least."""
        ...

    least_interval_s: float
    """Seconds of capture time from one update to the next at least, as the budgets need them; its owner sets it."""

    @property
    def update_interval_s(self) -> float:
        """Seconds of capture time from one update to the next at the present pace, by which budgets are shared out."""
        ...

    def reference_uplink_bps(self, sampling_hz: float) -> float:
        """Return the rate in bit/s that batches of so many frames a second aim at while the uplink has no limit."""
        ...

    def start_run(self) -> None:
        """Forget what belongs to an earlier run of the device's process: its frames and its capture clock."""
        ...

    def take(self, frames: LabelledFrames) -> None:
        """Take the frames of a batch."""
        ...

    @property
    def due(self) -> bool:
        """True when `learn` should be called."""
        ...

    def due_after(self, newest_capture_us: int) -> bool:
        """Tell whether `learn` should be called once all frames captured up to `newest_capture_us` have been taken."""
        ...

    def news_after(self, newest_capture_us: int) -> float:
        """Return how much `learn` would have to teach once all frames captured up to `newest_capture_us` have been taken.

        Frames per second of capture time: of all that it remembers, those that it has not learnt from.
        """
        ...

    def learn(self, limit: int, stopping: Callable[[], bool]) -> PhaseResult:
        """Run one training phase that changes at most `limit` trainable parameters; only when there are frames.

        A phase without steps found nothing to learn, and nothing has changed. One that failed has been undone, by `stopping`
        for example, which is asked before each step; it is not tried again before there are new frames.
        """
        ...

    def state(self) -> State:
        """Return copies of what a later learner needs to go on, beside the weights, the frames and what belongs to the run."""
        ...

    def load_state(self, state: State) -> None:
        """Go on from `state`; the weights come through `Trainer.adopt`. After an error the learner is of no use any more.

        Raises:
            ModelError: a part is missing or does not fit.
        """
        ...


def at_size(image: UInt8Array, labels: UInt8Array, size: tuple[int, int]) -> tuple[UInt8Array, UInt8Array]:
    """Return an RGB image, uint8 [H, W, 3], and its labels, uint8 [H, W], resized to `size` (width, height)."""
    return (
        cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False),
        cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8, copy=False),
    )
