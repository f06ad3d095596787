"""The edge agent: one of the two places that know the whole road.

    for frame, labels in Agent(settings):
        ...

Camera, model and sinks run in the caller's thread and wait for nothing else. Encoder, link and patcher have threads of their
own and meet the caller only in the sampler (samples out) and the model slot (new weights in).
"""

import contextlib
import logging
import secrets
import threading
from collections.abc import Iterator
from random import SystemRandom
from types import TracebackType

from ams_common.budget import TokenBucket, allowance
from ams_common.classes import ClassSet
from ams_common.clock import Clock, SystemClock
from ams_common.errors import AmsError, ConfigurationError, ModelError, reported
from ams_common.events import EventLog
from ams_common.messages import Applied, Budget, Control, FrameBatch, Hello, Update
from ams_common.model_file import StoredModel
from ams_common.session.client import (
    BatchTaken,
    ClientEvent,
    ControlChanged,
    Disconnected,
    Draining,
    ModelReceived,
    ProblemReported,
    SnapshotAnnounced,
    SnapshotChunk,
    SnapshotReceived,
    UpdateReceived,
)
from ams_common.session.holdings import Holdings
from ams_common.settings import home_expanded
from ams_common.update_codec import CODECS
from ams_common.video_formats import require_encoder
from ams_edge.camera import open_camera
from ams_edge.download import Download
from ams_edge.encoder import EncoderWorker, agreed_codec
from ams_edge.frame import Frame, UInt8Array
from ams_edge.link import Link
from ams_edge.link_plan import as_carried
from ams_edge.own_budgets import OwnBudgets, told
from ams_edge.patcher import Patcher, PatcherWorker
from ams_edge.picture import Picture
from ams_edge.providers import choose_backend
from ams_edge.provisioned import read_provisioned
from ams_edge.sampler import Sampler
from ams_edge.settings import AgentSettings, require_source_kept
from ams_edge.sinks import Sink, check_outputs, open_sinks
from ams_edge.statistics import Statistics
from ams_edge.store import ModelStore
from ams_edge.swap import ModelSlot, RunningModel

POLL_S = 0.2
"""How soon a waiting loop sees that it must end."""

_log = logging.getLogger(__name__)


class Agent:
    """Runs the model on every frame it can, and keeps it tuned. Iterate once; leaving the loop closes everything."""

    def __init__(self, settings: AgentSettings, clock: Clock | None = None) -> None:
        """Open the camera and check all that can be wrong at the start; nothing runs before the iteration.

        Raises:
            SourceError: the camera, stream or file cannot be opened.
            ConfigurationError: an output or the state folder cannot be written, the video encoder is missing, or the model
                cannot be used.
        """
        self._settings = settings
        self._clock = clock or SystemClock()
        require_source_kept(settings)
        check_outputs(settings)
        require_encoder(settings.video_codec)
        self._provisioned = _provisioned(settings)
        self._store = ModelStore(home_expanded(settings.state_folder) / settings.device_id, settings, self._clock)
        self._events = EventLog(settings.events, self._clock)
        try:
            self._camera = open_camera(settings, self._clock)
        except AmsError:
            self._events.close()
            raise
        self._slot = ModelSlot()
        self._patcher = Patcher(choose_backend(settings), self._slot, self._clock)
        self._patching = PatcherWorker(
            self._patcher,
            self._store,
            on_applied=self._on_applied,
            on_refused=self._on_refused,
            on_repeated=lambda applied: self._link.send_applied(applied),
        )
        self._sampler = Sampler()
        self._encoder = EncoderWorker(self._on_batch, self._clock)
        self._budgets = OwnBudgets(settings)
        self._changing_budgets = threading.RLock()
        self._link = self._make_link()
        self._sinks: tuple[Sink, ...] = ()
        self._statistics = Statistics(self._clock, self._events)
        self._run_id = secrets.token_bytes(16)
        self._download = Download(settings, self._provisioned, self._clock)
        self._control: Control | None = None
        self._misfit: AmsError | None = None
        """Why the server's model cannot run on this device, if so."""
        self._problem: ProblemReported | None = None
        """What the server said last when it ended a stream with an error."""
        self._slow_link = False
        self._sampling_hz = 0.0
        self._stopping = threading.Event()

    def __enter__(self) -> "Agent":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[Frame, UInt8Array]]:
        """Yield every frame that was run, with its labels, uint8 [H, W] at the model's size.

        Waits for a first model where none is stored; from then on it waits for the camera alone.

        Raises:
            SourceError: the recording broke off.
            ConfigurationError: the server will not serve this device as it is, and there is no model to run without it.
        """
        try:
            self._start()
            running = self._await_model()
            if running is not None:
                self._sinks = open_sinks(self._settings, running.model.manifest.classes, lossless=self._settings.fast)
                yield from self._frames()
        finally:
            self.close()
            if self._slot.current() is not None:
                # Updates that came last were applied on closing.
                _log.info("%s", self._statistics.summary)

    @property
    def classes(self) -> ClassSet:
        """Meaning of the labels; known from the first frame on.

        Raises:
            ModelError: there is no model yet.
        """
        running = self._slot.current()
        if running is None:
            raise ModelError("there is no model yet, so its classes are not known: ask for them inside the loop")
        return running.model.manifest.classes

    def stop(self) -> None:
        """Let the iteration end after the frame in hand; may be called from any thread and from a signal handler."""
        self._stopping.set()

    def set_budgets(self, *, uplink_kbps: float, downlink_kbps: float) -> None:
        """Keep to other budgets from now on, in kbit/s; 0 for no limit. May be called from any thread.

        Raises:
            ConfigurationError: a budget is negative or no number.
        """
        # One after the other, so that the server is asked last for what holds here; a signal handler may come in between.
        with self._changing_budgets:
            self._budgets.change(uplink_kbps=uplink_kbps, downlink_kbps=downlink_kbps)
            _log.info("budgets are now %s", told(self._budgets.own))
            self._tell_uneven()
            # At once, without waiting for the server, which may allow less.
            self._hold()
            self._link.change_budget(self._budgets.asked)

    def close(self) -> None:
        """Stop all threads, store the running model and complete all files. May be called twice."""
        self._stopping.set()
        self._encoder.stop()
        self._link.stop()
        self._patching.stop()
        for sink in self._sinks:
            sink.close()
        # Last, for a driver that hangs takes seconds, and whoever stops the process may not give them.
        self._camera.close()
        self._events.close()

    def _make_link(self) -> Link:
        own = self._budgets.own
        return Link(
            self._settings,
            make_hello=self._hello,
            holdings=self._holdings,
            on_event=self._on_event,
            uplink=TokenBucket(allowance(own.uplink_bps, own.downlink_bps), self._clock),
            clock=self._clock,
            random=SystemRandom(),
        )

    def _start(self) -> None:
        self._tell_uneven()
        stored, provisioned = self._store.load(), self._provisioned
        if provisioned is not None:
            self._store.start = provisioned
            if stored is None or stored.manifest.bundle_digest != provisioned.manifest.bundle_digest:
                stored = provisioned
        if stored is not None:
            self._install_stored(stored)
        self._encoder.start()
        self._patching.start()
        self._link.start()

    def _install_stored(self, stored: StoredModel) -> None:
        try:
            self._patcher.install(stored)
        except ModelError as error:
            _log.warning("the stored model cannot be used: %s", error)
            return
        if stored is self._provisioned:
            _log.info("version %d of %s runs", stored.version, self._settings.model)
        else:
            _log.info("version %d of the last run's model runs", stored.version)

    def _await_model(self) -> RunningModel | None:
        """Return the first model; None when the agent was stopped before there was one."""
        if self._slot.current() is None:
            _log.info("waiting for the first model from %s", self._settings.server)
        while (running := self._slot.current()) is None and not self._stopping.is_set():
            self._check_threads()
            self._pass_time()
        return running

    def _pass_time(self) -> None:
        """Wait a moment for the first model; what a live camera shows meanwhile is sampled, and labelled by the server."""
        if not self._camera.live:
            # A recording begins with its first labelled picture.
            self._slot.wait_for(0, POLL_S)
            return
        with contextlib.suppress(TimeoutError):
            frame = self._camera.read(POLL_S)
            if frame is not None:
                self._sample(frame)

    def _frames(self) -> Iterator[tuple[Frame, UInt8Array]]:
        while not self._stopping.is_set():
            self._check_threads()
            try:
                frame = self._camera.read(POLL_S)
            except TimeoutError:
                continue
            if frame is None:
                _log.info("the recording has ended")
                return
            yield frame, self._label(frame)

    def _label(self, frame: Frame) -> UInt8Array:
        running = self._slot.current()
        assert running is not None
        started_s = self._clock.now_s()
        manifest = running.model.manifest
        labels = running.model.infer(frame.rgb(manifest.width, manifest.height))
        self._statistics.count_frame(1e3 * (self._clock.now_s() - started_s))
        self._sample(frame)
        age_s = self._statistics.model_age_s(frame.capture_time_us)
        picture = Picture(frame, labels, running.version, age_s, manifest.classes)
        for sink in self._sinks:
            sink.write(picture)
        self._statistics.report(
            capture_time_us=frame.capture_time_us,
            version=running.version,
            sampling_hz=self._sampling_hz,
            uplink_bytes=self._link.traffic.sent_bytes,
            downlink_bytes=self._link.traffic.received_bytes,
        )
        return labels

    def _sample(self, frame: Frame) -> None:
        if self._control is None or self._misfit is not None:
            return
        control = self._carried(self._control)
        self._sampling_hz = control.sampling_hz
        self._sampler.set_control(control)
        self._sampler.offer(frame)
        samples = self._sampler.cut(frame.capture_time_s)
        if samples is not None:
            newest_us = samples[-1].capture_time_us
            self._statistics.batch_cut(newest_us, (frame.capture_time_us - newest_us) / 1e6)
            self._encoder.submit(samples, control.batch_bytes, agreed_codec(self._settings.video_codec, control))

    def _carried(self, control: Control) -> Control:
        """Return what the server asks for, as far as the link carries it."""
        carried = as_carried(control, self._link.carried_bps)
        slow = carried != control
        if slow != self._slow_link:
            self._slow_link = slow
            what = "less than is asked for, frames are smaller or fewer" if slow else "what is asked for again"
            _log.info("the link carries %s", what)
        return carried

    def _check_threads(self) -> None:
        """Raise what ended a thread, since the agent is nothing without it.

        Raises:
            ConfigurationError: the server will not serve this device as it is, or its model cannot run here, and there is no
                model to run without it.
            AmsError: a thread has failed.
        """
        if self._problem is not None and self._hopeless:
            raise ConfigurationError(f"server {self._settings.server} refuses this device: {self._problem.reason}")
        if self._misfit is not None and self._slot.current() is None:
            raise ConfigurationError(f"the model of server {self._settings.server} cannot run here: {self._misfit}")
        for part, failure in (
            ("the video encoder", self._encoder.failure),
            ("the link", self._link.failure),
            ("the patcher", self._patching.failure),
        ):
            if failure is not None:
                raise reported(part, failure)

    def _hello(self) -> Hello:
        settings = self._settings
        return Hello(
            device_id=settings.device_id,
            run_id=self._run_id,
            student=settings.student,
            class_set=settings.class_set,
            uplink_bps=self._budgets.asked.uplink_bps,
            downlink_bps=self._budgets.asked.downlink_bps,
            codecs=tuple(CODECS),
            provider=self._patcher.provider,
            build_time_ms=self._patcher.build_time_ms,
            held=self._patcher.held,
        )

    def _holdings(self) -> Holdings:
        """Return what the server may build on: what runs and what ran before, and what was kept or provisioned."""
        start, state, history = self._store.start, self._patcher.state, self._patcher.history
        models = [model for model in (state, start) if model is not None]
        graphs = {model.manifest.graph_digest: model.graph for model in models}
        weights = {} if history is None else dict(history.vectors)
        if start is not None:
            weights[start.weights_digest] = lambda: start.vector
        return Holdings(graphs={**graphs, **self._store.graphs.graphs}, weights=weights)

    def _on_event(self, event: ClientEvent) -> None:
        """Act on what the server says (link thread)."""
        match event:
            case ModelReceived():
                self._misfit = None
                self._download.model_named(event)
                self._events.write("connected", codec=event.codec)
            case SnapshotAnnounced():
                self._download.begin(event, self._budgets.held.downlink_bps)
            case SnapshotChunk():
                self._download.add(event.size_bytes)
            case SnapshotReceived():
                self._patching.submit(self._download.finish(event))
            case UpdateReceived():
                self._statistics.update_received(event.update)
                self._patching.submit(event.update)
            case ControlChanged():
                self._control = event.control
                if self._budgets.obey(event.control):
                    self._hold()
                    self._tell_held()
            case ProblemReported():
                self._problem = event
                if not self._hopeless:
                    _log.error("the server refuses: %s; %s", event.reason, self._model_state)
            case Disconnected() | Draining():
                # What the server said when it ended the stream is told already.
                if self._problem is None or event.reason != self._problem.reason:
                    _log.warning("%s; %s", event.reason, self._model_state)
                self._events.write("disconnected", reason=event.reason)
            case BatchTaken():
                self._statistics.batch_taken(event.batch_id)

    @property
    def _hopeless(self) -> bool:
        """Whether only a person can help: the server's last word is final, and there is no model to run without it."""
        return self._problem is not None and self._problem.final and self._slot.current() is None

    @property
    def _model_state(self) -> str:
        return "there is no model yet" if self._slot.current() is None else "the model runs on"

    def _hold(self) -> None:
        """Keep to what the server now leaves of the own budgets."""
        held: Budget | None = None
        # Again where another thread has changed it meanwhile: that must not be taken back.
        while held != self._budgets.held:
            held = self._budgets.held
            self._link.hold(held)

    def _tell_uneven(self) -> None:
        """Say so where one budget asks for more than the other one could acknowledge."""
        own, asked = self._budgets.own, self._budgets.asked
        if own != asked:
            _log.info("budgets of %s are kept to %s: the other direction acknowledges no more", told(asked), told(own))

    def _tell_held(self) -> None:
        """Say so where the server leaves less than the own budgets, and where it leaves them again."""
        held = self._budgets.held
        if held == self._budgets.own:
            _log.info("the own budgets hold: %s", told(held))
        else:
            _log.warning("the server allows %s, where %s are asked for", told(held), told(self._budgets.asked))

    def _on_batch(self, batch: FrameBatch, encode_ms: float) -> None:
        """Send a batch (encoder thread)."""
        self._statistics.batch_encoded(batch, encode_ms)
        self._link.send_batch(batch)

    def _on_applied(self, applied: Applied, update: Update | None) -> None:
        """Report a switch (patcher thread)."""
        self._statistics.applied(applied, update)
        self._link.send_applied(applied)

    def _on_refused(self, error: AmsError, refused: Update | StoredModel) -> None:
        """Ask for the whole weights, since the next updates will not fit either (patcher thread)."""
        self._events.write("refused", reason=str(error))
        if isinstance(refused, StoredModel) and not self._patcher.knows(refused):
            # It is as the server meant it, so that it would be no better if it came again; nor are there updates to learn for.
            self._misfit = error
            if self._slot.current() is not None:
                _log.error("the model of server %s cannot run here; another one runs on", self._settings.server)
        if self._misfit is None:
            self._link.request_snapshot(str(error))


def _provisioned(settings: AgentSettings) -> StoredModel | None:
    if settings.model is None:
        return None
    return read_provisioned(home_expanded(settings.model), student=settings.student, class_set=settings.class_set)
