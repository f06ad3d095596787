import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from tests.protocol_support import TIMEOUT_S
from tests.server.session_support import RUN, colour_batch, small_session

from ams_common.clock import ManualClock
from ams_common.errors import ModelError
from ams_server.checkpoint_writer import CHECKPOINT_INTERVAL_S, CheckpointWriter
from ams_server.checkpoints import CheckpointStore
from ams_server.edge_session import EdgeSession
from ams_server.state import State, integer


class FakeStore:
    """Keeps states in memory, stops at a gate if told to, and fails if told to."""

    def __init__(self) -> None:
        self.kept: dict[str, State] = {}
        self.saved: list[tuple[str, int]] = []
        self.refused: list[str] = []
        self.failure: Exception | None = None
        self.reached, self.open = threading.Event(), threading.Event()
        self.open.set()

    def save(self, device_id: str, state: State) -> int:
        self.reached.set()
        assert self.open.wait(TIMEOUT_S)
        if self.failure is not None:
            raise self.failure
        self.kept[device_id] = state
        self.saved.append((device_id, integer(state, "version", 2**53)))
        return 1

    def load(self, device_id: str) -> State | None:
        return self.kept.get(device_id)

    def refuse(self, device_id: str, reason: str) -> None:
        self.refused.append(device_id)
        del self.kept[device_id]


class Session:
    """Stands for an EdgeSession whose state is its version."""

    def __init__(self, device_id: str = "a", version: int = 1) -> None:
        self.device_id = device_id
        self.lock = threading.Lock()
        self.mirror = self
        self.version = version

    def state(self) -> State:
        assert self.lock.locked()
        return {"version": np.array(self.version)}

    def load_state(self, state: State) -> None:
        self.version = integer(state, "version", 2**53)
        if self.version == 13:
            raise ModelError("13 does not fit")


def as_session(session: Session) -> EdgeSession:
    return cast(EdgeSession, session)


def maker(made: list[Session]) -> Callable[[], EdgeSession]:
    def make() -> EdgeSession:
        made.append(Session(version=0))
        return as_session(made[-1])

    return make


@contextmanager
def running(store: FakeStore, clock: ManualClock | None = None) -> Iterator[CheckpointWriter]:
    """Run a writer; after the block everything is written."""
    writer = CheckpointWriter(cast(CheckpointStore, store), clock or ManualClock())
    writer.start()
    try:
        yield writer
    finally:
        store.open.set()
        writer.stop()
        writer.stop()


def test_a_session_that_is_offered_is_written_once_in_an_interval() -> None:
    store, clock, session = FakeStore(), ManualClock(), Session()
    writer = CheckpointWriter(cast(CheckpointStore, store), clock)

    def offer_at(time_s: float, version: int) -> None:
        clock.advance_to(time_s)
        session.version = version
        writer.offer(as_session(session))
        wait_until_idle(writer)

    writer.start()
    for time_s, version in ((0.0, 1), (10.0, 2), (CHECKPOINT_INTERVAL_S - 0.1, 3), (CHECKPOINT_INTERVAL_S, 4)):
        offer_at(time_s, version)
    assert store.saved == [("a", 1), ("a", 4)]
    session.version = 5
    writer.keep(as_session(session))
    writer.stop()
    assert store.saved == [("a", 1), ("a", 4), ("a", 5)]


def wait_until_idle(writer: CheckpointWriter) -> None:
    writer.restored("a", lambda: as_session(Session()))


def test_what_is_on_disk_already_and_what_has_learnt_nothing_is_not_written() -> None:
    store, session, new = FakeStore(), Session(version=3), Session("new", version=0)
    with running(store) as writer:
        for _ in range(3):
            writer.keep(as_session(session))
            wait_until_idle(writer)
        writer.keep(as_session(new))
    assert store.saved == [("a", 3)]


def test_a_session_that_waits_is_written_once_and_as_it_is_then() -> None:
    store, first, second = FakeStore(), Session("first"), Session("second")
    store.open.clear()
    with running(store) as writer:
        writer.keep(as_session(first))
        assert store.reached.wait(TIMEOUT_S)
        for version in (1, 2, 3):
            second.version = version
            writer.keep(as_session(second))
        store.open.set()
    assert store.saved == [("first", 1), ("second", 3)]


def test_who_hands_over_a_session_never_waits_for_the_disk() -> None:
    store = FakeStore()
    store.open.clear()
    with running(store) as writer:
        for number in range(100):
            writer.keep(as_session(Session(f"camera-{number}")))
            writer.offer(as_session(Session(f"camera-{number}")))
        assert not store.saved
    assert len(store.saved) == 100


def test_a_session_is_read_between_two_phases() -> None:
    store, session = FakeStore(), Session()
    with running(store) as writer, session.lock:
        writer.keep(as_session(session))
        session.version = 2
        assert not store.saved
    assert store.saved == [("a", 2)]


def test_a_device_that_comes_back_waits_for_what_is_being_written() -> None:
    store, session, made = FakeStore(), Session(version=5), list[Session]()
    store.open.clear()
    with running(store) as writer:
        writer.keep(as_session(session))
        assert store.reached.wait(TIMEOUT_S)
        threading.Timer(0.0, store.open.set).start()
        restored = writer.restored("a", maker(made))
        assert restored.mirror.version == 5
        assert len(made) == 1
        writer.keep(restored)
    assert store.saved == [("a", 5)], "what came from disk is there already"


def test_a_device_without_a_file_gets_its_session_as_it_is_made() -> None:
    made: list[Session] = []
    with running(FakeStore()) as writer:
        assert writer.restored("a", maker(made)).mirror.version == 0
    assert len(made) == 1


def test_a_state_that_does_not_fit_is_refused_and_the_session_made_anew() -> None:
    store, made = FakeStore(), list[Session]()
    store.kept["a"] = {"version": np.array(13)}
    with running(store) as writer:
        session = writer.restored("a", maker(made))
    assert store.refused == ["a"]
    assert len(made) == 2
    assert session.mirror.version == 0, "not the one that is half changed"


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), RuntimeError("CUDA error")])
def test_a_disk_that_fails_is_told_once_and_tried_again(caplog: pytest.LogCaptureFixture, failure: Exception) -> None:
    store, clock, session = FakeStore(), ManualClock(), Session()
    store.failure = failure
    with running(store, clock) as writer:
        for number in range(5):
            clock.advance_to(number * CHECKPOINT_INTERVAL_S)
            session.version += 1
            writer.offer(as_session(session))
            wait_until_idle(writer)
            if number == 2:
                assert len(caplog.messages) == 1
                assert str(failure) in caplog.messages[0]
                store.failure = None
    assert store.saved == [("a", 5), ("a", 6)]


def test_after_a_failure_too_the_disk_is_left_alone_for_an_interval() -> None:
    store, session = FakeStore(), Session()
    store.failure = OSError(5, "Input/output error")
    with running(store) as writer:
        writer.offer(as_session(session))
        wait_until_idle(writer)
        store.failure = None
        writer.offer(as_session(session))
    assert not store.saved


def test_without_a_store_nothing_is_kept() -> None:
    writer = CheckpointWriter(None, ManualClock())
    writer.start()
    writer.offer(as_session(Session()))
    writer.keep(as_session(Session()))
    assert writer.restored("a", maker([])).mirror.version == 0
    writer.stop()
    assert "checkpoints" not in {each.name for each in threading.enumerate()}


def test_a_writer_may_be_stopped_before_it_is_started() -> None:
    CheckpointWriter(cast(CheckpointStore, FakeStore()), ManualClock()).stop()


def test_a_real_session_goes_through_a_real_file(tmp_path: Path) -> None:
    def make() -> EdgeSession:
        return small_session(steps=1)

    session = make()
    session.ingest(colour_batch(1, 0.0, 1.0), RUN)
    mirror = session.train()
    assert mirror is not None
    session.mirror = mirror
    store = CheckpointStore(tmp_path, bytes(16), parameters=mirror.weights.size, keep=1)
    writer = CheckpointWriter(store, ManualClock())
    writer.start()
    writer.keep(session)
    writer.stop()
    assert [path.stat().st_size < 16 * mirror.weights.size for path in tmp_path.iterdir()] == [True]
    restored = CheckpointWriter(store, ManualClock()).restored(session.device_id, make)
    assert (restored.mirror.version, restored.mirror.digest) == (1, mirror.digest)
    np.testing.assert_array_equal(restored.learner.trainer.vector(), mirror.weights)
