"""The edge agent: one of the two places that know the whole road.

    for frame, labels in Agent(settings):
        ...

Camera, model and sinks run in the caller's thread and wait for nothing else. Encoder, link and patcher have threads of their
own and meet the caller only in the sampler (samples out) and the model slot (new weights in).
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

from ams_common.classes import ClassSet
from ams_common.clock import Clock, SystemClock
from ams_common.errors import ModelError, reported
from ams_common.events import EventLog
from ams_common.folder_lock import FolderLock
from ams_common.model_file import StoredModel
from ams_common.settings import home_expanded
from ams_common.video_formats import require_encoder
from ams_edge.camera import open_camera
from ams_edge.conversation import Conversation
from ams_edge.encoder import EncoderWorker, agreed_codec
from ams_edge.frame import Frame, UInt8Array
from ams_edge.frame_filter import View
from ams_edge.patcher import Patcher
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
            ConfigurationError: an output or the state folder cannot be written, another edge uses the folder, the video
                encoder is missing, or the model cannot be used.
        """
        self._settings = settings
        self._clock = clock or SystemClock()
        require_source_kept(settings)
        check_outputs(settings)
        require_encoder(settings.video_codec)
        provisioned = _provisioned(settings)
        folder = home_expanded(settings.state_folder) / settings.device_id
        store = ModelStore(folder, settings, self._clock)
        with contextlib.ExitStack() as opened:
            self._lock = FolderLock(folder, _taken(settings))
            opened.callback(self._lock.close)
            self._events = EventLog(settings.events, self._clock)
            opened.callback(self._events.close)
            self._camera = open_camera(settings, self._clock)
            opened.callback(self._camera.close)
            backend = choose_backend(settings)
            opened.pop_all()
        self._statistics = Statistics(self._clock, self._events)
        self._slot = ModelSlot()
        self._conversation = Conversation(
            settings,
            Patcher(backend, self._slot, self._clock),
            store,
            provisioned,
            statistics=self._statistics,
            events=self._events,
            clock=self._clock,
        )
        self._sampler = Sampler(frame_filter=settings)
        self._encoder = EncoderWorker(self._conversation.send_batch, self._clock)
        self._sinks: tuple[Sink, ...] = ()
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
            self._conversation.start()
            self._encoder.start()
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
        self._conversation.set_budgets(uplink_kbps=uplink_kbps, downlink_kbps=downlink_kbps)

    def close(self) -> None:
        """Stop all threads, store the running model and complete all files. May be called twice."""
        self._stopping.set()
        self._encoder.stop()
        self._conversation.stop()
        for sink in self._sinks:
            sink.close()
        # Last, for a driver that hangs takes seconds, and whoever stops the process may not give them.
        self._camera.close()
        self._events.close()
        self._lock.close()

    def _await_model(self) -> RunningModel | None:
        """Return the first model; None when the agent was stopped before there was one."""
        if self._slot.current() is None:
            _log.info("waiting for the first model from %s", self._settings.server)
        while (running := self._slot.current()) is None and not self._stopping.is_set():
            self._check()
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
            self._check()
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
        self._sample(frame, lambda: View(labels=labels, learnt_us=self._statistics.learnt_us))
        age_s = self._statistics.model_age_s(frame.capture_time_us)
        picture = Picture(frame, labels, running.version, age_s, manifest.classes)
        for sink in self._sinks:
            sink.write(picture)
        self._statistics.report(
            capture_time_us=frame.capture_time_us,
            version=running.version,
            sampling_hz=self._sampling_hz,
            skipped=self._sampler.skipped,
            uplink_bytes=self._conversation.traffic.sent_bytes,
            downlink_bytes=self._conversation.traffic.received_bytes,
        )
        return labels

    def _sample(self, frame: Frame, look: Callable[[], View] | None = None) -> None:
        control = self._conversation.wanted()
        if control is None:
            return
        self._sampling_hz = control.sampling_hz
        self._sampler.set_control(control)
        self._sampler.offer(frame, look)
        samples = self._sampler.cut(frame.capture_time_s)
        if samples is not None:
            newest_us = samples[-1].capture_time_us
            self._statistics.batch_cut(newest_us, (frame.capture_time_us - newest_us) / 1e6)
            self._encoder.submit(samples, control.batch_bytes, agreed_codec(self._settings.video_codec, control))

    def _check(self) -> None:
        """Raise what ended a thread, since the agent is nothing without it, or makes all waiting useless.

        Raises:
            ConfigurationError: the server will not serve this device as it is, or its model cannot run here, and there is no
                model to run without it.
            AmsError: a thread has failed.
        """
        if self._encoder.failure is not None:
            raise reported("the video encoder", self._encoder.failure)
        self._conversation.check()


def _taken(settings: AgentSettings) -> str:
    return (
        f"another ams-edge of this machine is the device {settings.device_id!r}: give each a --device-id of its own, "
        "and files of its own to write"
    )


def _provisioned(settings: AgentSettings) -> StoredModel | None:
    if settings.model is None:
        return None
    return read_provisioned(home_expanded(settings.model), student=settings.student, class_set=settings.class_set)
