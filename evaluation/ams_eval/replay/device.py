"""A device of a replay: the product's sampler, encoder, patcher and runtime, driven by virtual time."""

from dataclasses import dataclass

import numpy as np

from ams_common.budget import TokenBucket, burst_bytes
from ams_common.classes import UInt8Array
from ams_common.layout import Float32Array, weights_digest
from ams_common.messages import BatchReceived, ClientMessage, Control, FrameBatch, ServerMessage, Update
from ams_common.session.outbox import BatchOutbox
from ams_common.update_codec import encode_snapshot
from ams_common.wire import (
    client_message_from_proto,
    client_message_to_proto,
    server_message_from_proto,
    server_message_to_proto,
)
from ams_edge.encoder import BatchEncoder
from ams_edge.frame import Frame
from ams_edge.link import LinkConfig
from ams_edge.patcher import Patcher
from ams_edge.providers import choose_backend
from ams_edge.runtime_config import RuntimeConfig
from ams_edge.sampler import Sample, Sampler
from ams_edge.store import StoredModel
from ams_edge.swap import ModelSlot
from ams_eval.outcome import UpdateRecord
from ams_eval.profile import MODELS, Profile
from ams_eval.replay.journal import Journal
from ams_eval.replay.latency import Latency
from ams_eval.replay.link import Link, LinkShape
from ams_eval.replay.sending import PacedSender
from ams_eval.replay.server import CountingTeacher, Outbound, ReplayServer, Turn
from ams_eval.replay.timeline import Timeline
from ams_server.backend import StartingModel
from ams_server.edge_session import EdgeSession
from ams_server.students.export import student_vector


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """What a device showed for one frame."""

    frame: Frame
    labels: UInt8Array
    """uint8 [height, width] at the student's size, in its classes."""
    version: int = 0
    """Version of the model that labelled it; 0 for the model as it came."""
    newest_capture_s: float | None = None
    """Capture time of the newest frame that the model has learnt from; None for the model as it came."""


@dataclass(kw_only=True)
class _Passage:
    """When a batch passed each point on its way."""

    newest_capture_s: float
    cut_s: float
    encoded_s: float = 0.0
    arrived_s: float = 0.0


class StillDevice:
    """A device that runs one model and talks to nobody."""

    def __init__(self, model: StoredModel, runtime: RuntimeConfig, timeline: Timeline, profile: Profile) -> None:
        """Install `model`.

        Raises:
            ModelError: it cannot run.
        """
        self._profile = profile
        self.slot = ModelSlot()
        self.patcher = Patcher(choose_backend(runtime), self.slot, timeline.clock)
        self.patcher.install(model)
        self._size = (model.manifest.width, model.manifest.height)

    def labels(self, frame: Frame) -> UInt8Array:
        """Return the labels of `frame`, uint8 [height, width] at the student's size."""
        running = self.slot.current()
        assert running is not None
        image = frame.rgb(*self._size)
        with self._profile.part("inference"):
            return running.model.infer(image)


class ReplayDevice:
    """One device with its session on the server, which it holds a provisioned model for."""

    def __init__(
        self,
        model: StartingModel,
        session: EdgeSession,
        *,
        teacher: CountingTeacher,
        server: ReplayServer,
        runtime: RuntimeConfig,
        link: LinkShape,
        latency: Latency,
        timeline: Timeline,
        journal: Journal,
        profile: Profile,
    ) -> None:
        """Connect a device that starts with `model` to `server`.

        Raises:
            ModelError: the model cannot run.
        """
        self._session = session
        self._server = server
        self._latency = latency
        self._timeline = timeline
        self._journal = journal
        self._profile = profile
        self._still = StillDevice(starting_state(model), runtime, timeline, profile)
        with profile.part(MODELS):
            self._still.patcher.prepare_updates()
        self._newest_capture_s: float | None = None
        self._control = session.control()
        self._sampler = Sampler(self._control)
        journal.asked(journal.starts_s, self._control, session.learner.update_interval_s)
        journal.provisioned(len(model.graph) + len(encode_snapshot(session.mirror.weights)))
        self._outbox = BatchOutbox(LinkConfig.model_fields["outbox_batches"].default)
        self._encoder = BatchEncoder()
        self._encoder_free_s = 0.0
        self._passages: dict[int, _Passage] = {}
        self._turns: dict[int, tuple[Turn, float]] = {}
        """Turn that made a version, and when it ended."""
        self._last_changed: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
        rate_bps = session.budget.uplink_bps
        self._uplink_bucket = TokenBucket(rate_bps, burst_bytes(rate_bps), timeline.clock)
        self._uplink = PacedSender[ClientMessage](
            timeline,
            Link(timeline, link.up, link.delay_s),
            on_sent=lambda message, time_s: journal.sent_by_device(time_s, message),
            on_arrival=self._arrive_at_server,
        )
        self._downlink = PacedSender[ServerMessage](
            timeline,
            Link(timeline, link.down, link.delay_s),
            on_sent=lambda message, time_s: journal.sent_by_server(time_s, message),
            on_arrival=self._arrive_at_device,
        )
        server.attach(
            Outbound(session=session, teacher=teacher, deliver=self._on_turn, backlog_of=lambda: self._downlink.backlog)
        )

    def show(self, frame: Frame) -> Shown:
        """Return what the device shows for `frame`, which it has not learnt from; `learn` comes afterwards."""
        self._timeline.run_until(frame.capture_time_s)
        running = self._still.slot.current()
        assert running is not None
        return Shown(
            frame=frame, labels=self._still.labels(frame), version=running.version, newest_capture_s=self._newest_capture_s
        )

    def learn(self, frame: Frame) -> None:
        """Sample the next frame if one is due, and send a batch if its interval is over."""
        self._timeline.run_until(frame.capture_time_s)
        self._sampler.set_control(self._control)
        self._sampler.offer(frame)
        samples = self._sampler.cut(frame.capture_time_s)
        if samples is not None:
            self._encode(samples, frame.capture_time_s)

    # Uplink

    def _encode(self, samples: list[Sample], cut_s: float) -> None:
        with self._profile.part("coding of video"):
            batch, measured_s = self._timeline.clock.time(lambda: self._encoder.encode(samples, self._control.batch_bytes))
        start_s = max(cut_s, self._encoder_free_s)
        self._encoder_free_s = start_s + (measured_s if self._latency.measured else self._latency.encode_s)
        self._passages[batch.batch_id] = _Passage(newest_capture_s=samples[-1].capture_time_us / 1e6, cut_s=start_s)
        self._timeline.at(self._encoder_free_s, lambda: self._offer(batch))

    def _offer(self, batch: FrameBatch) -> None:
        self._passages[batch.batch_id].encoded_s = self._timeline.now_s
        self._outbox.add(batch)
        self._send_batches()

    def _send_batches(self) -> None:
        """Hand the link one batch at a time: those that wait may still be given up for newer ones."""
        batch = self._outbox.peek()
        if batch is not None and self._uplink.backlog == 0:
            self._outbox.pop()
            self._send_up(batch)

    def _send_up(self, message: ClientMessage) -> None:
        proto = client_message_to_proto(message)
        parsed = client_message_from_proto(proto)
        self._uplink.send(parsed, proto.ByteSize(), self._uplink_bucket, large=isinstance(message, FrameBatch))

    def _arrive_at_server(self, message: ClientMessage) -> None:
        if not isinstance(message, FrameBatch):
            return
        self._passages[message.batch_id].arrived_s = self._timeline.now_s
        self._send_down(BatchReceived(batch_id=message.batch_id))
        self._server.submit(self._session, message)

    # Downlink

    def _on_turn(self, turn: Turn) -> None:
        self._journal.frames_labelled += turn.frames
        for message in turn.messages:
            if isinstance(message, Update):
                self._turns[message.version] = turn, self._timeline.now_s
            self._send_down(message)

    def _send_down(self, message: ServerMessage) -> None:
        proto = server_message_to_proto(message)
        parsed = server_message_from_proto(proto)
        self._downlink.send(parsed, proto.ByteSize(), self._session.downlink, large=isinstance(message, Update))

    def _arrive_at_device(self, message: ServerMessage) -> None:
        match message:
            case Control():
                self._control = message
                self._journal.asked(self._timeline.now_s, message, self._session.learner.update_interval_s)
            case BatchReceived():
                self._outbox.acknowledge(message.batch_id)
                self._send_batches()
            case Update():
                arrived_s = self._timeline.now_s
                build_s = self._still.patcher.build_time_ms / 1e3 if self._latency.measured else self._latency.build_s
                self._timeline.at(arrived_s + build_s, lambda: self._apply(message, arrived_s))
            case _:
                pass

    def _apply(self, update: Update, arrived_s: float) -> None:
        state = self._still.patcher.state
        assert state is not None
        with self._profile.part("patching"):
            applied, _ = self._timeline.clock.time(lambda: self._still.patcher.apply(update))
        after = self._still.patcher.state
        assert after is not None
        self._newest_capture_s = update.newest_capture_time_us / 1e6
        self._journal.applied(self._record(update, arrived_s, state.vector, after.vector))
        self._send_up(applied)

    def _record(self, update: Update, arrived_s: float, before: Float32Array, after: Float32Array) -> UpdateRecord:
        changed = np.flatnonzero(before != after)
        overlap = float("nan")
        if self._last_changed is not None and len(changed):
            overlap = len(np.intersect1d(changed, self._last_changed, assume_unique=True)) / len(changed)
        self._last_changed = changed
        turn, ended_s = self._turns.pop(update.version)
        passage = self._passages[update.newest_batch_id]
        now_s = self._timeline.now_s
        return UpdateRecord(
            time_s=now_s,
            version=update.version,
            newest_capture_s=update.newest_capture_time_us / 1e6,
            payload_bytes=len(update.payload),
            changed=update.changed,
            steps=turn.steps,
            loss=update.loss,
            change_norm=float(np.linalg.norm(after[changed].astype(np.float64) - before[changed])),
            mask_overlap=overlap,
            wait_s=passage.cut_s - passage.newest_capture_s,
            encode_s=passage.encoded_s - passage.cut_s,
            upload_s=passage.arrived_s - passage.encoded_s,
            queue_s=turn.start_s - passage.arrived_s,
            label_s=turn.label_s,
            train_s=turn.train_s,
            code_s=turn.code_s,
            download_s=arrived_s - ended_s,
            build_s=now_s - arrived_s,
        )


def starting_state(model: StartingModel, weights: Float32Array | None = None) -> StoredModel:
    """Return `model` as a device would store it at version 0, with its own or other `weights`, float32 [P]."""
    vector = student_vector(model.module) if weights is None else weights
    return StoredModel(
        manifest=model.manifest, graph=model.graph, vector=vector, version=0, weights_digest=weights_digest(vector)
    )
