"""The device's side of the conversation with its server: what is told and asked for, and what follows from every answer.

Link and patcher have threads of their own. Everything that comes passes here: weights go on to the patcher, what the sampler
should do is kept for whoever samples, and what only a person can mend is raised by `check`.
"""

import logging
import secrets
import threading
from random import SystemRandom

from ams_common.budget import TokenBucket, allowance
from ams_common.clock import Clock
from ams_common.errors import AmsError, ConfigurationError, ModelError, reported
from ams_common.events import EventLog
from ams_common.link_speed import SHARE
from ams_common.messages import Applied, Bound, Budget, Control, FrameBatch, Hello, Update
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
from ams_common.update_codec import CODECS
from ams_edge.download import Download
from ams_edge.edge_stream import Traffic
from ams_edge.encoder import agreed_codec
from ams_edge.link import Link, refusal_pause_s
from ams_edge.link_plan import as_carried
from ams_edge.own_budgets import OwnBudgets, told
from ams_edge.patcher import Patcher, PatcherWorker
from ams_edge.settings import AgentSettings
from ams_edge.statistics import Statistics
from ams_edge.store import ModelStore

_log = logging.getLogger(__name__)


class Conversation:
    """Speaks with the server from `start` to `stop`; methods may be called from any thread unless they say otherwise."""

    def __init__(
        self,
        settings: AgentSettings,
        patcher: Patcher,
        store: ModelStore,
        provisioned: StoredModel | None,
        *,
        statistics: Statistics,
        events: EventLog,
        clock: Clock,
    ) -> None:
        """Prepare both threads; nothing runs before `start`.

        Args:
            settings: where the server is, and what this device asks for.
            patcher: takes the weights that come.
            store: keeps them.
            provisioned: the model of `settings.model`, if it names one.
            statistics: told of everything that is timed.
            events: told of connections and refusals.
            clock: time.
        """
        self._settings = settings
        self._patcher = patcher
        self._store = store
        self._provisioned = provisioned
        self._statistics = statistics
        self._events = events
        self._clock = clock
        self._patching = PatcherWorker(
            patcher,
            store,
            on_applied=self._on_applied,
            on_refused=self._on_refused,
            on_repeated=lambda applied: self._link.send_applied(applied),
        )
        self._budgets = OwnBudgets(settings)
        self._changing_budgets = threading.RLock()
        self._link = self._make_link()
        self._run_id = secrets.token_bytes(16)
        self._download = Download(settings, provisioned, clock)
        self._control: Control | None = None
        self._misfit: AmsError | None = None
        """Why the server's model cannot run on this device, if so."""
        self._problem: ProblemReported | None = None
        """What the server said last when it ended a stream with an error."""
        self._slow_link = False
        self._other_codec_told = False

    def start(self) -> None:
        """Run the model that is stored or provisioned, if any, and begin to talk; once."""
        self._tell_uneven()
        stored, provisioned = self._store.load(), self._provisioned
        if provisioned is not None:
            self._store.start = provisioned
            if stored is None or stored.manifest.bundle_digest != provisioned.manifest.bundle_digest:
                stored = provisioned
        if stored is not None:
            self._install_stored(stored)
        self._patching.start()
        self._link.start()

    def stop(self) -> None:
        """End both threads, with all updates that have come applied and the running model stored. May be called twice."""
        self._link.stop()
        self._patching.stop()

    def check(self) -> None:
        """Raise what ended a thread or makes all waiting useless.

        Raises:
            ConfigurationError: the server will not serve this device as it is, or its model cannot run here, and there is no
                model to run without it.
            AmsError: a thread has failed.
        """
        if self._problem is not None and self._hopeless:
            raise ConfigurationError(f"server {self._settings.server} refuses this device: {self._problem.reason}")
        if self._misfit is not None and not self._patcher.runs:
            raise ConfigurationError(f"the model of server {self._settings.server} cannot run here: {self._misfit}")
        for part, failure in (("the link", self._link.failure), ("the patcher", self._patching.failure)):
            if failure is not None:
                raise reported(part, failure)

    @property
    def traffic(self) -> Traffic:
        """Bytes on the wire since the start."""
        return self._link.traffic

    def wanted(self) -> Control | None:
        """Return what the server asks for, as far as the link carries it; None while it asks for nothing (one thread only)."""
        if self._control is None or self._misfit is not None:
            return None
        carried_bps = self._link.carried_bps
        carried = as_carried(self._control, carried_bps)
        slow = carried != self._control
        if slow != self._slow_link:
            self._slow_link = slow
            measured = f"{carried_bps / SHARE / 1000:.1f} kbit/s, less than is asked for: frames are smaller or fewer"
            _log.info("the link carries %s", measured if slow else "what is asked for again")
        return carried

    def send_batch(self, batch: FrameBatch, encode_ms: float) -> None:
        """Send a batch that took `encode_ms` to encode (encoder thread)."""
        self._statistics.batch_encoded(batch, encode_ms)
        self._link.send_batch(batch)

    def set_budgets(self, *, uplink_kbps: float, downlink_kbps: float) -> None:
        """Keep to other budgets from now on, in kbit/s; 0 for no limit.

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
            self._write_held()
            self._link.change_budget(self._budgets.asked)

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
                self._download.begin(event, self._budgets.held)
            case SnapshotChunk():
                self._download.add(event.size_bytes)
            case SnapshotReceived():
                self._patching.submit(self._download.finish(event))
            case UpdateReceived():
                self._statistics.update_received(event.update)
                self._patching.submit(event.update)
            case ControlChanged():
                self._control = event.control
                self._tell_codec(event.control)
                if self._budgets.obey(event.control):
                    self._hold()
                    self._tell_held()
                    self._write_held()
            case ProblemReported():
                self._problem = event
                if not self._hopeless:
                    _log.error("the server refuses: %s; %s%s", event.reason, self._model_state, _next_try(event))
            case Disconnected() | Draining():
                # What the server said when it ended the stream is told already.
                if self._problem is None or event.reason != self._problem.reason:
                    _log.warning("%s; %s", event.reason, self._model_state)
                self._events.write("disconnected", reason=event.reason)
                self._statistics.stream_ended()
            case BatchTaken():
                self._statistics.batch_taken(event.batch_id)

    @property
    def _hopeless(self) -> bool:
        """Whether only a person can help: the server's last word is final, and there is no model to run without it."""
        return self._problem is not None and self._problem.final and not self._patcher.runs

    @property
    def _model_state(self) -> str:
        return "the model runs on" if self._patcher.runs else "there is no model yet"

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

    def _tell_codec(self, control: Control) -> None:
        """Say once that the server does not decode the codec that is wanted."""
        wanted = self._settings.video_codec
        used = agreed_codec(wanted, control)
        if used != wanted and not self._other_codec_told:
            self._other_codec_told = True
            _log.warning("the server does not decode --video-codec %s: %s is used", wanted, used)

    def _tell_held(self) -> None:
        """Say so where the server leaves less than the own budgets, and where it leaves them again."""
        held = self._budgets.held
        if held == self._budgets.own:
            _log.info("the own budgets hold: %s", told(held))
        else:
            allowed = told(held, self._budgets.bounds)
            _log.warning("the server allows %s, where %s are asked for", allowed, told(self._budgets.asked))

    def _write_held(self) -> None:
        """Note for programs what holds, in kbit/s, and why the server leaves no more; null for no limit and no reason."""
        held, (uplink_bound, downlink_bound) = self._budgets.held, self._budgets.bounds
        self._events.write(
            "budgets",
            uplink_kbps=held.uplink_bps / 1000 or None,
            downlink_kbps=held.downlink_bps / 1000 or None,
            uplink_bound=_known(uplink_bound),
            downlink_bound=_known(downlink_bound),
        )

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
            if self._patcher.runs:
                _log.error("the model of server %s cannot run here; another one runs on", self._settings.server)
        if self._misfit is None:
            self._link.request_snapshot(str(error))


def _known(bound: Bound) -> str | None:
    return None if bound == "unspecified" else bound


def _next_try(problem: ProblemReported) -> str:
    """Say when the server is asked again that has found the budgets too small, and what can be done until then."""
    if problem.code != "budget_too_small":
        return ""
    return f", and the server is asked again in {refusal_pause_s(problem):g} s, or at once for other budgets (SIGHUP)"
