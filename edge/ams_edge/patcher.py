"""Turning updates and snapshots into a running model, beside the one that runs.

The weights are one flat vector. An update is decoded into a copy, the copy's digest is compared with the server's, a new model
is built from it and warmed, and the slot switches between two frames. Whatever goes wrong before the switch changes nothing.
"""

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from ams_common.clock import Clock
from ams_common.errors import AmsError, ConfigurationError, ModelError, UpdateRefusedError
from ams_common.layout import DIGEST_BYTES, weights_digest
from ams_common.messages import MAX_WAITING_UPDATES, Applied, HeldModel, Update
from ams_common.model_file import StoredModel
from ams_common.sparse_update import apply_update
from ams_common.update_codec import create_codec
from ams_edge.bounded_queue import BoundedQueue
from ams_edge.history import History
from ams_edge.inference import Model, build_model
from ams_edge.providers import Backend, trusted_backend
from ams_edge.store import ModelStore
from ams_edge.swap import ModelSlot
from ams_edge.weight_inputs import WeightInputs, verified_weight_inputs
from ams_edge.worker import UPDATE_PRIORITY, lower_priority

T = TypeVar("T")

QUEUE_CAPACITY = MAX_WAITING_UPDATES
"""Updates that may wait, as many as a server may send at once to a device that has missed them. One too many pushes the oldest
out: the gap refuses the next one, and a snapshot supersedes them."""
_REMEMBERED_UPDATES = 16
_IDLE_S = 1.0
STOP_TIMEOUT_S = 60.0
"""A stop waits this long: a provider that compiles may need most of it for one model."""

_log = logging.getLogger(__name__)


class Patcher:
    """Owns the weights of the running model. `apply` and `install` are called by one thread at a time."""

    def __init__(self, backend: Backend, slot: ModelSlot, clock: Clock) -> None:
        self._backend = backend
        self._slot = slot
        self._clock = clock
        self._state: StoredModel | None = None
        self._history: History | None = None
        self._weight_inputs: WeightInputs | None = None
        self._build_time_ms = 0.0
        self._applied: deque[tuple[int, bytes]] = deque(maxlen=_REMEMBERED_UPDATES)
        self._opener = ThreadPoolExecutor(1, "session-opener")
        # The threads of a session inherit the priority of the thread that opens it, and the patcher's may be low.
        self._opener.submit(threading.get_ident).result()

    @property
    def provider(self) -> str:
        """Execution provider in use."""
        return self._backend.provider

    @property
    def build_time_ms(self) -> float:
        """Time the newest model took from decoding to the switch; 0 before the first one."""
        return self._build_time_ms

    @property
    def runs(self) -> bool:
        """Whether there is a model that runs. May be read from any thread."""
        return self._slot.current() is not None

    @property
    def state(self) -> StoredModel | None:
        """The running model as it is stored; None before the first one. May be read from any thread."""
        return self._state

    @property
    def applied(self) -> Applied | None:
        """What is reported of the running model; None before the first one."""
        state = self._state
        if state is None:
            return None
        return Applied(version=state.version, weights_digest=state.weights_digest, build_time_ms=self._build_time_ms)

    @property
    def history(self) -> History | None:
        """The vector of the running model and those before it; None before the first one. May be read from any thread."""
        return self._history

    @property
    def held(self) -> HeldModel | None:
        """What the server is told about the running model; None before the first one. May be read from any thread."""
        state = self._state
        if state is None:
            return None
        digest = state.manifest.bundle_digest
        return HeldModel(bundle_digest=digest, version=state.version, weights_digest=state.weights_digest)

    def install(self, model: StoredModel) -> Applied:
        """Run a whole model: the first one, the stored one or a snapshot. Its vector must not be written to any more.

        Raises:
            ModelError: graph or weights are not those that were announced, or they cannot run; nothing has changed.
        """
        started_s = self._clock.now_s()
        _check_digests(model)
        if not self.knows(model):
            return self._install_other(model, started_s)
        runnable = self._ready_model(model)
        self._applied.clear()
        return self._switch(model, runnable, History(model.vector, model.weights_digest), started_s)

    def prepare_updates(self) -> None:
        """Look for a way to change the weights of the running model without new sessions; takes some tenths of a second.

        Without it, and where there is none, every update builds a session.
        """
        state = self._state
        if state is None or self._weight_inputs is not None or not self._backend.reads_host_memory:
            return
        self._weight_inputs = self._open(
            lambda: verified_weight_inputs(state.manifest, state.graph, state.vector, self._backend, self._clock)
        )

    def apply(self, update: Update) -> Applied:
        """Run the weights that `update` makes of the present ones.

        Raises:
            UpdateRefusedError: the update is for other weights, or its result is not what it says or cannot run.
            CodecError: the payload is not valid. After either nothing has changed.
        """
        started_s = self._clock.now_s()
        base = self._base_of(update)
        state = _patched(base, update)
        try:
            model = self._ready_model(state)
        except ModelError as error:
            raise UpdateRefusedError(f"update to version {update.version} cannot run: {error}") from error
        self._applied.append((update.version, update.result_digest))
        assert self._history is not None, "there is a state to update"
        return self._switch(state, model, self._history.followed_by(state.vector, state.weights_digest), started_s)

    def has_applied(self, update: Update) -> bool:
        """Tell whether the present weights hold `update` already, as one of the last few since a whole model.

        It comes again when a stream breaks off while updates wait here: the hello of the next one does not know them yet.
        """
        return (update.version, update.result_digest) in self._applied

    def knows(self, model: StoredModel) -> bool:
        """Tell whether the running model has the graph and the layout of `model`. May be called from any thread."""
        state = self._state
        return state is not None and state.manifest.bundle_digest == model.manifest.bundle_digest

    def _install_other(self, model: StoredModel, started_s: float) -> Applied:
        """Install a model of another graph than the present one."""
        backend = trusted_backend(self._backend, lambda backend: self._built(model, backend).warm())
        runnable = self._built(model, backend)
        runnable.warm()
        self._backend, self._weight_inputs = backend, None
        self._applied.clear()
        return self._switch(model, runnable, History(model.vector, model.weights_digest), started_s)

    def _base_of(self, update: Update) -> StoredModel:
        """Return the present state, if that is what `update` applies to."""
        state = self._state
        if state is None:
            raise UpdateRefusedError(f"update to version {update.version} came before any model")
        if (update.base_version, update.version) != (state.version, state.version + 1):
            raise UpdateRefusedError(
                f"update from version {update.base_version} to {update.version} does not continue version {state.version}"
            )
        if update.base_digest != state.weights_digest:
            raise UpdateRefusedError(f"update to version {update.version} is for other weights of version {state.version}")
        return state

    def _ready_model(self, state: StoredModel) -> Model:
        """Return a model of `state` whose first frame is as fast as the others."""
        inputs = self._weight_inputs
        model = self._built(state, self._backend) if inputs is None else inputs.model(state.vector)
        model.warm()
        return model

    def _built(self, state: StoredModel, backend: Backend) -> Model:
        return self._open(lambda: build_model(state.manifest, state.graph, state.vector, backend))

    def _open(self, opening: Callable[[], T]) -> T:
        """Call what opens sessions in a thread of ordinary priority if they will have threads, else here."""
        return self._opener.submit(opening).result() if self._backend.threads > 1 else opening()

    def _switch(self, state: StoredModel, model: Model, history: History, started_s: float) -> Applied:
        self._slot.swap(model, state.version)
        self._state = state
        self._history = history
        self._build_time_ms = 1000 * (self._clock.now_s() - started_s)
        applied = self.applied
        assert applied is not None, "a model runs"
        return applied


def _check_digests(model: StoredModel) -> None:
    if hashlib.blake2b(model.graph, digest_size=DIGEST_BYTES).digest() != model.manifest.graph_digest:
        raise ModelError(f"graph of {len(model.graph)} bytes does not have the digest that its manifest says")
    if weights_digest(model.vector) != model.weights_digest:
        raise ModelError(f"weights of version {model.version} do not have the digest that was announced")


def _patched(base: StoredModel, update: Update) -> StoredModel:
    """Return `base` as it is after `update`, in memory of its own."""
    try:
        codec = create_codec(update.codec, base.manifest.layout)
    except ConfigurationError as error:
        raise UpdateRefusedError(str(error)) from error
    vector = apply_update(base.vector, codec.decode(update.payload, base.vector))
    if weights_digest(vector) != update.result_digest:
        raise UpdateRefusedError(f"update to version {update.version} does not give the weights that it says")
    return replace(base, vector=vector, version=update.version, weights_digest=update.result_digest)


class PatcherWorker:
    """The patcher in a thread that gives way to inference and to nothing else, which also stores what runs."""

    def __init__(
        self,
        patcher: Patcher,
        store: ModelStore | None,
        *,
        on_applied: Callable[[Applied, Update | None], None],
        on_refused: Callable[[AmsError, Update | StoredModel], None],
        on_repeated: Callable[[Applied], None] = lambda applied: None,
    ) -> None:
        """Prepare the thread; nothing runs before `start`.

        Args:
            patcher: used by this thread alone from `start` to `stop`.
            store: takes every version that runs, at its own pace; None keeps nothing.
            on_applied: called in the thread after each switch, with the update that caused it; None for a whole model.
            on_refused: called in the thread with an update or a model that is refused; the running model stays.
            on_repeated: called in the thread when the update that runs has come again: the server may wait for word of it.
        """
        self._patcher = patcher
        self._store = store
        self._on_applied = on_applied
        self._on_refused = on_refused
        self._on_repeated = on_repeated
        self._queue: BoundedQueue[Update | StoredModel] = BoundedQueue(QUEUE_CAPACITY)
        self._thread = threading.Thread(target=self._run, name="patcher", daemon=True)
        self.failure: Exception | None = None
        """What ended the thread other than `stop`; None while all is well."""

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def submit(self, item: Update | StoredModel) -> None:
        """Hand over an update, or a whole model to install, and return at once.

        When QUEUE_CAPACITY items wait, the oldest is given up; the update that then does not fit is refused.
        """
        self._queue.put_newest(item)

    def stop(self) -> None:
        """Finish what was handed over, store the running model and end the thread. May be called twice or before the start."""
        self._queue.finish()
        if self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            _log.warning("patcher does not end: it has been busy for %g s", STOP_TIMEOUT_S)

    def _run(self) -> None:
        lower_priority(UPDATE_PRIORITY)
        try:
            self._patcher.prepare_updates()
            while (item := self._next()) is not None:
                self._handle(item)
        except Exception as error:
            self.failure = error
            _log.debug("patcher has stopped", exc_info=error)
        finally:
            self._queue.close()
            if self._store is not None:
                self._store.flush()

    def _next(self) -> Update | StoredModel | None:
        """Wait for something to do, and store what is due meanwhile; None at the end."""
        while True:
            try:
                return self._queue.take(_IDLE_S)
            except TimeoutError:
                if self._store is not None:
                    self._store.flush_if_due()

    def _handle(self, item: Update | StoredModel) -> None:
        if isinstance(item, Update) and self._patcher.has_applied(item):
            _log.debug("version %d came again", item.version)
            applied = self._patcher.applied
            if applied is not None and applied.version == item.version:
                self._on_repeated(applied)
            return
        if isinstance(item, StoredModel) and self._store is not None:
            self._store.keep(item)
        try:
            applied = self._patcher.apply(item) if isinstance(item, Update) else self._patcher.install(item)
        except AmsError as error:
            _log.warning("version %d is refused: %s", item.version, error)
            self._on_refused(error, item)
            return
        self._on_applied(applied, item if isinstance(item, Update) else None)
        if self._store is not None and self._patcher.state is not None:
            self._store.offer(self._patcher.state)
        if isinstance(item, StoredModel):
            self._patcher.prepare_updates()
