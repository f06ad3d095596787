"""Adaptive Model Streaming: phases on the frames of the last minutes, at rates that follow the scene (AMS paper, section 3)."""

from collections.abc import Callable
from dataclasses import dataclass

from ams_common.budget import REFERENCE_UPLINK_BPS
from ams_common.classes import UInt8Array
from ams_server.buffer import TrainingBuffer
from ams_server.learners.base import LabelledFrames, at_size
from ams_server.learners.novelty import Novelty
from ams_server.pacing import PacingController
from ams_server.sampling import SamplingController
from ams_server.state import State, part_of, prefixed
from ams_server.trainer import PhaseResult, Trainer

EARLY_SHARE = 0.1
"""A phase may start this share of the update interval early rather than wait for the next batch. The one after it starts no
earlier for that, so that the interval holds on average."""


@dataclass(kw_only=True, eq=False)
class AmsLearner:
    """Keeps labelled frames and trains on mini-batches of them once every update interval, more often at the start of a run."""

    trainer: Trainer
    buffer: TrainingBuffer
    sampling: SamplingController
    pacing: PacingController
    size: tuple[int, int]
    """Width and height of the student's input."""
    novelty: Novelty | None = None
    """Judges frames where the sampling rate follows what the student gets wrong; otherwise it follows the teacher's labels."""

    def __post_init__(self) -> None:
        self.least_interval_s = 0.0
        """What the budgets need."""
        self._last_labels: UInt8Array | None = None
        self._first_capture_us: int | None = None
        self._newest_capture_us: int | None = None
        self._trained_capture_us: int | None = None
        self._begun_us = 0.0
        """Capture time from which the present interval counts; known once there was a phase."""

    @property
    def sampling_hz(self) -> float:
        """Frames per second of capture time that the scene asks for."""
        return self.sampling.rate_hz

    @property
    def least_sampling_hz(self) -> float:
        """Frames per second of capture time that are needed at least."""
        return self.sampling.least_hz

    @property
    def update_interval_s(self) -> float:
        """Seconds of capture time between two updates, T_update of the paper, longer where the budgets need it."""
        return max(self.pacing.interval_s, self.least_interval_s)

    def reference_uplink_bps(self, sampling_hz: float) -> float:
        """Return the rate in bit/s that batches aim at while the uplink has no limit: that of the paper for any number."""
        return REFERENCE_UPLINK_BPS

    def start_run(self) -> None:
        """Forget the frames and the capture clock of an earlier run."""
        self.buffer.clear()
        self._last_labels = None
        self._first_capture_us = None
        self._newest_capture_us = None
        self._trained_capture_us = None

    def take(self, frames: LabelledFrames) -> None:
        """Put the frames of a batch into the buffer and adjust the sampling rate."""
        times_s = [time_us / 1e6 for time_us in frames.capture_times_us]
        for image, labels, time_s in zip(frames.images, frames.labels, times_s, strict=True):
            small_image, small_labels = at_size(image, labels, self.size)
            if self.novelty is not None:
                self.sampling.add(self.novelty.judge(small_image, small_labels))
            elif self._last_labels is not None and self._last_labels.shape == labels.shape:
                self.sampling.observe(self._last_labels, labels)
            self._last_labels = labels
            self.buffer.add(small_image, small_labels, time_s)
        self.sampling.update(times_s[-1])
        if self._first_capture_us is None:
            self._first_capture_us = min(frames.capture_times_us)
        newest_us = max(frames.capture_times_us)
        self._newest_capture_us = newest_us if self._newest_capture_us is None else max(self._newest_capture_us, newest_us)

    @property
    def due(self) -> bool:
        """True when there are frames the weights have not learnt from and the update interval is over."""
        return self._newest_capture_us is not None and self.due_after(self._newest_capture_us)

    def due_after(self, newest_capture_us: int) -> bool:
        """Tell whether the update interval is over once the frames up to `newest_capture_us` have been taken."""
        if self._trained_capture_us is None:
            return True
        early_us = 1e6 * EARLY_SHARE * self._interval_s
        return newest_capture_us > self._trained_capture_us and newest_capture_us >= self._due_us - early_us

    def news_after(self, newest_capture_us: int) -> float:
        """Return the rate that the scene asks for times the part of the horizon that no phase has learnt from.

        At the start of a run all is new; later the part grows with the time that the device waits.
        """
        if self._trained_capture_us is None or self._first_capture_us is None:
            return self.sampling_hz
        remembered_us = min(newest_capture_us - self._first_capture_us, 1e6 * self.buffer.horizon_s)
        return self.sampling_hz * (newest_capture_us - self._trained_capture_us) / max(remembered_us, 1.0)

    @property
    def _due_us(self) -> float:
        """Capture time from which the next phase has enough to learn, once there was one."""
        return self._begun_us + 1e6 * self._interval_s

    def _holds_on_average(self, newest_us: int) -> bool:
        """Tell whether the next interval counts from when this phase was due: not after a pause, nor at the start of a run."""
        if self._trained_capture_us is None or self._interval_s < self.update_interval_s:
            return False
        return abs(newest_us - self._due_us) < 1e6 * self._interval_s

    @property
    def _interval_s(self) -> float:
        """Seconds of capture time from the last phase to the next one."""
        trained_us, first_us = self._trained_capture_us, self._first_capture_us
        assert trained_us is not None and first_us is not None, "nothing was learnt"  # noqa: PT018
        return max(self.pacing.interval_after((trained_us - first_us) / 1e6), self.least_interval_s)

    def learn(self, limit: int, stopping: Callable[[], bool]) -> PhaseResult:
        """Run one training phase on the buffer that changes at most `limit` trainable parameters."""
        result = self.trainer.train_phase(self.buffer, limit, stopping)
        newest_us = self._newest_capture_us
        assert newest_us is not None, "nothing to learn"
        begun_us = self._due_us if self._holds_on_average(newest_us) else float(newest_us)
        self.pacing.observe(self.sampling.rate_hz)
        self._begun_us = begun_us
        self._trained_capture_us = newest_us
        if self.novelty is not None and not result.failure:
            self.novelty.learnt(self.buffer)
        return result

    def state(self) -> State:
        """Return copies of the states of trainer, sampling rate and pace."""
        return {
            **prefixed("trainer", self.trainer.state()),
            **prefixed("sampling", self.sampling.state()),
            **prefixed("pacing", self.pacing.state()),
        }

    def load_state(self, state: State) -> None:
        """Go on from `state`.

        Raises:
            ModelError: a part is missing or does not fit.
        """
        self.trainer.load_state(part_of(state, "trainer"))
        self.sampling.load_state(part_of(state, "sampling"))
        self.pacing.load_state(part_of(state, "pacing"))
