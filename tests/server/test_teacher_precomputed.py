import io
import pathlib
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ams_common.classes import CAMVID11, IGNORE, STREET7, UInt8Array
from ams_common.errors import ConfigurationError
from ams_server.teachers import precomputed
from ams_server.teachers.precomputed import precomputed_teacher, read_label_array, read_label_png

DATA = pathlib.Path(__file__).parents[2].parent / "shared" / "data"


def maps(count: int = 4, height: int = 6, width: int = 8) -> UInt8Array:
    """Label maps whose frame number is everywhere but in the first column, where the row is."""
    labels = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, height, width)).copy()
    labels[:, :, 0] = np.arange(height)
    return labels


def array_file(folder: Path, labels: npt.NDArray[np.generic]) -> Path:
    path = folder / "video.labels.npz"
    np.savez_compressed(path, labels=labels)
    return path


def png_folder(folder: Path, labels: UInt8Array) -> Path:
    for number, each in enumerate(labels):
        Image.fromarray(each).save(folder / f"{number:05}.png")
    return folder


def numbers(found: UInt8Array) -> list[int]:
    return [int(each[-1, -1]) for each in found]


def blank(count: int, height: int = 6, width: int = 8) -> UInt8Array:
    return np.zeros((count, height, width, 3), np.uint8)


@pytest.mark.parametrize("store", [array_file, png_folder])
def test_frames_get_the_label_nearest_in_time(tmp_path: Path, store: Callable[[Path, UInt8Array], Path]) -> None:
    teacher = precomputed_teacher(store(tmp_path, maps()), STREET7, 2.0)
    times_s = [0.0, 0.2, 0.3, 1.0, 1.5, 1.9, 2.0, -0.4]
    found = teacher.label(blank(len(times_s)), times_s)
    assert found.dtype == np.uint8
    assert numbers(found) == [0, 0, 1, 2, 3, 3, 3, 0]
    assert found[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("time_s", [2.1, -0.6, float("nan"), float("inf")])
def test_frames_beyond_the_labels_are_an_error(tmp_path: Path, time_s: float) -> None:
    teacher = precomputed_teacher(array_file(tmp_path, maps()), STREET7, 2.0)
    with pytest.raises(ConfigurationError, match=r"labels at 2 Hz go from 0 to 1.5 s"):
        teacher.label(blank(1), [time_s])


def test_labels_are_resized_by_nearest_neighbour(tmp_path: Path) -> None:
    teacher = precomputed_teacher(array_file(tmp_path, np.array([[[0, 1], [2, 3]]], np.uint8)), STREET7, 1.0)
    assert teacher.label(blank(1, 4, 4), [0])[0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert teacher.label(blank(1, 1, 2), [0])[0].tolist() == [[2, 3]]


def test_values_outside_the_class_set_are_ignored(tmp_path: Path) -> None:
    teacher = precomputed_teacher(array_file(tmp_path, np.array([[[6, 7], [254, 255]]], np.uint8)), STREET7, 1.0)
    assert teacher.label(blank(1, 2, 2), [0])[0].tolist() == [[6, IGNORE], [IGNORE, IGNORE]]


def test_no_frames_give_no_labels(tmp_path: Path) -> None:
    assert precomputed_teacher(array_file(tmp_path, maps()), STREET7, 1.0).label(blank(0), []).shape == (0, 6, 8)


def test_identity_follows_content_rate_and_classes(tmp_path: Path) -> None:
    first = array_file(tmp_path, maps())
    folder = tmp_path / "folder"
    folder.mkdir()
    identities = {
        precomputed_teacher(first, STREET7, 1.0).identity,
        precomputed_teacher(first, STREET7, 2.0).identity,
        precomputed_teacher(first, CAMVID11, 1.0).identity,
        precomputed_teacher(array_file(folder, maps(5)), STREET7, 1.0).identity,
        precomputed_teacher(png_folder(folder, maps()), STREET7, 1.0).identity,
    }
    assert len(identities) == 5


@given(st.integers(1, 40), st.integers(1, 40))
def test_png_files_of_any_width_are_read_exactly(height: int, width: int) -> None:
    labels = np.random.default_rng(height * 41 + width).integers(0, 256, (height, width), np.uint8)
    content = io.BytesIO()
    Image.fromarray(labels).save(content, "PNG")
    np.testing.assert_array_equal(read_label_png_bytes(content.getvalue()), labels)


def read_label_png_bytes(content: bytes) -> UInt8Array:
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        file.write(content)
        file.flush()
        return read_label_png(Path(file.name))


def test_palette_png_files_give_their_indices(tmp_path: Path) -> None:
    labels = maps()[1]
    image = Image.fromarray(labels)
    image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_label_png(tmp_path / "palette.png"), labels)


def test_colour_pictures_are_no_labels(tmp_path: Path) -> None:
    Image.fromarray(blank(1)[0]).save(tmp_path / "colour.png")
    with pytest.raises(ConfigurationError, match=r"colour.png' is rgb24, not 8-bit grey or palette"):
        read_label_png(tmp_path / "colour.png")


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_other_files_are_no_label_images(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"label image .*bad.png' cannot be read"):
        read_label_png(tmp_path / "bad.png")


def test_huge_label_images_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precomputed, "MAX_PIXELS", 10)
    png_folder(tmp_path, maps(1))
    with pytest.raises(ConfigurationError, match="8x6 pixels are too many"):
        read_label_png(tmp_path / "00000.png")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no PNG files"):
        precomputed_teacher(tmp_path, STREET7, 1.0)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none.npz' do not exist"):
        precomputed_teacher(tmp_path / "none.npz", STREET7, 1.0)


@pytest.mark.parametrize("labels", [np.zeros((2, 3), np.uint8), np.zeros((1, 2, 2), np.int64), np.zeros((0, 2, 2), np.uint8)])
def test_arrays_of_another_kind_are_refused(tmp_path: Path, labels: npt.NDArray[np.generic]) -> None:
    with pytest.raises(ConfigurationError, match=r"not uint8 \[frames, height, width\]"):
        read_label_array(array_file(tmp_path, labels))


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"`labels` is object"):
        read_label_array(array_file(tmp_path, np.array([[[None]]], object)))


def test_arrays_that_claim_to_be_huge_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 1 << 20, 1 << 20)})
    path = tmp_path / "huge.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labels.npy", header.getvalue())
    with pytest.raises(ConfigurationError, match="too large: use a folder of PNG files"):
        read_label_array(path)


def test_an_archive_without_labels_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", frames=maps())
    with pytest.raises(ConfigurationError, match="are not usable"):
        read_label_array(tmp_path / "other.npz")


@given(st.binary(max_size=300))
def test_other_bytes_are_refused_in_one_error(content: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        file.write(content)
        file.flush()
        with pytest.raises(ConfigurationError):
            read_label_array(Path(file.name))


@pytest.mark.data
def test_human_labels_of_a_drive_are_a_teacher() -> None:
    path = DATA / "streams" / "camvid_0016E5_b.labels.npz"
    if not path.exists():
        pytest.skip(f"{DATA} is absent")
    found = precomputed_teacher(path, CAMVID11, 1.0).label(blank(2, 90, 120), [0.0, 143.0])
    assert set(np.unique(found)) <= {*range(11), IGNORE}
    assert (found[0] == CAMVID11.names.index("road")).mean() > 0.1
