"""One-time customisation: the whole student is fine-tuned on the first minute and sent once (AMS paper, section 4.1).

It runs as adaptation does, over the same link and with the same latencies, with a learner that learns a single time. The minute
is `horizon_s` of capture time, sampled at `max_sampling_hz` and sent in several batches an `update_interval_s`;
the batch that completes it ends it. A recording that is shorter is never learnt from. Under a downlink budget the update
carries the largest changes that the burst holds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ams_eval.replay.device import Shown
from ams_eval.schemes import adaptation
from ams_eval.schemes.base import Stage
from ams_server.buffer import TrainingBuffer
from ams_server.edge_session import EdgeSession
from ams_server.learners.ams import AmsLearner
from ams_server.learners.factory import buffer_capacity
from ams_server.pacing import PacingController
from ams_server.sampling import SamplingController
from ams_server.trainer import PhaseResult

NEVER_HZ = 1e-6
"""What a device is told that has nothing more to send: the least rate that a message may carry, a frame in eleven days."""
SETTINGS: Mapping[str, Any] = {
    "scheme": "ams",
    "selection": "full",
    "fraction": 1.0,
    "horizon_s": 60.0,
    "steps": 100,
    "learning_rate": 3e-4,
    "learning_rate_boost": 1.0,
    "codec": "gap-zstd",
    "adaptive_pacing": False,
}
"""What the scheme is made of, to be changed as `one-time:steps=200`. The paper gives the minute but neither steps nor rate:
100 steps of 8 frames see each of its 60 frames 13 times."""


def label(stage: Stage) -> Iterator[Shown]:
    """Yield what a device shows whose model is tuned once."""
    return adaptation.label(stage, _learner)


@dataclass(kw_only=True, eq=False)
class OneTimeLearner(AmsLearner):
    """Collects frames at the highest rate for `span_s` of capture time, trains once, and asks for nothing any more."""

    span_s: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._learnt = False

    @property
    def sampling_hz(self) -> float:
        """Frames per second of capture time that the device should send now."""
        return NEVER_HZ if self._learnt else super().sampling_hz

    def due_after(self, newest_capture_us: int) -> bool:
        """Tell whether the span is over, which it is once; again with the next batch if training failed."""
        if self._learnt or self._first_capture_us is None or not super().due_after(newest_capture_us):
            return False
        return newest_capture_us - self._first_capture_us >= 1e6 * self.span_s

    def learn(self, limit: int, stopping: Callable[[], bool]) -> PhaseResult:
        """Train on the span; all parameters may change, whatever `limit`: there will not be another update."""
        del limit
        result = super().learn(self.trainer.model.layout.trainable_size, stopping)
        self._learnt = not result.failure
        return result


def _learner(stage: Stage, session: EdgeSession) -> OneTimeLearner:
    config = stage.config
    at_full_rate = config.model_copy(update={"min_sampling_hz": config.max_sampling_hz})
    return OneTimeLearner(
        trainer=session.learner.trainer,
        buffer=TrainingBuffer(config.horizon_s, buffer_capacity(config)),
        sampling=SamplingController(at_full_rate),
        pacing=PacingController(config),
        size=(stage.model.manifest.width, stage.model.manifest.height),
        span_s=config.horizon_s,
    )
