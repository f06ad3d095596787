from pathlib import Path

import numpy as np
import pytest
from tests.edge.videos import tenths, which, write_video
from tests.integration.real_inputs import STREAMS, require

from ams_common.clock import SystemClock
from ams_common.errors import ConfigurationError, SourceError
from ams_edge.camera import CameraConfig, open_camera
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.layouts import open_recordings
from ams_eval.inputs.video import open_video

UNEVEN_S = [0.0, 0.1, 0.25, 0.7, 0.8, 1.5, 1.6]


def times_of(path: Path, **settings: float) -> list[float]:
    recording, _ = open_video(path, InputConfig.model_validate(settings))
    frames = list(recording.frames())
    assert len(frames) == recording.frame_count
    assert [frame.index for frame in frames] == list(range(len(frames)))
    return [frame.capture_time_s for frame in frames]


def test_frames_are_those_of_the_edge(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mp4", UNEVEN_S)
    recording, _ = open_video(path, InputConfig())
    with open_camera(CameraConfig(source=str(path), fast=True), SystemClock()) as camera:
        for frame in recording.frames():
            seen = camera.read(10)
            assert seen is not None
            assert (frame.index, frame.capture_time_s) == (seen.index, seen.capture_time_s)
            np.testing.assert_array_equal(frame.image, seen.image)
        assert camera.read(10) is None
    assert recording.frame_count == len(UNEVEN_S)


def test_a_recording_can_be_gone_through_again(tmp_path: Path) -> None:
    recording, _ = open_video(write_video(tmp_path / "drive.mp4", tenths(5)), InputConfig())
    started = recording.frames()
    next(started)
    assert [which(frame) for frame in recording.frames()] == [0, 1, 2, 3, 4]
    assert [which(frame) for frame in started] == [1, 2, 3, 4]


def test_damaged_frames_do_not_count(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.ts", tenths(20), container="mpegts")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = b"\xff" * 400
    path.write_bytes(content)
    recording, frames = open_video(path, InputConfig())
    assert recording.frame_count == frames.source_count == sum(1 for _ in recording.frames())


def test_a_part_starts_at_index_0_and_0_s(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mp4", UNEVEN_S)
    recording, frames = open_video(path, InputConfig(start_s=0.2, duration_s=0.6))
    assert [which(frame) for frame in recording.frames()] == [2, 3]
    assert (frames.first, frames.end, frames.source_count) == (2, 4, None)
    assert times_of(path, start_s=0.2, duration_s=0.6) == pytest.approx([0, 0.45])
    assert times_of(path, start_s=0.7) == pytest.approx([0, 0.1, 0.8, 0.9])
    assert times_of(path, duration_s=0.25) == pytest.approx([0, 0.1])


def test_digests_tell_recordings_and_their_parts_apart(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mp4", tenths(5))
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(path.read_bytes())
    other = write_video(tmp_path / "other.mp4", tenths(6))
    whole, same, different = (open_video(each, InputConfig())[0].digest for each in (path, copy, other))
    part = open_video(path, InputConfig(duration_s=0.3))[0].digest
    assert whole == same == open_video(path, InputConfig(duration_s=9))[0].digest
    assert len({whole, different, part}) == 3


def test_labels_of_another_recording_are_refused_for_a_part_too(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", tenths(30))
    part = InputConfig(duration_s=0.5, human_labels=tmp_path / "labels.npz", label_classes="street7")
    for count, fits in ((30, True), (60, False)):
        np.savez(tmp_path / "labels.npz", labels=np.zeros((count, 48, 64), np.uint8))
        if fits:
            assert open_recordings(video, part)[0].human is not None
        else:
            with pytest.raises(ConfigurationError, match="labels of 60 frames, and by its header the recording has 30"):
                open_recordings(video, part)


def test_a_part_without_frames_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mp4", tenths(5))
    with pytest.raises(ConfigurationError, match=r"'drive.mp4' has no frame from 0.5 s on: use another --start-s"):
        open_video(path, InputConfig(start_s=0.5))
    with pytest.raises(ConfigurationError, match=r"no frame from 0.21 to 0.26 s"):
        open_video(path, InputConfig(start_s=0.21, duration_s=0.05))


@pytest.mark.parametrize("content", [b"", b"no video", bytes(100_000)])
def test_files_that_are_no_videos_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "drive.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"drive.mp4") as caught:
        open_recordings(path, InputConfig())
    assert "\n" not in str(caught.value)


def test_missing_files_and_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no video or folder '.*drive.mp4'"):
        open_recordings(tmp_path / "drive.mp4", InputConfig())
    with pytest.raises(SourceError, match="there is no video file '/dev/null'"):
        open_recordings(Path("/dev/null"), InputConfig())


def test_names_are_fit_for_files(tmp_path: Path) -> None:
    path = write_video(tmp_path / "Ödland, früh (2).mp4", tenths(2))
    assert open_video(path, InputConfig())[0].name == "dland-fr-h-2"


@pytest.mark.data
def test_a_real_drive_with_human_labels() -> None:
    path = STREAMS / "camvid_0016E5_b.mp4"
    require(path, path.with_name("camvid_0016E5_b.labels.npz"))
    (recording,) = open_recordings(path, InputConfig(label_classes="camvid11"))
    assert recording.name == "camvid_0016E5_b"
    assert recording.frame_count == 144
    assert recording.teacher is None
    assert recording.human is not None
    first, last = recording.human.labels(0), recording.human.labels(143)
    assert first is not None
    assert last is not None
    assert first.shape == last.shape == (360, 480)
    assert (first == recording.human.classes.names.index("road")).mean() > 0.1
    assert set(np.unique(first)) <= {*range(11), 255}
    times_s = [frame.capture_time_s for frame in recording.frames()]
    assert times_s == [float(second) for second in range(144)]
