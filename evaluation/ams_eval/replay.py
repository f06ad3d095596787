"""Replay of a recording through both sides of the product, in one process and without a network.

The parts are the product's own: sampler, H.264 batches, teacher, buffer, trainer, update codec, patcher and ONNX Runtime. Time
is capture time: every frame is labelled by a model that has learnt from earlier frames only, and labelling, training and
transfer take no time, as in the figures of the AMS paper.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ams_common.classes import UInt8Array
from ams_common.clock import ManualClock
from ams_common.layout import weights_digest
from ams_common.messages import FrameBatch, Update
from ams_common.video_codec import VIDEO_CODEC, encode_frames
from ams_edge.frame import Frame
from ams_edge.patcher import Patcher
from ams_edge.providers import choose_backend
from ams_edge.runtime_config import RuntimeConfig
from ams_edge.sampler import Sample, Sampler
from ams_edge.store import StoredModel
from ams_edge.swap import ModelSlot
from ams_server.backend import StartingModel
from ams_server.edge_session import EdgeSession
from ams_server.students.export import student_vector

_RUN_ID = bytes(16)


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledFrame:
    """One frame with what the edge saw."""

    frame: Frame
    labels: UInt8Array
    """uint8 [height, width] at the model's size."""
    version: int
    """Version of the weights."""


@dataclass(kw_only=True)
class Traffic:
    """What a replay sent, payload bytes by message."""

    batches: list[FrameBatch] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)


class Replay:
    """One device and its session on the server; a session of None leaves the device with the model it starts with."""

    def __init__(self, model: StartingModel, session: EdgeSession | None, runtime: RuntimeConfig) -> None:
        """Install `model` on the device.

        Raises:
            ModelError: it cannot run.
        """
        self._session = session
        self._slot = ModelSlot()
        clock = ManualClock()
        self._patcher = Patcher(choose_backend(runtime), self._slot, clock)
        self._patcher.install(starting_state(model))
        self._patcher.prepare_updates()
        self._sampler = Sampler(session.control() if session is not None else None)
        self.traffic = Traffic()

    def run(self, frames: Iterable[Frame]) -> Iterator[LabelledFrame]:
        """Label `frames` in order, learning from each only after it was labelled."""
        for frame in frames:
            running = self._slot.current()
            assert running is not None
            manifest = running.model.manifest
            labels = running.model.infer(frame.rgb(manifest.width, manifest.height))
            yield LabelledFrame(frame=frame, labels=labels, version=running.version)
            if self._session is not None:
                self._learn(frame, self._session)

    def _learn(self, frame: Frame, session: EdgeSession) -> None:
        control = session.control()
        self._sampler.set_control(control)
        self._sampler.offer(frame)
        samples = self._sampler.cut(frame.capture_time_s)
        if samples is None:
            return
        batch = _encode(samples, len(self.traffic.batches) + 1, control.batch_bytes)
        self.traffic.batches.append(batch)
        session.ingest(batch, _RUN_ID)
        mirror = session.train() if session.due else None
        if mirror is not None:
            session.mirror = mirror
            update = mirror.recent_updates[-1]
            self.traffic.updates.append(update)
            self._patcher.apply(update)


def starting_state(model: StartingModel) -> StoredModel:
    """Return `model` as a device would store it at version 0."""
    vector = student_vector(model.module)
    return StoredModel(
        manifest=model.manifest, graph=model.graph, vector=vector, version=0, weights_digest=weights_digest(vector)
    )


def _encode(samples: list[Sample], batch_id: int, target_bytes: int) -> FrameBatch:
    images = [sample.image for sample in samples]
    times_us = tuple(sample.capture_time_us for sample in samples)
    height, width, _ = images[0].shape
    return FrameBatch(
        batch_id=batch_id,
        video_codec=VIDEO_CODEC,
        width=width,
        height=height,
        capture_times_us=times_us,
        packets=encode_frames(images, times_us, target_bytes=target_bytes).packets,
    )
