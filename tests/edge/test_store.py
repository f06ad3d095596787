import hashlib
import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.edge.tiny_student import tiny_model

from ams_common.clock import ManualClock
from ams_common.errors import ConfigurationError
from ams_common.layout import weights_digest
from ams_common.model_file import StoredModel
from ams_edge.store import ModelStore, StoreConfig

INTERVAL_S = 60.0


def make_store(folder: Path, clock: ManualClock | None = None) -> ModelStore:
    return ModelStore(folder, StoreConfig(store_interval_s=INTERVAL_S), clock or ManualClock())


def later(model: StoredModel, version: int) -> StoredModel:
    vector = model.vector + np.float32(version)
    return replace(model, vector=vector, version=version, weights_digest=weights_digest(vector))


def version_on_disk(folder: Path) -> int | None:
    stored = make_store(folder).load()
    return None if stored is None else stored.version


def test_what_is_stored_comes_back_exactly(tmp_path: Path) -> None:
    model = tiny_model(version=2**40)
    store = make_store(tmp_path / "new" / "folder")
    store.offer(model)
    loaded = make_store(tmp_path / "new" / "folder").load()
    assert loaded is not None
    assert loaded.manifest == model.manifest
    assert loaded.manifest.bundle_digest == model.manifest.bundle_digest
    assert loaded.graph == model.graph
    assert loaded.vector.dtype == np.float32
    assert np.array_equal(loaded.vector, model.vector)
    assert (loaded.version, loaded.weights_digest) == (model.version, model.weights_digest)


def test_an_empty_folder_holds_no_model(tmp_path: Path) -> None:
    assert make_store(tmp_path).load() is None
    assert not list(tmp_path.iterdir())


def test_the_first_model_is_written_at_once_and_later_ones_at_the_interval(tmp_path: Path) -> None:
    clock, model = ManualClock(), tiny_model(version=1)
    store = make_store(tmp_path, clock)
    store.offer(model)
    assert version_on_disk(tmp_path) == 1
    store.offer(later(model, 2))
    clock.advance_to(INTERVAL_S - 1)
    store.offer(later(model, 3))
    store.flush_if_due()
    assert version_on_disk(tmp_path) == 1
    clock.advance_to(INTERVAL_S)
    store.flush_if_due()
    assert version_on_disk(tmp_path) == 3


def test_a_model_that_came_from_disk_is_not_written_again_before_the_interval(tmp_path: Path) -> None:
    clock, model = ManualClock(), tiny_model(version=1)
    make_store(tmp_path).offer(model)
    store = make_store(tmp_path, clock)
    assert store.load() is not None
    store.offer(later(model, 2))
    assert version_on_disk(tmp_path) == 2
    store.offer(later(model, 3))
    assert version_on_disk(tmp_path) == 2


def test_a_model_of_another_graph_is_written_at_once(tmp_path: Path) -> None:
    model = tiny_model(version=9)
    store = make_store(tmp_path)
    store.offer(model)
    store.offer(replace(model, manifest=replace(model.manifest, student="other"), version=1))
    assert version_on_disk(tmp_path) == 1


def test_the_end_writes_what_is_not_on_disk_yet(tmp_path: Path) -> None:
    model = tiny_model(version=1)
    store = make_store(tmp_path)
    store.offer(model)
    store.offer(later(model, 2))
    store.flush()
    assert version_on_disk(tmp_path) == 2
    before = store.path.stat().st_mtime_ns
    store.flush()
    assert store.path.stat().st_mtime_ns == before


def test_the_file_is_flushed_before_it_takes_the_place_of_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace_file = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        done.append("flush folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "flush file")
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> Path:
        done.append("rename")
        return replace_file(source, target)

    monkeypatch.setattr("os.fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    make_store(tmp_path).offer(tiny_model(version=1))
    assert done[-3:] == ["flush file", "rename", "flush folder"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graphs", "model.ams"]


def test_the_weights_at_version_0_stay_beside_what_runs(tmp_path: Path) -> None:
    model = tiny_model(version=0)
    store = make_store(tmp_path)
    assert store.load() is store.start is None
    store.offer(model)
    written_ns = (tmp_path / "start.ams").stat().st_mtime_ns
    store.offer(later(model, 1))
    store.offer(model)
    store.flush()
    assert (tmp_path / "start.ams").stat().st_mtime_ns == written_ns, "the same weights are not written again"
    again = make_store(tmp_path)
    loaded = again.load()
    assert loaded is not None
    assert again.start is not None
    assert again.start.weights_digest == model.weights_digest == loaded.weights_digest
    assert list(again.graphs.graphs.values()) == [model.graph]


def test_a_damaged_start_is_put_aside_and_the_running_model_stays(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.offer(tiny_model(version=0))
    (tmp_path / "start.ams").write_bytes(b"AMSMODEL" * 20)
    again = make_store(tmp_path)
    assert again.load() is not None
    assert again.start is None
    assert (tmp_path / "start.corrupt").exists()


def test_a_disk_that_refuses_keeps_the_old_model_and_a_later_write_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, model = ManualClock(), tiny_model(version=1)
    store = make_store(tmp_path, clock)
    store.offer(model)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        store.offer(later(model, 2))
        store.flush()
    assert "no space left on device" in caplog.text
    assert version_on_disk(tmp_path) == 1
    clock.advance_to(2 * INTERVAL_S)
    store.flush_if_due()
    assert version_on_disk(tmp_path) == 2


def test_a_disk_that_refuses_a_first_model_is_asked_again_at_the_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, model = ManualClock(), tiny_model(version=1)
    store = make_store(tmp_path, clock)

    def full(path: Path, model: StoredModel) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ams_edge.store.write_model", full)
    for version in range(1, 11):
        store.offer(later(model, version))
        clock.sleep(INTERVAL_S / 4)
    assert caplog.text.count("no space left on device") == 3


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_put_aside(tmp_path: Path, data: st.DataObject) -> None:
    make_store(tmp_path).offer(tiny_model())
    path = tmp_path / "model.ams"
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[position] ^= data.draw(st.integers(1, 255))
    else:
        del content[position:]
    path.write_bytes(content)
    assert make_store(tmp_path).load() is None
    assert not path.exists()
    assert (tmp_path / "model.corrupt").read_bytes() == bytes(content)


def test_a_file_with_a_right_digest_but_a_wrong_manifest_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_store(tmp_path).offer(tiny_model())
    path = tmp_path / "model.ams"
    content = bytearray(path.read_bytes()[:-16])
    content[40:60] = b"\xff" * 20
    path.write_bytes(bytes(content) + hashlib.blake2b(content, digest_size=16).digest())
    assert make_store(tmp_path).load() is None
    assert "put aside as model.corrupt" in caplog.text


def test_a_folder_that_cannot_be_made_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="cannot make the model folder"):
        make_store(tmp_path / "file" / "models")
