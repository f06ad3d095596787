import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.edge.videos import tenths, write_video

from ams_common.classes import CAMVID11, IGNORE, STREET7, UInt8Array
from ams_common.errors import ConfigurationError
from ams_eval.inputs.frame_range import FrameRange
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.label_files import array_labels, image_labels, label_folder, mapped_values
from ams_eval.inputs.layouts import open_recordings
from ams_eval.inputs.recording import LabelSource

WHOLE = FrameRange(first=0, count=3, source_count=3, width=8, height=6)
PART = FrameRange(first=1, count=2, source_count=3, width=8, height=6)


def numbered(count: int = 3, height: int = 6, width: int = 8) -> UInt8Array:
    """Label maps that show the number of their frame everywhere."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, height, width)).copy()


def array_file(path: Path, labels: npt.NDArray[np.generic]) -> Path:
    np.savez_compressed(path, labels=labels)
    return path


def png_folder(folder: Path, labels: UInt8Array, names: str = "frame{}") -> Path:
    folder.mkdir(exist_ok=True)
    for number, each in enumerate(labels):
        Image.fromarray(each).save(folder / f"{names.format(number)}.png")
    return folder


def shown(source: LabelSource, count: int) -> list[int | None]:
    maps = [source.labels(index) for index in range(count)]
    return [None if each is None else int(each[0, 0]) for each in maps]


# --- arrays


def test_arrays_belong_to_the_frames_of_the_source(tmp_path: Path) -> None:
    path = array_file(tmp_path / "a.npz", numbered())
    assert shown(array_labels(path, STREET7, WHOLE), 3) == [0, 1, 2]
    assert shown(array_labels(path, STREET7, PART), 2) == [1, 2]
    uncounted = FrameRange(first=1, count=1, source_count=None, width=8, height=6)
    assert shown(array_labels(path, STREET7, uncounted), 1) == [1]
    assert shown(array_labels(path, STREET7, replace(uncounted, told_count=3)), 1) == [1]
    with pytest.raises(ConfigurationError, match="labels of 3 frames, and by its header the recording has 5"):
        array_labels(path, STREET7, replace(uncounted, told_count=5))


def test_numbers_that_are_no_class_are_ignored(tmp_path: Path) -> None:
    path = array_file(tmp_path / "a.npz", np.array([[[10, 11, 254, 255]]] * 3, np.uint8))
    frames = FrameRange(first=0, count=3, source_count=3, width=400, height=100)
    found = array_labels(path, CAMVID11, frames).labels(0)
    assert found is not None
    assert found.dtype == np.uint8
    assert found.tolist() == [[10, IGNORE, IGNORE, IGNORE]]


@pytest.mark.parametrize("count", [2, 4])
def test_arrays_of_another_number_of_frames_are_refused(tmp_path: Path, count: int) -> None:
    path = array_file(tmp_path / "a.npz", numbered(count))
    with pytest.raises(ConfigurationError, match=f"has labels of {count} frames, the recording has 3"):
        array_labels(path, STREET7, WHOLE)


@pytest.mark.parametrize(("height", "width"), [(6, 9), (12, 15), (8, 6), (3, 8)])
def test_arrays_of_another_shape_are_refused(tmp_path: Path, height: int, width: int) -> None:
    frames = FrameRange(first=0, count=3, source_count=3, width=80, height=60)
    path = array_file(tmp_path / "a.npz", numbered(height=height * 10, width=width * 10))
    with pytest.raises(ConfigurationError, match=f"are {width}0x{height}0, which is not the shape of frames of 80x60"):
        array_labels(path, STREET7, frames)


@pytest.mark.parametrize(("height", "width"), [(360, 480), (720, 960), (193, 257), (45, 60)])
def test_labels_may_have_another_size(tmp_path: Path, height: int, width: int) -> None:
    frames = FrameRange(first=0, count=3, source_count=3, width=480, height=360)
    array_labels(array_file(tmp_path / "a.npz", numbered(3, height, width)), STREET7, frames)


def test_a_damaged_array_is_one_error(tmp_path: Path) -> None:
    path = array_file(tmp_path / "a.npz", np.random.default_rng(0).integers(0, 7, (3, 60, 80), np.uint8))
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("labels.npy").compress_size
    content = bytearray(path.read_bytes())
    content[size // 2 : size // 2 + 500] = b"\xff" * 500
    path.write_bytes(content)
    source = array_labels(path, STREET7, WHOLE)
    with pytest.raises(ConfigurationError, match="are not usable"):
        source.labels(0)


def test_arrays_are_read_once_and_late(tmp_path: Path) -> None:
    path = array_file(tmp_path / "a.npz", numbered())
    source = array_labels(path, STREET7, WHOLE)
    source.labels(0)
    path.unlink()
    assert shown(source, 3) == [0, 1, 2]


# --- files


def test_files_in_order_belong_to_the_frames_of_the_source(tmp_path: Path) -> None:
    folder = png_folder(tmp_path / "labels", numbered(12) % 7)
    frames = FrameRange(first=1, count=11, source_count=12, width=8, height=6)
    assert shown(label_folder(folder, STREET7, frames), 11) == [1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4]


def test_files_of_the_same_name_belong_to_a_frame_and_may_be_missing(tmp_path: Path) -> None:
    folder = png_folder(tmp_path / "labels", numbered())
    (folder / "frame1.png").unlink()
    frame_files = [tmp_path / f"frame{number}.jpg" for number in range(3)]
    assert shown(label_folder(folder, STREET7, WHOLE, frame_files), 3) == [0, None, 2]
    assert shown(label_folder(folder, STREET7, PART, frame_files), 2) == [None, 2]


def test_files_of_other_names_must_be_as_many_as_frames(tmp_path: Path) -> None:
    folder = png_folder(tmp_path / "labels", numbered(4))
    frame_files = [tmp_path / f"picture{number}.jpg" for number in range(3)]
    with pytest.raises(ConfigurationError, match="has labels of 4 frames, the recording has 3"):
        label_folder(folder, STREET7, WHOLE, frame_files)
    (folder / "frame3.png").unlink()
    assert shown(label_folder(folder, STREET7, WHOLE, frame_files), 3) == [0, 1, 2]


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no PNG files"):
        label_folder(tmp_path, STREET7, WHOLE)


def test_files_of_another_shape_are_refused_at_once_or_when_they_come(tmp_path: Path) -> None:
    folder = png_folder(tmp_path / "labels", numbered())
    Image.fromarray(numbered(1, 40, 40)[0]).save(folder / "frame1.png")
    source = label_folder(folder, STREET7, WHOLE)
    assert source.labels(0) is not None
    with pytest.raises(ConfigurationError, match=r"frame1.png' are 40x40, which is not the shape of frames of 8x6"):
        source.labels(1)
    with pytest.raises(ConfigurationError, match=r"frame1.png' are 40x40"):
        label_folder(folder, STREET7, PART)


def test_numbers_can_be_mapped(tmp_path: Path) -> None:
    folder = png_folder(tmp_path / "labels", numbered())
    files = [folder / f"frame{number}.png" for number in range(3)]
    source = image_labels(files, STREET7, WHOLE, mapped_values({0: 6, 2: 1}))
    assert shown(source, 3) == [6, IGNORE, 1]


def test_digests_follow_content_classes_and_frames(tmp_path: Path) -> None:
    array = array_file(tmp_path / "a.npz", numbered())
    folder = png_folder(tmp_path / "labels", numbered())
    copy = png_folder(tmp_path / "copy", numbered())
    digests = {
        array_labels(array, STREET7, WHOLE).digest,
        array_labels(array, CAMVID11, WHOLE).digest,
        array_labels(array, STREET7, PART).digest,
        label_folder(folder, STREET7, WHOLE).digest,
        label_folder(folder, STREET7, PART).digest,
    }
    assert len(digests) == 5
    assert label_folder(copy, STREET7, WHOLE).digest in digests


# --- beside a video


def test_labels_beside_a_video_are_found(tmp_path: Path) -> None:
    video = write_video(tmp_path / "drive.mp4", tenths(4))
    config = InputConfig(label_classes="street7", start_s=0.2)
    (bare,) = open_recordings(video, config)
    assert bare.human is None
    png_folder(tmp_path / "drive.labels", numbered(4, 48, 64))
    (recording,) = open_recordings(video, config)
    assert recording.human is not None
    assert shown(recording.human, 2) == [2, 3]
    array_file(tmp_path / "drive.labels.npz", numbered(4, 24, 32)[::-1])
    (recording,) = open_recordings(video, config)
    assert recording.human is not None
    assert shown(recording.human, 2) == [1, 0]


def test_labels_of_unknown_meaning_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = write_video(tmp_path / "drive.mp4", tenths(2))
    array_file(tmp_path / "drive.labels.npz", numbered(2, 48, 64))
    (recording,) = open_recordings(video, InputConfig())
    assert recording.human is None
    assert "say with --label-classes what their numbers mean" in caplog.text


def test_labels_that_are_asked_for_must_be_there_and_have_a_meaning(tmp_path: Path) -> None:
    video = write_video(tmp_path / "drive.mp4", tenths(2))
    labels = array_file(tmp_path / "other.npz", numbered(2, 48, 64))
    with pytest.raises(ConfigurationError, match="needs --label-classes"):
        open_recordings(video, InputConfig(human_labels=labels))
    with pytest.raises(ConfigurationError, match="unknown class set 'street'"):
        open_recordings(video, InputConfig(human_labels=labels, label_classes="street"))
    with pytest.raises(ConfigurationError, match=r"none.npz' do not exist"):
        open_recordings(video, InputConfig(human_labels=tmp_path / "none.npz", label_classes="street7"))
    (recording,) = open_recordings(video, InputConfig(human_labels=labels, label_classes="street7"))
    assert recording.human is not None
    assert shown(recording.human, 2) == [0, 1]
