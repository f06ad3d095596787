import wave
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.edge.videos import tenths, write_video

from ams_common.errors import SourceError
from ams_edge import media as media_module
from ams_edge.media import LONGEST_GAP_S, CaptureTimes, Media


def refusal(source: Path | str) -> str:
    with pytest.raises(SourceError) as caught:
        Media(str(source))
    message = str(caught.value)
    assert "\n" not in message
    return message


def count_pictures(media: Media) -> int:
    return sum(1 for _ in media.pictures())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "drive.mp4"
    assert refusal(path) == f"there is no video file '{path}'"


def test_a_camera_that_is_not_there_is_named() -> None:
    assert refusal("/dev/video99") == "there is no camera '/dev/video99'"


def test_a_device_that_is_no_camera_is_refused() -> None:
    assert refusal("/dev/null") == "cannot open '/dev/null' as a camera: inappropriate ioctl for device"


@pytest.mark.parametrize("content", [b"", bytes(100_000), b"\x00\x00\x00\x18ftypmp42" + bytes(2000)])
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "drive.mp4"
    path.write_bytes(content)
    assert refusal(path) == f"'{path}' is not a video"


def test_a_text_is_not_played_as_a_picture_of_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a video\n" * 100)
    assert refusal(path) == f"'{path}' holds no video"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"cannot open video '{tmp_path}': is a directory"


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as output:
        output.setparams((1, 2, 8000, 0, "NONE", ""))
        output.writeframes(bytes(16_000))
    assert refusal(path) == f"'{path}' holds no video"


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mp4", tenths(20))
    path.write_bytes(path.read_bytes()[:1500])
    assert refusal(path) == f"'{path}' is not a video"


def test_an_address_where_nobody_listens_is_refused_without_its_password() -> None:
    message = refusal("rtsp://admin:secret@127.0.0.1:9/stream")
    assert message == (
        "cannot open 'rtsp://***@127.0.0.1:9/stream': connection refused; is the address right, and is the camera on?"
    )


def test_an_unknown_kind_of_address_is_refused() -> None:
    assert "protocol not found" in refusal("carrier-pigeon://loft")


def test_a_file_is_a_recording_with_its_rate(tmp_path: Path) -> None:
    media = Media(str(write_video(tmp_path / "drive.mp4", tenths(7))))
    assert not media.live
    assert media.period_s == pytest.approx(0.1)
    assert count_pictures(media) == 7
    media.close()
    media.close()


def test_damaged_pictures_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video(tmp_path / "drive.mp4", tenths(20))
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in packets[10:12]:
        assert position is not None
        content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    media = Media(str(path))
    assert count_pictures(media) == 18
    media.close()
    assert "2 packets" in caplog.text


def test_pictures_beyond_the_largest_are_never_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_module, "LARGEST_PICTURE_PIXELS", 64 * 48 - 1)
    media = Media(str(write_video(tmp_path / "drive.mp4", tenths(3))))
    with pytest.raises(SourceError, match="broke off"):
        count_pictures(media)
    media.close()


@given(st.lists(st.none() | st.floats(-1e6, 1e6) | st.sampled_from([0.0, 0.1, 0.2]), min_size=1))
@example([0.0, 0.0, 0.0])
@example([5.0, None, 5.0])
@example([0.0, 95443.7, 0.1])
def test_capture_times_always_increase_from_zero(stamps_s: list[float | None]) -> None:
    times = CaptureTimes(0.1)
    times_s = np.array([times.next_s(stamp_s) for stamp_s in stamps_s])
    steps_s = np.diff(times_s)
    assert times_s[0] == 0
    assert np.all(steps_s > 0)
    assert np.all(steps_s <= LONGEST_GAP_S + 1e-6)
    assert len(set(np.round(times_s * 1e6))) == len(times_s)


@given(st.floats(-100, 1e5), st.lists(st.floats(0.001, 50), max_size=20))
def test_good_stamps_are_kept(start_s: float, steps_s: list[float]) -> None:
    stamps_s = start_s + np.concatenate([[0.0], np.cumsum(steps_s)])
    times = CaptureTimes(0.1)
    assert [times.next_s(float(stamp_s)) for stamp_s in stamps_s] == pytest.approx(stamps_s - start_s, abs=1e-6)


def test_after_a_joint_the_stamps_count_on_from_there() -> None:
    times = CaptureTimes(0.1)
    stamps_s = [10.0, 10.1, 10.2, 0.0, 0.1, 0.25, None, 0.45]
    assert [times.next_s(stamp_s) for stamp_s in stamps_s] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.55, 0.65, 0.75])
