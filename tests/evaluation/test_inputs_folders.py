from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.pictures import labelled_frames, numbers_shown, times_s, write_labels, write_picture

from ams_common.errors import AmsError, ConfigurationError, SourceError
from ams_edge.media import SHORTEST_GAP_S
from ams_eval.inputs.folders import frame_folder, open_frames, read_times_s
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.pictures import read_picture
from ams_eval.inputs.recording import Recording

AT_10_HZ = InputConfig(frame_rate_hz=10)


def folder_of(folder: Path, count: int, ending: str = "png") -> Path:
    for number in range(count):
        write_picture(folder / f"frame{number}.{ending}", number)
    return folder


def opened(folder: Path, config: InputConfig = AT_10_HZ) -> Recording:
    (recording,) = frame_folder(folder, config)
    return recording


def times_file(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", ["png", "jpg", "JPEG"])
def test_frames_come_in_natural_order_at_a_rate(tmp_path: Path, ending: str) -> None:
    recording = opened(folder_of(tmp_path / "drive", 12, ending))
    assert recording.name == "drive"
    assert recording.frame_count == 12
    assert numbers_shown(recording) == numbers_shown(recording) == list(range(12))
    assert times_s(recording) == pytest.approx(np.arange(12) / 10)


def test_pictures_keep_their_colours(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    (tmp_path / "drive").mkdir()
    Image.fromarray(image).save(tmp_path / "drive" / "50%d1.png")
    (frame,) = opened(tmp_path / "drive").frames()
    np.testing.assert_array_equal(frame.image, image)


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "drive", 2)
    (folder / "notes.txt").write_text("rain")
    assert opened(folder).frame_count == 2
    assert frame_folder(tmp_path, AT_10_HZ) == []


def test_times_come_from_a_file_by_place_or_by_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "drive", 3)
    by_place = times_file(tmp_path / "place.txt", "# seconds\n1700000000.5\n\n1700000000.75 # late\n1700000002\n")
    by_name = times_file(tmp_path / "name.txt", "frame2.png 9.5\nframe0.png 8\nframe1.png 8.25\n")
    assert times_s(opened(folder, InputConfig(timestamps=by_place))) == [0, 0.25, 1.5]
    assert times_s(opened(folder, InputConfig(timestamps=by_name))) == [0, 0.25, 1.5]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0\n1\n", "has 2 times for 3 frames"),
        ("", "has 0 times for 3 frames"),
        ("0\nx\n2\n", "'x' in .* is no time in seconds"),
        ("0\nnan\n2\n", "'nan' in .* is no time"),
        ("0\ninf\n2\n", "'inf' in .* is no time"),
        ("a.png 0\nb.png 1\nframe2.png 2\n", "has no time for frame 'frame0.png'"),
        ("frame0.png 0\nframe0.png 1\nframe2.png 2\n", "has no time for frame 'frame1.png'"),
        ("0\n2\n1\n", "frame 'frame2.png' is of 1.000000 s, the one before it of 2.000000 s"),
        ("0\n0\n1\n", "frame 'frame1.png' is of 0.000000 s"),
    ],
)
def test_times_that_do_not_fit_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    folder = folder_of(tmp_path / "drive", 3)
    with pytest.raises(AmsError, match=reason):
        opened(folder, InputConfig(timestamps=times_file(tmp_path / "times.txt", text)))


def test_times_closer_than_messages_can_tell_are_refused(tmp_path: Path) -> None:
    files = [write_picture(tmp_path / f"{number}.png", number) for number in range(2)]
    open_frames("drive", files, [0, SHORTEST_GAP_S], InputConfig())
    with pytest.raises(SourceError, match=r"'1.png' is of 0.000050 s"):
        open_frames("drive", files, [0, SHORTEST_GAP_S / 2], InputConfig())


def test_files_of_times_that_cannot_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="cannot read times from"):
        read_times_s(tmp_path / "none.txt", [])
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe1")
    with pytest.raises(ConfigurationError, match="cannot read times from"):
        read_times_s(tmp_path / "binary.txt", [])
    monkeypatch.setattr("ams_eval.inputs.folders.MOST_TIMES_BYTES", 2)
    with pytest.raises(ConfigurationError, match="too large for a file of times"):
        read_times_s(tmp_path / "binary.txt", [])


def test_a_folder_needs_either_a_rate_or_times(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "drive", 2)
    for config in (InputConfig(), InputConfig(frame_rate_hz=10, timestamps=tmp_path / "times.txt")):
        with pytest.raises(ConfigurationError, match="needs either --frame-rate-hz or --timestamps"):
            opened(folder, config)


def test_a_part_of_a_folder_has_its_labels(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "drive", 6)
    for number in (1, 3, 4):
        write_labels(tmp_path / "drive.labels" / f"frame{number}.png", [number])
    config = InputConfig(frame_rate_hz=10, start_s=0.25, duration_s=0.2, label_classes="street7")
    recording = opened(folder, config)
    assert numbers_shown(recording) == [3, 4]
    assert times_s(recording) == pytest.approx([0, 0.1])
    assert labelled_frames(recording) == [0, 1]
    assert labelled_frames(opened(folder, config.model_copy(update={"start_s": 0.0, "duration_s": None}))) == [1, 3, 4]
    with pytest.raises(ConfigurationError, match="has no frame from 3 s on"):
        opened(folder, InputConfig(frame_rate_hz=10, start_s=3))


def test_digests_follow_pictures_and_times(tmp_path: Path) -> None:
    first, same = folder_of(tmp_path / "a", 3), folder_of(tmp_path / "b", 3)
    assert opened(first).digest == opened(same).digest
    write_picture(same / "frame1.png", 7)
    digests = {
        opened(first).digest,
        opened(same).digest,
        opened(first, InputConfig(frame_rate_hz=5)).digest,
        opened(first, InputConfig(frame_rate_hz=10, duration_s=0.2)).digest,
    }
    assert len(digests) == 4


def test_frames_of_several_sizes_are_refused_where_they_come(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "drive", 2)
    write_picture(folder / "frame2.png", 2, width=20)
    frames = opened(folder).frames()
    assert [next(frames).index, next(frames).index] == [0, 1]
    with pytest.raises(SourceError, match=r"frame2.png' is 20x12, the first one 16x12"):
        next(frames)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_files_that_are_no_pictures_are_refused(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"bad.{ending}"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"picture '.*bad.{ending}' (is damaged|cannot be read)"):
        read_picture(path)


def test_missing_and_huge_pictures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="there is no picture"):
        read_picture(tmp_path / "none.png")
    path = write_picture(tmp_path / "a.png", 1)
    monkeypatch.setattr("ams_edge.media.LARGEST_PICTURE_PIXELS", 16 * 12 - 1)
    with pytest.raises(SourceError, match=r"is damaged|cannot be read"):
        read_picture(path)
