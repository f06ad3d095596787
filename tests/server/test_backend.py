import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.protocol_support import TIMEOUT_S, Mailbox
from tests.server.session_support import ColourTeacher, colour_batch, small_model, small_session, small_settings

from ams_common.budget import TokenBucket, allowance, model_bps
from ams_common.clock import ManualClock, SystemClock
from ams_common.errors import ConfigurationError
from ams_common.events import EventLog
from ams_common.framing import CONNECTION_BYTES, UPKEEP_BPS, sent_bytes
from ams_common.layout import weights_digest
from ams_common.messages import (
    Applied,
    Budget,
    Control,
    HeldModel,
    Hello,
    ModelChunk,
    PartialSnapshot,
    ServerMessage,
    SnapshotHeader,
    Update,
    Welcome,
)
from ams_common.session.server import AppliedReported, BatchArrived, BudgetWanted, EdgeDraining, RefusedError, SnapshotWanted
from ams_server import backend as backend_module
from ams_server.backend import DeviceBackend, checkpoint_store
from ams_server.checkpoint_writer import CheckpointWriter
from ams_server.device_budget import DeviceBudget
from ams_server.device_connection import DeviceConnection
from ams_server.edge_session import EdgeSession
from ams_server.scheduler import Scheduler
from ams_server.students.export import student_vector

HELLO = Hello(device_id="camera-1", run_id=bytes(16), codecs=("gap-zstd", "mask-float16"))


class FakeOutlet:
    """Keeps what is sent."""

    backlog = 0

    def __init__(self) -> None:
        self.sent = Mailbox()

    def send(self, message: ServerMessage) -> None:
        self.sent.put(message)


@contextmanager
def running_backend(**changes: Any) -> Iterator[DeviceBackend]:
    """Run a backend whose worker must not fail."""
    failures: list[BaseException] = []
    scheduler = Scheduler(EventLog(None, SystemClock()), failures.append, ManualClock())
    scheduler.start()
    try:
        yield DeviceBackend(
            small_settings(steps=1, **changes),
            small_model(),
            teacher=ColourTeacher(),
            device=torch.device("cpu"),
            scheduler=scheduler,
            clock=ManualClock(),
            checkpoints=CheckpointWriter(None, ManualClock()),
        )
    finally:
        scheduler.stop()
        assert not failures


def bucket(hello: Hello = HELLO) -> TokenBucket:
    """Return the downlink of a device that is new and has opened a connection."""
    downlink = TokenBucket(allowance(hello.downlink_bps), ManualClock())
    downlink.spend(CONNECTION_BYTES)
    return downlink


def connect(
    backend: DeviceBackend, hello: Hello = HELLO, downlink: TokenBucket | None = None
) -> tuple[DeviceConnection, FakeOutlet]:
    outlet = FakeOutlet()
    return asyncio.run(backend.connect(hello, outlet, downlink or bucket(hello))), outlet


def update_after(connection: DeviceConnection, outlet: FakeOutlet, batch_id: int) -> Update:
    """Deliver a batch and return the update that it leads to."""
    before = len(outlet.sent.all(Update))
    connection.deliver(BatchArrived(batch=colour_batch(batch_id, 10.0 * batch_id)))
    outlet.sent.wait_count(Update, before + 1)
    update = outlet.sent.all(Update)[-1]
    assert isinstance(update, Update)
    return update


def kinds(messages: Sequence[object]) -> list[type]:
    return [type(message) for message in messages]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": "alexnet"}, "this server has no student 'alexnet', it serves 'jitnet-quarter'"),
        ({"class_set": "voc21"}, "this server has no class set 'voc21', it serves 'street7'"),
        ({"codecs": ()}, "no update codec in common: the device has none"),
        ({"codecs": ("gap-zstd",)}, "no update codec in common: the device has gap-zstd"),
    ],
)
def test_a_device_that_wants_something_else_is_told_what_there_is(changes: dict[str, Any], message: str) -> None:
    with running_backend(codec="mask-float16") as backend, pytest.raises(ConfigurationError) as caught:
        connect(backend, replace(HELLO, **changes))
    assert str(caught.value) == message


@pytest.mark.parametrize("direction", ["uplink", "downlink"])
def test_a_budget_that_carries_nothing_is_refused_with_the_least(direction: str) -> None:
    budget: dict[str, Any] = {f"{direction}_bps": 1000}
    with running_backend() as backend, pytest.raises(RefusedError, match=r"the least is [\d.]+ kbit/s") as caught:
        connect(backend, replace(HELLO, **budget))
    assert caught.value.code == "budget_too_small"
    assert f"{direction} budget of 1 kbit/s" in str(caught.value)


@pytest.mark.parametrize(
    ("configured", "offered", "chosen"),
    [
        ("", ("mask-float16", "gap-zstd"), "mask-float16"),
        ("", ("from-the-future", "gap-zstd"), "gap-zstd"),
        ("gap-zstd", ("mask-float16", "gap-zstd"), "gap-zstd"),
    ],
)
def test_the_codec_is_the_server_s_choice_else_the_device_s_first(
    configured: str, offered: tuple[str, ...], chosen: str
) -> None:
    with running_backend(codec=configured) as backend:
        connection, _ = connect(backend, replace(HELLO, codecs=offered))
        welcome = connection.greeting()[0]
    assert isinstance(welcome, Welcome)
    assert welcome.codec == chosen


def test_a_new_device_gets_a_whole_model_and_then_updates_from_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with running_backend() as backend:
        connection, outlet = connect(backend, replace(HELLO, downlink_bps=1_000_000))
        greeting = connection.greeting()
        update = update_after(connection, outlet, 1)
    assert kinds(greeting)[0] is Welcome
    assert set(kinds(greeting)[1:]) == {ModelChunk, SnapshotHeader}
    (header,) = [message for message in greeting if isinstance(message, SnapshotHeader)]
    assert update.base_digest == header.weights_digest == weights_digest(student_vector(small_model().module))
    assert "a whole model" in caplog.text
    assert ", up to 2 s at 1000 kbit/s" in caplog.text
    assert connection.downlink.spent_bytes == CONNECTION_BYTES


def test_a_device_whose_first_model_broke_off_gets_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    hello = replace(HELLO, downlink_bps=100_000)
    with running_backend() as backend:
        connection, _ = connect(backend, hello)
        (header,) = [message for message in connection.greeting() if isinstance(message, SnapshotHeader)]
        connection.close()
        partial = PartialSnapshot(encoded_digest=header.encoded_digest, received_bytes=header.encoded_bytes - 10)
        connection, _ = connect(backend, replace(hello, partial=partial))
        *_, chunk = connection.greeting()
    assert isinstance(chunk, ModelChunk)
    assert (chunk.offset, len(chunk.data)) == (header.encoded_bytes - 10, 10)
    assert "greeted with the rest of a model" in caplog.text


def test_the_age_of_a_model_counts_from_the_update_that_runs() -> None:
    with running_backend() as backend:
        connection, outlet = connect(backend)
        connection.greeting()
        update = update_after(connection, outlet, 1)
        assert backend.devices()[0].model_age_s is None, "it may still be on the way"
        applied = Applied(version=update.version, weights_digest=update.result_digest, build_time_ms=1.0)
        connection.deliver(AppliedReported(applied=applied))
        first_s = backend.devices()[0].model_age_s
        update_after(connection, outlet, 2)
        assert (first_s, backend.devices()[0].model_age_s) == (0.0, 10.0)


def test_a_device_that_comes_back_goes_on_where_it_was(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with running_backend() as backend:
        connection, outlet = connect(backend)
        connection.greeting()
        first = update_after(connection, outlet, 1)
        connection.close()
        connection, outlet = connect(backend, holding(0, first.base_digest))
        assert kinds(connection.greeting()) == [Welcome, Update]
        second = update_after(connection, outlet, 2)
    assert (second.version, second.base_digest) == (2, first.result_digest)
    assert "greeted with 1 missed update: " in caplog.text


def test_the_time_of_a_model_is_what_its_bytes_take_at_the_rate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with running_backend() as backend:
        connection, _ = connect(backend, replace(HELLO, uplink_bps=50_000, downlink_bps=10_000))
        chunks = [len(message.data) for message in connection.greeting() if isinstance(message, ModelChunk)]
    duration_s = 8 * sum(map(sent_bytes, chunks)) / model_bps(50_000, 10_000)
    assert f": {sum(chunks) / 1000:.0f} kB, up to {duration_s:.0f} s at 10 kbit/s with pictures going up" in caplog.text


def test_a_device_is_told_what_holds_when_another_comes_asks_or_leaves() -> None:
    with running_backend(total_uplink_kbps=300) as backend:
        first, told = connect(backend, replace(HELLO, uplink_bps=200_000, downlink_bps=200_000))
        assert first.session.control().uplink_bps == 200_000
        second, _ = connect(backend, replace(HELLO, device_id="camera-2", uplink_bps=200_000, downlink_bps=200_000))
        (control,) = told.sent.all(Control)
        assert isinstance(control, Control)
        assert (control.uplink_bps, control.downlink_bps) == (150_000, 200_000)
        assert (control.uplink_bound, control.downlink_bound) == ("share", "unspecified")
        assert control.batch_bytes < 150_000 / 8
        second.deliver(BudgetWanted(budget=Budget(uplink_bps=50_000, downlink_bps=100_000)))
        assert first.session.budget.uplink_bps == 200_000
        assert second.downlink.bps == 100_000 - UPKEEP_BPS
        with pytest.raises(RefusedError, match="carries nothing"):
            second.deliver(BudgetWanted(budget=Budget(uplink_bps=50, downlink_bps=0)))
        assert not backend.set_ceiling("camera-3", DeviceBudget(uplink_bps=9_000, downlink_bps=0))
        assert backend.set_ceiling("camera-1", DeviceBudget(uplink_bps=0, downlink_bps=60_000))
        with pytest.raises(ConfigurationError, match="carries nothing"):
            backend.set_ceiling("camera-1", DeviceBudget(uplink_bps=50, downlink_bps=0))
        states = backend.devices()
        assert [state.device_id for state in states] == ["camera-1", "camera-2"]
        assert states[0].asked.downlink_bps == 200_000
        assert (states[0].held.budget.downlink_bps, states[0].held.downlink_bound) == (60_000, "ceiling")
        first.downlink.spend(700)
        first.count_received(900)
        assert (backend.devices()[0].downlink_bytes, backend.devices()[0].uplink_bytes) == (CONNECTION_BYTES + 700, 900)
        second.close()
        assert [state.device_id for state in backend.devices()] == ["camera-1"]


def test_caps_that_leave_too_little_send_the_next_device_away_for_now() -> None:
    with running_backend(total_downlink_kbps=4) as backend:
        connect(backend)
        with pytest.raises(RefusedError, match="caps leave too little") as caught:
            connect(backend, replace(HELLO, device_id="camera-2"))
        assert caught.value.code == "busy"


def test_of_two_devices_that_come_at_once_the_one_for_which_caps_leave_too_little_is_sent_away() -> None:
    async def both(backend: DeviceBackend) -> list[DeviceConnection | BaseException]:
        hellos = [replace(HELLO, device_id=name) for name in "ab"]
        coming = [backend.connect(hello, FakeOutlet(), bucket()) for hello in hellos]
        return await asyncio.gather(*coming, return_exceptions=True)

    with running_backend(total_downlink_kbps=4) as backend:
        (refused,) = (each for each in asyncio.run(both(backend)) if isinstance(each, RefusedError))
        assert refused.code == "busy"
        (state,) = backend.devices()
        assert state.held.budget.downlink_bps == 4_000


def test_a_device_that_is_sent_away_on_its_return_loses_nothing() -> None:
    with running_backend(total_downlink_kbps=4) as backend:
        connection, outlet = connect(backend)
        connection.greeting()
        first = update_after(connection, outlet, 1)
        connection.close()
        other, _ = connect(backend, replace(HELLO, device_id="camera-2"))
        with pytest.raises(RefusedError, match="caps leave too little"):
            connect(backend)
        other.close()
        connection, _ = connect(backend, holding(0, first.base_digest))
        assert kinds(connection.greeting()) == [Welcome, Update]


def test_a_late_greeting_of_a_stream_that_has_ended_takes_nobody_s_place() -> None:
    with running_backend() as backend:
        older, _ = connect(backend)
        older.close()
        newer, outlet = connect(backend)
        newer.greeting()
        older.greeting()
        assert update_after(newer, outlet, 1).version == 1


def test_a_reconnect_brings_no_new_burst() -> None:
    hello = replace(HELLO, downlink_bps=100_000)
    downlink = bucket(hello)
    with running_backend() as backend:
        connection, _ = connect(backend, hello, downlink)
        connection.downlink.spend(3_000_000)
        waited_s = connection.downlink.wait_s(1000)
        connection.close()
        connection, _ = connect(backend, hello, downlink)
        assert connection.downlink.wait_s(1000) == pytest.approx(waited_s, abs=30.0)
        assert waited_s > 200
        connection.close()
        connection, _ = connect(backend, replace(HELLO, downlink_bps=200_000), downlink)
        assert connection.downlink.wait_s(1000) > 100, "debts stay when the budget changes"


@pytest.mark.parametrize("asked_bps", [100_000, 0])
def test_a_device_whose_session_was_forgotten_has_its_debts_still(asked_bps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "KEPT_SESSIONS", 0)
    hello = replace(HELLO, downlink_bps=asked_bps)
    downlink = bucket(hello)
    with running_backend(max_downlink_kbps=100) as backend:
        earlier, _ = connect(backend, hello, downlink)
        earlier.downlink.spend(3_000_000)
        earlier.close()
        connection, _ = connect(backend, hello, downlink)
        assert connection.session is not earlier.session
        assert connection.session.spending.downlink is downlink
        assert connection.downlink.bps == 100_000 - UPKEEP_BPS
        assert connection.downlink.room_bytes < -2_500_000


def test_a_device_that_comes_back_with_another_codec_starts_afresh() -> None:
    with running_backend() as backend:
        connection, outlet = connect(backend)
        connection.greeting()
        update_after(connection, outlet, 1)
        connection.close()
        connection, outlet = connect(backend, replace(HELLO, codecs=("mask-float16",)))
        connection.greeting()
        update = update_after(connection, outlet, 1)
    assert (update.version, update.codec) == (1, "mask-float16")


def test_a_device_that_comes_back_with_another_codec_and_budget_is_held_to_that_budget_and_to_its_debts() -> None:
    with running_backend() as backend:
        wanted = replace(HELLO, uplink_bps=200_000, downlink_bps=400_000)
        connection, _ = connect(backend, wanted)
        connection.downlink.spend(3_000_000)
        connection.close()
        lower = replace(wanted, codecs=("mask-float16",), downlink_bps=100_000)
        connection, _ = connect(backend, lower, connection.downlink)
        assert connection.downlink.bps == 100_000 - UPKEEP_BPS
        assert connection.downlink.wait_s(1000) > 100


def test_the_device_that_was_away_longest_is_forgotten_and_none_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "KEPT_SESSIONS", 1)
    made: list[str] = []

    def new_session(*_: object, device_id: str, **__: object) -> EdgeSession:
        made.append(device_id)
        session = small_session(codec=HELLO.codecs[0])
        session.device_id = device_id
        return session

    monkeypatch.setattr(backend_module, "new_session", new_session)
    with running_backend() as backend:
        here = {name: connect(backend, replace(HELLO, device_id=name))[0] for name in "abc"}
        here["a"].close()
        here["b"].close()
        for name in "ba":
            connect(backend, replace(HELLO, device_id=name))
    assert made == ["a", "b", "c", "a"]


def test_a_wish_for_a_snapshot_is_granted_from_another_thread() -> None:
    async def exchange(backend: DeviceBackend) -> FakeOutlet:
        outlet = FakeOutlet()
        connection = await backend.connect(HELLO, outlet, bucket())
        connection.greeting()
        connection.deliver(EdgeDraining(reason="nothing follows from it"))
        connection.deliver(SnapshotWanted(reason="bad digest"))
        await asyncio.wait_for(asyncio.to_thread(outlet.sent.wait_count, ModelChunk), TIMEOUT_S)
        return outlet

    with running_backend() as backend:
        outlet = asyncio.run(exchange(backend))
    header = outlet.sent.items[0]
    assert isinstance(header, SnapshotHeader)
    assert header.version == 0
    assert header.encoded_bytes == sum(len(item.data) for item in outlet.sent.items if isinstance(item, ModelChunk))


def test_a_stream_that_breaks_off_before_its_greeting_leaves_nothing_in_the_round() -> None:
    with running_backend() as backend:
        connection, outlet = connect(backend)
        connection.close()
        connection.greeting()
        connection.deliver(BatchArrived(batch=colour_batch(1, 0.0)))
        other, other_outlet = connect(backend, replace(HELLO, device_id="camera-2"))
        other.greeting()
        update_after(other, other_outlet, 1)
    assert not outlet.sent.items


@contextmanager
def process(folder: Path, **changes: Any) -> Iterator[DeviceBackend]:
    """Run all of a server process but its sockets, with sessions kept in `folder`, until it is drained."""
    failures: list[BaseException] = []
    chosen = small_settings(steps=1, state_folder=folder, **changes)
    writer = CheckpointWriter(checkpoint_store(chosen, small_model()), ManualClock())
    scheduler = Scheduler(EventLog(None, SystemClock()), failures.append, SystemClock(), writer.offer)
    scheduler.start()
    writer.start()
    device = torch.device("cpu")
    backend = DeviceBackend(
        chosen,
        small_model(),
        teacher=ColourTeacher(),
        device=device,
        scheduler=scheduler,
        clock=ManualClock(),
        checkpoints=writer,
    )
    try:
        yield backend
    finally:
        scheduler.stop()
        backend.keep_sessions()
        writer.stop()
        assert not failures


def holding(version: int, digest: bytes, *earlier: bytes) -> Hello:
    """Return the hello of a device that runs a version and keeps `earlier` weights."""
    manifest = small_model().manifest
    held = HeldModel(bundle_digest=manifest.bundle_digest, version=version, weights_digest=digest)
    return replace(HELLO, held=held, graphs=(manifest.graph_digest,), weights=(digest, *earlier))


def test_a_device_goes_on_from_its_version_at_the_next_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with process(tmp_path) as backend:
        connection, outlet = connect(backend)
        connection.greeting()
        first = update_after(connection, outlet, 1)
        second = update_after(connection, outlet, 2)
    with process(tmp_path) as backend:
        connection, outlet = connect(backend, holding(2, second.result_digest))
        assert kinds(connection.greeting()) == [Welcome]
        third = update_after(connection, outlet, 3)
        assert (third.base_version, third.base_digest) == (2, second.result_digest)
        connection.close()
    with process(tmp_path) as backend:
        connection, _ = connect(backend, holding(1, first.result_digest))
        assert connection.greeting()[1:] == [second, third], "what was on the way when the process ended"
    assert "its session goes on from version 2 on disk" in caplog.text


def headers(messages: Sequence[ServerMessage]) -> list[SnapshotHeader]:
    return [message for message in messages if isinstance(message, SnapshotHeader)]


def test_a_device_that_is_ahead_of_the_disk_goes_back_or_gets_what_was_learnt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    start = weights_digest(student_vector(small_model().module))
    with process(tmp_path) as backend:
        connection, outlet = connect(backend)
        connection.greeting()
        first = update_after(connection, outlet, 1)
        copy = wait_for_file(tmp_path)
        second = update_after(connection, outlet, 2)
    (path,) = tmp_path.iterdir()
    path.write_bytes(copy)
    with process(tmp_path) as backend:
        connection, outlet = connect(backend, holding(2, second.result_digest, first.result_digest, start))
        (header,) = headers(connection.greeting())
        assert (header.version, header.weights_digest, header.base_digest) == (1, *[first.result_digest] * 2)
        assert update_after(connection, outlet, 3).base_digest == first.result_digest
    path.write_bytes(copy)
    for kept in ((), (start,)):
        # Updates in another codec than the one on disk do not lead on from the start.
        with process(tmp_path, codec="mask-float16") as backend:
            connection, outlet = connect(backend, holding(1, second.result_digest, *kept))
            *whole, header = headers(connection.greeting())
            assert [(each.version, each.weights_digest) for each in whole] == ([] if kept else [(0, start)])
            assert (header.version, header.base_digest) == (2, start)
            update = update_after(connection, outlet, 3)
            assert (update.base_version, update.base_digest) == (2, header.weights_digest)
        path.write_bytes(copy)
    assert "greeted with the way back to version 1: " in caplog.text
    assert "greeted with what its model has learnt since the start: " in caplog.text


def test_a_fresh_server_sends_nothing_to_a_device_that_was_provisioned(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    start = weights_digest(student_vector(small_model().module))
    with running_backend() as backend:
        connection, outlet = connect(backend, holding(0, start))
        assert kinds(connection.greeting()) == [Welcome]
        assert update_after(connection, outlet, 1).base_digest == start
        other, _ = connect(backend, replace(holding(7, bytes(16), start), device_id="camera-2"))
        (header,) = headers(other.greeting())
        assert (header.version, header.base_digest, header.encoded_bytes < 100) == (0, start, True)
    assert any(line.endswith("greeted with nothing but a welcome") for line in caplog.messages), "without a size"
    assert "greeted with the way back to version 0" in caplog.text


def test_a_wish_for_a_snapshot_after_some_learning_is_granted_against_the_start() -> None:
    async def wish(connection: DeviceConnection, outlet: FakeOutlet, wanted: int) -> None:
        connection.deliver(SnapshotWanted(reason="bad digest"))
        await asyncio.wait_for(asyncio.to_thread(outlet.sent.wait_count, SnapshotHeader, wanted), TIMEOUT_S)

    with running_backend() as backend:
        connection, outlet = connect(backend)
        connection.greeting()
        update_after(connection, outlet, 1)
        asyncio.run(wish(connection, outlet, 1))
        asyncio.run(wish(connection, outlet, 2))
        first, second = headers([each for each in outlet.sent.items if isinstance(each, SnapshotHeader)])
        assert first == second, "what is rounded is not rounded again"
        assert (first.version, first.base_digest) == (2, weights_digest(student_vector(small_model().module)))
        assert update_after(connection, outlet, 2).base_digest == first.weights_digest


def wait_for_file(folder: Path) -> bytes:
    """Return the bytes of the one checkpoint once it is there."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not (found := list(folder.glob("*.safetensors"))):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return found[0].read_bytes()


def test_the_same_version_of_other_weights_is_no_version_to_go_on_from(tmp_path: Path) -> None:
    with process(tmp_path) as backend:
        connection, outlet = connect(backend)
        connection.greeting()
        here = update_after(connection, outlet, 1)
    (path,) = tmp_path.iterdir()
    path.unlink()
    with process(tmp_path, seed=5) as backend:
        connection, outlet = connect(backend, holding(1, here.result_digest))
        connection.greeting()
        there = update_after(connection, outlet, 1)
        assert there.version == here.version
        assert there.result_digest != here.result_digest
        connection.close()
        connection, _ = connect(backend, holding(1, here.result_digest))
        assert SnapshotHeader in kinds(connection.greeting())


def test_a_session_that_was_forgotten_in_memory_is_taken_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "KEPT_SESSIONS", 1)
    with process(tmp_path) as backend:
        connection, outlet = connect(backend)
        connection.greeting()
        update = update_after(connection, outlet, 1)
        connection.close()
        other, _ = connect(backend, replace(HELLO, device_id="camera-2"))
        other.close()
        connection, _ = connect(backend, holding(1, update.result_digest))
        assert kinds(connection.greeting()) == [Welcome]


@pytest.mark.parametrize("changes", [{"optimizer": "sgd"}, {"restore_between_phases": True}])
def test_a_process_of_another_kind_starts_the_device_afresh(
    tmp_path: Path, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with process(tmp_path) as backend:
        connection, outlet = connect(backend)
        connection.greeting()
        update = update_after(connection, outlet, 1)
    with process(tmp_path, **changes) as backend:
        connection, outlet = connect(backend, holding(1, update.result_digest))
        assert SnapshotHeader in kinds(connection.greeting())
        assert update_after(connection, outlet, 1).version == 1
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "another student, other starting weights or another kind of training" in warning.getMessage()


def test_a_process_with_other_settings_of_training_goes_on(tmp_path: Path) -> None:
    with process(tmp_path) as backend:
        connection, outlet = connect(backend)
        connection.greeting()
        update = update_after(connection, outlet, 1)
    with process(tmp_path, learning_rate=0.01, selection="random", codec="mask-float16", batch_norm="train") as backend:
        connection, outlet = connect(backend, holding(1, update.result_digest))
        assert kinds(connection.greeting()) == [Welcome]
        later = update_after(connection, outlet, 1)
    assert (later.base_version, later.base_digest, later.codec) == (1, update.result_digest, "mask-float16")


def test_a_session_goes_to_disk_when_its_device_leaves_and_when_it_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "KEPT_SESSIONS", 1)
    kept: list[str] = []
    monkeypatch.setattr(CheckpointWriter, "keep", lambda writer, session: kept.append(session.device_id))
    with process(tmp_path) as backend:
        here = {name: connect(backend, replace(HELLO, device_id=name))[0] for name in "abc"}
        assert not kept
        here["a"].close()
        assert kept == ["a"]
        here["b"].close()
        assert kept == ["a", "b", "a"]
    assert sorted(kept[3:]) == ["b", "c"], "the end of the process"
