"""One device on the server: its mirror of the weights, its budget, and the learner that keeps its student tuned.

There are no threads and no sockets here: the worker calls `ingest` for a batch that arrived and `train` when `due`. Every
update is decoded again by the server itself, and training goes on from the result: the mirror at version v is bit for bit what
the device runs at version v. A Mirror is never changed but replaced as a whole by the scheduler, together with the sending of
the update that leads to it. Whoever reads `state` holds the `lock`, and so does the scheduler from `train` to the new mirror.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ams_common.clock import Clock
from ams_common.errors import ModelError
from ams_common.layout import Float32Array, weights_digest
from ams_common.messages import MAX_UPDATE_BYTES, Control, FrameBatch, ModelManifest, Update
from ams_common.sparse_update import EncodingPlan, UpdateCodec, apply_update
from ams_common.video_codec import decode_frames
from ams_common.video_formats import VIDEO_FORMATS, can_decode
from ams_common.wire import update_from_bytes, update_to_bytes
from ams_server.coordinates import Int64Array
from ams_server.device_budget import Allotted, DeviceBudget
from ams_server.learners.base import LabelledFrames, Learner
from ams_server.model_age import ModelAge
from ams_server.quantisation import QuantiserConfig, encoding_plan
from ams_server.rounding import rounded_learnt
from ams_server.spending import Spending
from ams_server.state import State, integer, numbers, part_of, prefixed
from ams_server.teachers.base import Teacher
from ams_server.trainer import PhaseResult

logger = logging.getLogger(__name__)

KEPT_UPDATES = 8
"""Updates kept for a device that comes back having missed some; one that missed more gets a snapshot."""
UPDATES_IN_STATE = 2
"""Of these, updates that a later process may need: at most one is on the way to the device, and one is being applied."""
MAX_BATCH_FRAMES = 600
"""Frames in one batch at most: ten minutes at one frame a second."""
MAX_BATCH_PIXELS = 1 << 25
"""Pixels in one batch at most, half as many again as an edge keeps between two batches."""
LEAST_BITS_PER_PARAMETER, MOST_BITS_PER_PARAMETER = 1e-3, 1e6
"""Changes of zero compress to nearly nothing, and an update of very few parameters is mostly headers."""
LAST_VERSION = 2**53
"""Later than any version that training can come to."""

BEFORE_ALL_US = -(2**62)
"""Earlier than any capture time, which may be negative."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mirror:
    """What the device runs once it has everything that was sent."""

    version: int
    weights: Float32Array
    """float32 [P]."""
    digest: bytes
    """Digest of `weights`."""
    recent_updates: tuple[Update, ...] = ()
    """The last few updates, the newest leads to `version`."""


@dataclass(kw_only=True, eq=False)
class EdgeSession:
    """State of one device between and across connections."""

    device_id: str
    manifest: ModelManifest
    spending: Spending
    teacher: Teacher
    learner: Learner
    codec: UpdateCodec
    quantiser: QuantiserConfig
    clock: Clock

    def __post_init__(self) -> None:
        weights = self.learner.trainer.vector()
        self.mirror = Mirror(version=0, weights=weights, digest=weights_digest(weights))
        self.lock = threading.Lock()
        """Held while mirror and trainer do not belong together, and by those who need them to."""
        self.model_age = ModelAge(self.clock)
        """Age of the model that the device runs; belongs to the service's loop."""
        self.learner.least_interval_s = self.spending.least_interval_s
        self._allotted = Allotted(budget=self.spending.budget)
        self._rounded_version = 0
        """Version at which the mirror is rounded; the starting weights are."""
        self.steps_taken = 0
        """Optimiser steps so far, those of undone phases included."""
        self._run_id = b""
        self._teacher_to_student = self.teacher.classes.lookup_into(self.manifest.classes)
        self._newest_batch_id = 0
        self._newest_capture_us = BEFORE_ALL_US
        self._newest_arrived_s = 0.0
        self._label_ms = 0.0

    @property
    def budget(self) -> DeviceBudget:
        """What the device may use."""
        return self.spending.budget

    def change_budget(self, held: Allotted) -> None:
        """Keep to what is `held` from now on: the next `control` and the next update do; debts stay."""
        self._allotted = held
        self.spending.change_budget(held.budget)
        self.learner.least_interval_s = self.spending.least_interval_s

    def state(self) -> State:
        """Return all that a later session of this device needs to go on from the mirror: copies, or what never changes.

        Left out is what belongs to the run of the device: frames, capture times and batch numbers.
        """
        on_the_way = self.mirror.recent_updates[-UPDATES_IN_STATE:]
        updates = {str(update.version): np.frombuffer(update_to_bytes(update), np.uint8) for update in on_the_way}
        return {
            "version": np.array(self.mirror.version, np.int64),
            "weights": self.mirror.weights,
            "bits_per_parameter": np.array(self.spending.bits_per_parameter, np.float64),
            **prefixed("update", updates),
            **prefixed("learner", self.learner.state()),
        }

    def load_state(self, state: State) -> None:
        """Go on from the `state` of a session with the same `session_identity`.

        Raises:
            AmsError: a part is missing or does not fit; the session is then of no use any more.
        """
        weights = state.get("weights")
        if weights is None or weights.dtype != np.float32:
            raise ModelError("state has no float32 weights")
        self.learner.trainer.adopt(weights)
        self.learner.load_state(part_of(state, "learner"))
        self.spending.bits_per_parameter = max(
            LEAST_BITS_PER_PARAMETER, float(numbers(state, "bits_per_parameter", (), most=MOST_BITS_PER_PARAMETER))
        )
        version = integer(state, "version", most=LAST_VERSION)
        updates = (update_from_bytes(array.tobytes()) for array in part_of(state, "update").values())
        chain = tuple(sorted(updates, key=lambda update: update.version))[-UPDATES_IN_STATE:]
        self.mirror = Mirror(version=version, weights=weights, digest=weights_digest(weights), recent_updates=chain)

    def round_mirror(self, start: Float32Array) -> None:
        """Round what the mirror has learnt since `start`, float32 [P], so that a snapshot is small; to be called with the lock.

        Training goes on from the rounded weights, which are one version later. At most once for each version.
        """
        base = self.mirror
        if base.version == self._rounded_version:
            return
        weights = rounded_learnt(base.weights, start, self.manifest.layout)
        self.learner.trainer.adopt(weights)
        self.mirror = Mirror(version=base.version + 1, weights=weights, digest=weights_digest(weights))
        self._rounded_version = self.mirror.version

    def _start_run(self, run_id: bytes) -> None:
        """Forget what belongs to an earlier run of the device's process: its capture clock and its batch numbers."""
        self._run_id = run_id
        self._newest_batch_id = 0
        self._newest_capture_us = BEFORE_ALL_US
        self.learner.start_run()

    def control(self) -> Control:
        """Return what the device should do from now on."""
        return Control(
            **self.spending.uplink_plan(self.learner)._asdict(),
            video_codecs=tuple(filter(can_decode, VIDEO_FORMATS)),
            uplink_bps=self.budget.uplink_bps,
            downlink_bps=self.budget.downlink_bps,
            uplink_bound=self._allotted.uplink_bound,
            downlink_bound=self._allotted.downlink_bound,
        )

    def ingest(self, batch: FrameBatch, run_id: bytes, *, arrived_s: float | None = None) -> None:
        """Decode and label a batch of the device's run `run_id` and hand it to the learner.

        `arrived_s` is when it came, on the session's clock; None for just now.

        Raises:
            CodecError: the batch is not a valid video.
            AmsError: the teacher cannot label these frames.
        """
        if run_id != self._run_id:
            self._start_run(run_id)
        started_s = self.clock.now_s()
        most_frames = min(MAX_BATCH_FRAMES, max(2, MAX_BATCH_PIXELS // (batch.width * batch.height)))
        images = decode_frames(batch, max_pixels=self.spending.frame_size.most_pixels, max_frames=most_frames)
        self.spending.batch_came(batch.payload_bytes)
        times_us = batch.capture_times_us
        labels = self._teacher_to_student[self.teacher.label(images, [time_us / 1e6 for time_us in times_us])]
        self.learner.take(LabelledFrames(images=images, labels=labels, capture_times_us=times_us))
        self._newest_batch_id = max(self._newest_batch_id, batch.batch_id)
        self._newest_capture_us = max(self._newest_capture_us, *times_us)
        self._newest_arrived_s = started_s if arrived_s is None else arrived_s
        self._label_ms = 1e3 * (self.clock.now_s() - started_s)

    @property
    def due(self) -> bool:
        """True when the learner wants to train."""
        return self.learner.due

    def due_after(self, batch: FrameBatch, run_id: bytes) -> bool:
        """Tell whether the learner will want to train once all batches up to `batch` of the run `run_id` are ingested."""
        return run_id != self._run_id or self.learner.due_after(batch.capture_times_us[-1])

    def news_after(self, batch: FrameBatch, run_id: bytes) -> float:
        """Return how much the learner will have to teach once all batches up to `batch` of the run `run_id` are ingested."""
        return self.learner.sampling_hz if run_id != self._run_id else self.learner.news_after(batch.capture_times_us[-1])

    def train(self, stopping: Callable[[], bool] = lambda: False) -> Mirror | None:
        """Run one training phase and return the next mirror, whose newest update brings the device to it.

        The caller makes it the session's `mirror` before the next phase. Returns None when there was nothing to learn or the
        phase had to be undone, by `stopping` for example; weights and moments are then as before.
        """
        started_s = self.clock.now_s()
        result = self.learner.learn(self.spending.update_plan(self.learner).parameters, stopping)
        self.steps_taken += result.steps
        if result.failure:
            logger.warning("device %s: a training phase was undone: %s", self.device_id, result.failure)
        if result.failure or not result.steps:
            return None
        return self._next_mirror(result, started_s)

    def _next_mirror(self, result: PhaseResult, started_s: float) -> Mirror | None:
        trained_s = self.clock.now_s()
        base = self.mirror
        try:
            payload, weights, changed = self._encode(base.weights, result.indices)
        except ModelError as error:
            logger.warning("device %s: a training phase was undone: %s", self.device_id, error)
            self.learner.trainer.undo()
            self.learner.trainer.adopt(base.weights)
            return None
        coded_s = self.clock.now_s()
        train_ms, code_ms = 1e3 * (trained_s - started_s), 1e3 * (coded_s - trained_s)
        at_server_ms = 1e3 * (coded_s - self._newest_arrived_s)
        update = Update(
            version=base.version + 1,
            base_version=base.version,
            base_digest=base.digest,
            result_digest=weights_digest(weights),
            codec=self.codec.name,
            payload=payload,
            newest_batch_id=self._newest_batch_id,
            newest_capture_time_us=self._newest_capture_us,
            changed=changed,
            loss=result.loss,
            label_ms=self._label_ms,
            train_ms=train_ms,
            code_ms=code_ms,
            queue_ms=max(0.0, at_server_ms - self._label_ms - train_ms - code_ms),
        )
        return Mirror(
            version=update.version,
            weights=weights,
            digest=update.result_digest,
            recent_updates=(*base.recent_updates, update)[-KEPT_UPDATES:],
        )

    def _encode(self, base: Float32Array, indices: Int64Array) -> tuple[bytes, Float32Array, int]:
        """Return the coded update, the weights that it decodes to, from which training goes on, and how many it changes.

        Raises:
            ModelError: a weight or its change is more than the codec can express.
        """
        trainer = self.learner.trainer
        limit_bytes = self.spending.update_plan(self.learner).limit_bytes
        vector, plan = trainer.vector(), self._encoding_plan(limit_bytes)
        payload = self.codec.encode(base, vector, indices, plan)
        most_bytes = MAX_UPDATE_BYTES if limit_bytes is None else limit_bytes
        while len(payload) > most_bytes and len(indices) > 1:
            # A codec that keeps no limit, with changes that are harder to code than the last ones.
            indices = largest_changes(base, vector, indices, int(0.95 * len(indices) * most_bytes / len(payload)))
            payload = self.codec.encode(base, vector, indices, plan)
        self.spending.update_made(len(payload), len(indices))
        update = self.codec.decode(payload, base)
        weights = apply_update(base, update)
        trainer.adopt(weights)
        return payload, weights, len(update.indices)

    def _encoding_plan(self, limit_bytes: int | None) -> EncodingPlan:
        trainer = self.learner.trainer
        return encoding_plan(
            self.quantiser,
            self.manifest.layout,
            trainer.squared_gradients(),
            usual_change=trainer.usual_change,
            limit_bytes=limit_bytes,
        )


def largest_changes(base: Float32Array, vector: Float32Array, indices: Int64Array, count: int) -> Int64Array:
    """Return the `count`, at least 1, of `indices`, int64 ascending, where `vector` differs most from `base`, float32 [P]."""
    kept = max(1, count)
    order = np.argpartition(-np.abs(vector[indices] - base[indices]), kept - 1)[:kept]
    return np.sort(indices[order])
