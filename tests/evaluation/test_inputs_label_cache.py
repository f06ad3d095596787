import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.classes import IGNORE, STREET7, ClassSet, UInt8Array
from ams_common.errors import CodecError, ModelError
from ams_eval.inputs import label_cache
from ams_eval.inputs.label_cache import CachedTeacher, LabelCacheConfig, cached_teacher, default_cache_folder
from ams_server.teachers.precomputed import precomputed_teacher


class CountingTeacher:
    """Labels a pixel by its red value; counts the pictures that it is shown."""

    def __init__(self, identity: str = "teacher") -> None:
        self.identity = identity
        self.times_s: list[float] = []

    @property
    def classes(self) -> ClassSet:
        return STREET7

    def label(self, images: UInt8Array, capture_times_s: Sequence[float]) -> UInt8Array:
        assert len(images) == len(capture_times_s)
        self.times_s += capture_times_s
        red = images[..., 0] % 8
        return np.where(red == 7, np.uint8(IGNORE), red)


def pictures(count: int, height: int = 6, width: int = 8, seed: int = 0) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_picture_is_labelled_once_over_all_runs(tmp_path: Path) -> None:
    images = pictures(4)
    expected = CountingTeacher().label(images, [0.0] * 4)
    first = CountingTeacher()
    cache = CachedTeacher(first, tmp_path)
    np.testing.assert_array_equal(cache.label(images[:3], [0.0, 1.0, 2.0]), expected[:3])
    assert (cache.hits, cache.misses) == (0, 3)
    second = CountingTeacher()
    cache = CachedTeacher(second, tmp_path)
    np.testing.assert_array_equal(cache.label(images[::-1], [6.0, 7.0, 8.0, 9.0]), expected[::-1])
    assert second.times_s == [6.0]
    assert (cache.hits, cache.misses) == (3, 1)
    assert len(files(tmp_path)) == 4


def test_classes_and_identity_are_those_of_the_teacher(tmp_path: Path) -> None:
    cache = CachedTeacher(CountingTeacher("b0"), tmp_path)
    assert cache.classes is STREET7
    assert cache.identity == "b0"


def test_another_teacher_has_labels_of_its_own(tmp_path: Path) -> None:
    CachedTeacher(CountingTeacher("../b0"), tmp_path / "cache").label(pictures(2), [0.0, 1.0])
    cache = CachedTeacher(CountingTeacher("b1"), tmp_path / "cache")
    cache.label(pictures(2), [0.0, 1.0])
    assert (cache.hits, cache.misses) == (0, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_the_same_bytes_in_another_shape_are_another_picture(tmp_path: Path) -> None:
    cache = CachedTeacher(CountingTeacher(), tmp_path)
    cache.label(pictures(1, 6, 8), [0.0])
    assert cache.label(pictures(1, 6, 8).reshape(1, 8, 6, 3), [0.0]).shape == (1, 8, 6)
    assert cache.misses == 2


def test_pictures_that_are_views_are_told_apart(tmp_path: Path) -> None:
    cache = CachedTeacher(CountingTeacher(), tmp_path)
    images = pictures(2, 12, 16)[:, ::2, ::-2]
    cache.label(images, [0.0, 1.0])
    np.testing.assert_array_equal(cache.label(images, [0.0, 1.0]), CountingTeacher().label(images, [0.0, 1.0]))
    assert (cache.hits, cache.misses) == (2, 2)


def test_no_pictures_have_no_labels(tmp_path: Path) -> None:
    teacher = CountingTeacher()
    assert CachedTeacher(teacher, tmp_path).label(pictures(0), []).shape == (0, 6, 8)
    assert teacher.times_s == []


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other labels", "no classes", "folder"])
def test_damaged_files_are_made_anew(tmp_path: Path, damage: str) -> None:
    images = pictures(1)
    CachedTeacher(CountingTeacher(), tmp_path).label(images, [0.0])
    (path,) = files(tmp_path)
    good = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        content = {
            "empty": b"",
            "cut": good[:-3],
            "flipped": good[:-5] + bytes([good[-5] ^ 1]) + good[-4:],
            "other labels": label_cache._pack(np.zeros((8, 6, 2), np.uint8)),
            "no classes": label_cache._pack(np.full((6, 8), 7, np.uint8)),
        }
        path.write_bytes(content[damage])
    teacher = CountingTeacher()
    cache = CachedTeacher(teacher, tmp_path)
    np.testing.assert_array_equal(cache.label(images, [0.0]), teacher.label(images, [0.0]))
    assert cache.misses == 1
    if damage != "folder":
        assert path.read_bytes() == good


@given(st.binary(max_size=200))
def test_other_bytes_are_refused_in_one_error(content: bytes) -> None:
    for prefix in (b"", label_cache._MAGIC):
        with pytest.raises(CodecError):
            label_cache._unpack(prefix + content, (6, 8))


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    cache = CachedTeacher(CountingTeacher(), blocked)
    with caplog.at_level(logging.WARNING):
        for seed in range(3):
            images = pictures(2, seed=seed)
            np.testing.assert_array_equal(cache.label(images, [0.0, 1.0]), CountingTeacher().label(images, [0.0, 1.0]))
    assert caplog.text.count("no longer kept") == 1
    assert cache.misses == 6


def test_an_interrupted_teacher_leaves_what_was_done(tmp_path: Path) -> None:
    class Failing(CountingTeacher):
        def label(self, images: UInt8Array, capture_times_s: Sequence[float]) -> UInt8Array:
            raise ModelError("out of memory")

    CachedTeacher(CountingTeacher(), tmp_path).label(pictures(1), [0.0])
    cache = CachedTeacher(Failing(), tmp_path)
    assert cache.label(pictures(1), [0.0]).shape == (1, 6, 8)
    with pytest.raises(ModelError):
        cache.label(pictures(2, seed=1), [0.0, 1.0])
    assert len(files(tmp_path)) == 1


def test_many_at_once_share_a_folder(tmp_path: Path) -> None:
    images = pictures(20)
    expected = CountingTeacher().label(images, [0.0] * 20)
    wrong: list[int] = []

    def work() -> None:
        cache = CachedTeacher(CountingTeacher(), tmp_path)
        found = np.concatenate([cache.label(images[index : index + 1], [0.0]) for index in range(20)])
        wrong.append(int(np.count_nonzero(found != expected)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0] * 4
    assert len(files(tmp_path)) == 20


def test_a_teacher_that_looks_labels_up_is_not_cached(tmp_path: Path) -> None:
    np.savez(tmp_path / "labels.npz", labels=np.zeros((2, 6, 8), np.uint8))
    teacher = precomputed_teacher(tmp_path / "labels.npz", STREET7, 1.0)
    assert cached_teacher(teacher, LabelCacheConfig(label_cache=str(tmp_path))) is teacher


def test_the_cache_is_where_it_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = CountingTeacher()
    assert cached_teacher(teacher, LabelCacheConfig(label_cache="none")) is teacher
    cached_teacher(teacher, LabelCacheConfig(label_cache=str(tmp_path / "mine"))).label(pictures(1), [0.0])
    assert len(files(tmp_path / "mine")) == 1
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache_folder() == tmp_path / ".cache" / "adaptive-model-streaming" / "labels"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    cached_teacher(teacher, LabelCacheConfig()).label(pictures(1), [0.0])
    assert len(files(tmp_path / "xdg" / "adaptive-model-streaming" / "labels")) == 1
