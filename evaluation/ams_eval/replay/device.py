"""A device of a replay: the product's patcher and runtime, driven by virtual time; `uplink` has the rest of it."""

from dataclasses import dataclass

from ams_common.classes import UInt8Array
from ams_common.flights import Flights
from ams_common.layout import Float32Array, weights_digest
from ams_common.messages import Applied, BatchReceived, ClientMessage, Control, FrameBatch, ServerMessage, Update
from ams_common.model_file import StoredModel
from ams_common.snapshot_codec import encode_snapshot
from ams_common.wire import server_message_from_proto, server_message_to_proto
from ams_edge.frame import Frame
from ams_edge.frame_filter import View
from ams_edge.patcher import Patcher
from ams_edge.providers import choose_backend
from ams_edge.swap import ModelSlot
from ams_eval.profile import MODELS
from ams_eval.replay.journal import wire_bytes
from ams_eval.replay.link import Link
from ams_eval.replay.sending import PacedSender
from ams_eval.replay.server import CountingTeacher, Outbound, ReplayServer, Turn
from ams_eval.replay.surroundings import Surroundings
from ams_eval.replay.update_book import UpdateBook
from ams_eval.replay.uplink import Uplink
from ams_server.edge_session import EdgeSession
from ams_server.starting_model import StartingModel
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


class StillDevice:
    """A device that runs one model and talks to nobody."""

    def __init__(self, model: StoredModel, surroundings: Surroundings) -> None:
        """Install `model`.

        Raises:
            ModelError: it cannot run.
        """
        self._profile = surroundings.profile
        self._torch_student = surroundings.torch_student
        self.slot = ModelSlot()
        self.patcher = Patcher(choose_backend(surroundings.runtime), self.slot, surroundings.timeline.clock)
        self.patcher.install(model)
        self._size = (model.manifest.width, model.manifest.height)

    def labels(self, frame: Frame) -> UInt8Array:
        """Return the labels of `frame`, uint8 [height, width] at the student's size."""
        running, held = self.slot.current(), self.patcher.state
        assert running is not None
        assert held is not None
        image = frame.rgb(*self._size)
        with self._profile.part("inference"):
            return self._torch_student.labels(held, image) if self._torch_student else running.model.infer(image)


class ReplayDevice:
    """One device with its session on the server, which it holds a provisioned model for."""

    def __init__(
        self,
        model: StartingModel,
        session: EdgeSession,
        teacher: CountingTeacher,
        server: ReplayServer,
        surroundings: Surroundings,
    ) -> None:
        """Connect a device that starts with `model` to `server`, where `teacher` labels for its `session`.

        Raises:
            ModelError: the model cannot run.
        """
        self._session = session
        self._server = server
        self._timeline = surroundings.timeline
        self._latency = surroundings.latency
        self._journal = surroundings.journal
        self._profile = surroundings.profile
        self._newest_capture_us: int | None = None
        self._still = StillDevice(starting_state(model), surroundings)
        with self._profile.part(MODELS):
            self._still.patcher.prepare_updates()
        self._book = UpdateBook(self._timeline)
        self._uplink = self._open_uplink(surroundings)
        self._downlink = self._open_downlink(surroundings)
        self._journal.provisioned(len(model.graph) + len(encode_snapshot(session.mirror.weights, model.manifest.layout)))
        self._flights = Flights(self._timeline.clock)
        server.attach(Outbound(session=session, teacher=teacher, deliver=self._on_turn, backlog_of=self._backlog))

    def _open_uplink(self, surroundings: Surroundings) -> Uplink:
        control = self._session.control()
        self._journal.asked(self._journal.starts_s, control, self._session.learner.update_interval_s)
        return Uplink(surroundings, self._book, control, budget=self._session.budget, on_arrival=self._arrive_at_server)

    def _open_downlink(self, surroundings: Surroundings) -> PacedSender[ServerMessage]:
        link = surroundings.link
        return PacedSender(
            self._timeline,
            Link(self._timeline, link.down, link.delay_s),
            on_sent=self._leave_server,
            on_arrival=self._arrive_at_device,
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
        self._uplink.offer(frame, lambda: View(labels=self._still.labels(frame), learnt_us=self._newest_capture_us))

    @property
    def _newest_capture_s(self) -> float | None:
        return None if self._newest_capture_us is None else self._newest_capture_us / 1e6

    def _backlog(self) -> int:
        return self._downlink.backlog + self._flights.late

    def _arrive_at_server(self, message: ClientMessage) -> None:
        if isinstance(message, Applied):
            self._land(message)
        if not isinstance(message, FrameBatch):
            return
        self._book.batch_arrived(message.batch_id)
        self._send_down(BatchReceived(batch_id=message.batch_id))
        self._server.submit(self._session, message)

    def _land(self, applied: Applied) -> None:
        flight = self._flights.arrive(applied.version)
        if flight is not None:
            self._session.spending.link_speed.observe(flight.less(self._build_s))

    @property
    def _build_s(self) -> float:
        return self._still.patcher.build_time_ms / 1e3 if self._latency.measured else self._latency.build_s

    def _leave_server(self, message: ServerMessage, time_s: float) -> None:
        """Take note of a message that the link takes now and whose last byte leaves at `time_s`."""
        self._journal.sent_by_server(time_s, message)
        if isinstance(message, Update):
            self._flights.depart(message.version, wire_bytes(len(message.payload)))

    def _on_turn(self, turn: Turn) -> None:
        self._journal.frames_labelled += turn.frames
        for message in turn.messages:
            if isinstance(message, Update):
                self._book.version_made(message.version, turn)
            self._send_down(message)

    def _send_down(self, message: ServerMessage) -> None:
        proto = server_message_to_proto(message)
        parsed = server_message_from_proto(proto)
        self._downlink.send(parsed, proto.ByteSize(), self._session.spending.downlink, large=isinstance(message, Update))

    def _arrive_at_device(self, message: ServerMessage) -> None:
        match message:
            case Control():
                self._uplink.obey(message)
                self._journal.asked(self._timeline.now_s, message, self._session.learner.update_interval_s)
            case BatchReceived():
                self._uplink.acknowledge(message.batch_id)
            case Update():
                arrived_s = self._timeline.now_s
                self._timeline.at(arrived_s + self._build_s, lambda: self._apply(message, arrived_s))
            case _:
                pass

    def _apply(self, update: Update, arrived_s: float) -> None:
        before = self._still.patcher.state
        assert before is not None
        with self._profile.part("patching"):
            applied, _ = self._timeline.clock.time(lambda: self._still.patcher.apply(update))
        after = self._still.patcher.state
        assert after is not None
        self._newest_capture_us = update.newest_capture_time_us
        self._journal.applied(self._book.record(update, arrived_s=arrived_s, before=before.vector, after=after.vector))
        self._uplink.send(applied)


def starting_state(model: StartingModel, weights: Float32Array | None = None) -> StoredModel:
    """Return `model` as a device would store it at version 0, with its own or other `weights`, float32 [P]."""
    vector = student_vector(model.module) if weights is None else weights
    return StoredModel(
        manifest=model.manifest, graph=model.graph, vector=vector, version=0, weights_digest=weights_digest(vector)
    )
