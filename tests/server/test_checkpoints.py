import json
import logging
import os
import stat
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.server.session_support import small_model

from ams_common.errors import ConfigurationError
from ams_server import checkpoints as checkpoints_module
from ams_server.checkpoints import CheckpointStore, session_identity
from ams_server.state import State
from ams_server.training_config import TrainingConfig

IDENTITY = bytes(range(16))
STATE: State = {
    "weights": np.array([1.5, -2.0, 1e-30], np.float32),
    "version": np.array(7, np.int64),
    "moved": np.empty(0, np.int64),
    "generator": np.arange(5, dtype=np.uint8),
    "rate": np.array(0.25),
}
ONE_FOLDER = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def store_in(folder: Path, *, identity: bytes = IDENTITY, keep: int = 10) -> CheckpointStore:
    return CheckpointStore(folder, identity, parameters=3, keep=keep)


def assert_equal(found: State | None, expected: State) -> None:
    assert found is not None
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_what_is_kept_comes_back_exactly(tmp_path: Path) -> None:
    size = store_in(tmp_path / "new" / "folder").save("camera-1", STATE)
    store = store_in(tmp_path / "new" / "folder")
    assert_equal(store.load("camera-1"), STATE)
    assert store.path("camera-1").stat().st_size == size
    assert store.load("camera-2") is None


def test_a_later_state_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.save("camera-1", STATE)
    later = {**STATE, "version": np.array(8, np.int64)}
    store.save("camera-1", later)
    assert_equal(store.load("camera-1"), later)
    assert [path.name for path in tmp_path.iterdir()] == [store.path("camera-1").name]


@given(device_id=st.text(min_size=1, max_size=300))
def test_no_device_id_leads_out_of_the_folder(device_id: str) -> None:
    store = CheckpointStore.__new__(CheckpointStore)
    store._folder = Path("/state")
    path = store.path(device_id)
    assert path.parent == Path("/state")
    assert path.suffix == ".safetensors"
    assert set(path.stem) <= set("0123456789abcdef")
    assert path != store.path(device_id + "x")


def test_a_state_that_cannot_be_believed_is_put_aside_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_in(tmp_path)
    store.save("camera-1", STATE)
    path = store.path("camera-1")
    path.write_bytes(path.read_bytes()[:-1])
    assert store.load("camera-1") is None
    (message,) = caplog.messages
    assert str(path) in message
    assert "camera-1" in message
    assert [each.name for each in tmp_path.iterdir()] == [f"{path.stem}.refused"]
    assert store.load("camera-1") is None
    assert len(caplog.messages) == 1
    store.save("camera-1", STATE)
    assert_equal(store.load("camera-1"), STATE)


@ONE_FOLDER
@given(data=st.data())
def test_a_file_that_was_changed_anywhere_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    store = store_in(tmp_path)
    store.save("camera-1", STATE)
    path = store.path("camera-1")
    good = path.read_bytes()
    position = data.draw(st.integers(0, len(good) - 1))
    change = data.draw(st.integers(1, 255))
    path.write_bytes(good[:position] + bytes([good[position] ^ change]) + good[position + 1 :])
    found = store.load("camera-1")
    # Some changes of the header's text mean the same, such as a space for a tab; they may pass.
    if found is not None:
        assert_equal(found, STATE)


@ONE_FOLDER
@given(data=st.one_of(st.binary(max_size=300), st.integers(0, 600)))
def test_torn_and_foreign_files_are_refused(tmp_path: Path, data: bytes | int) -> None:
    store = store_in(tmp_path)
    store.save("camera-1", STATE)
    path = store.path("camera-1")
    good = path.read_bytes()
    path.write_bytes(good[: min(data, len(good) - 1)] if isinstance(data, int) else data)
    assert store.load("camera-1") is None


def hostile_header(*, kind: str = "F32", shape: tuple[int, ...] = (2,), end: int = 8, metadata: Any = None) -> bytes:
    """Return a file of one tensor with that header, as an attacker writes it."""
    header = {"weights": {"dtype": kind, "shape": shape, "data_offsets": [0, end]}, "__metadata__": metadata or {}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


@pytest.mark.parametrize(
    "data",
    [
        hostile_header(),
        hostile_header(kind="BF16", shape=(4,), metadata={"format": "1", "device": "camera-1", "model": IDENTITY.hex()}),
        hostile_header(metadata={"format": "1", "device": "camera-1", "model": IDENTITY.hex(), "contents": "00"}),
        hostile_header(metadata={"format": "1", "device": "camera-1", "model": IDENTITY.hex()}),
        hostile_header(shape=(2**40, 2**40)),
        hostile_header(shape=(2**31,), end=2**33),
        hostile_header(metadata={"format": 1}),
        struct.pack("<Q", 2**63) + b"{}",
        b"\x80\x04pickle",
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    store = store_in(tmp_path)
    store.path("camera-1").write_bytes(data)
    assert store.load("camera-1") is None
    assert len(caplog.messages) == 1


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = store_in(tmp_path)
    with store.path("camera-1").open("wb") as file:
        file.truncate(2**40)
    assert store.load("camera-1") is None
    assert "it is no file of at most" in caplog.text


def test_a_folder_or_a_pipe_in_the_place_of_a_file_is_put_aside(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.path("camera-1").mkdir()
    os.mkfifo(store.path("camera-2"))
    assert store.load("camera-1") is None
    assert store.load("camera-2") is None


def test_another_device_s_file_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = store_in(tmp_path)
    store.save("camera-1", STATE)
    store.path("camera-1").rename(store.path("camera-2"))
    assert store.load("camera-2") is None
    assert "its device is 'camera-1' instead of 'camera-2'" in caplog.text


def test_another_server_s_file_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store_in(tmp_path).save("camera-1", STATE)
    assert store_in(tmp_path, identity=bytes(16)).load("camera-1") is None
    assert "it is of another student, other starting weights or another kind of training" in caplog.text


def test_a_state_belongs_to_a_model_its_start_and_a_kind_of_training() -> None:
    manifest, start, training = small_model().manifest, bytes(16), TrainingConfig()
    identity = session_identity(manifest, start, training, "ams")
    others = {
        session_identity(replace(manifest, student="other"), start, training, "ams"),
        session_identity(replace(manifest, graph_digest=bytes(16)), start, training, "ams"),
        session_identity(manifest, bytes([1] * 16), training, "ams"),
        session_identity(manifest, start, TrainingConfig(optimizer="sgd"), "ams"),
        session_identity(manifest, start, TrainingConfig(restore_between_phases=True), "ams"),
        session_identity(manifest, start, training, "jit"),
    }
    assert len(others) == 6
    assert identity not in others
    assert identity == session_identity(manifest, start, TrainingConfig(steps=3, horizon_s=9.0), "ams")


class KilledError(Exception):
    """The process ends here."""


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_process_that_is_killed_while_it_writes_leaves_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = store_in(tmp_path)
    store.save("camera-1", STATE)

    def kill(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(os if step == "fsync" else Path, step, kill)
        with pytest.raises(KilledError):
            store.save("camera-1", {**STATE, "version": np.array(8, np.int64)})
    assert list(tmp_path.glob("*.partial"))
    store = store_in(tmp_path)
    assert not list(tmp_path.glob("*.partial")), "what a killed process left is cleared away"
    assert_equal(store.load("camera-1"), STATE)


def test_a_file_is_flushed_before_it_takes_its_place_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_in(tmp_path)
    flush, rename = os.fsync, Path.replace
    calls: list[str] = []

    def fsync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        flush(descriptor)

    def replace_(path: Path, target: Path) -> Path:
        calls.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace_)
    store.save("camera-1", STATE)
    assert calls == ["file", "rename", "folder"]


def test_a_full_disk_leaves_what_was_there_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path)
    store.save("camera-1", STATE)

    def write_file(path: Path, data: bytes) -> None:
        path.write_bytes(data[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints_module, "_write_file", write_file)
        with pytest.raises(OSError, match="No space left"):
            store.save("camera-1", {**STATE, "version": np.array(8, np.int64)})
    assert_equal(store.load("camera-1"), STATE)
    assert len(list(tmp_path.iterdir())) == 1


def test_of_too_many_files_those_written_longest_ago_are_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    store = store_in(tmp_path, keep=2)
    for number, device in enumerate("abc"):
        store.save(device, STATE)
        os.utime(store.path(device), (number, number))
    assert [device for device in "abc" if store.path(device).exists()] == ["b", "c"]
    assert caplog.messages == [
        f"session {store.path('a').name} is deleted: with this --max-devices the 2 written last are kept"
    ]
    store.refuse("b", "for a test")
    store.save("d", STATE)
    assert len(list(tmp_path.iterdir())) == 2, "what was put aside counts"
    assert store.path("c").exists()


@pytest.mark.parametrize("what", ["a file", "a folder that is not there to write to"])
def test_a_folder_that_cannot_be_used_is_told_at_the_start(tmp_path: Path, what: str) -> None:
    blocker = tmp_path / "file"
    blocker.touch()
    folder = blocker / "state" if what == "a file" else Path("/proc/state")
    with pytest.raises(ConfigurationError, match="cannot keep sessions in --state-folder") as caught:
        store_in(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_told_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ConfigurationError, match="no space left on device"):
        store_in(tmp_path)


def test_other_files_in_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    store = store_in(tmp_path, keep=1)
    for device in "ab":
        store.save(device, STATE)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_nothing_is_said_about_what_is_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = store_in(tmp_path)
    store.save("camera-1", STATE)
    store.load("camera-1")
    assert not caplog.messages


def test_arrays_that_are_not_contiguous_are_kept_as_they_are(tmp_path: Path) -> None:
    strided: npt.NDArray[np.float32] = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    store = store_in(tmp_path)
    store.save("camera-1", {"weights": strided})
    assert_equal(store.load("camera-1"), {"weights": strided})
