import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from tests.edge.videos import tenths, which, write_video
from tests.protocol_support import Mailbox

from ams_common.clock import ManualClock, SystemClock
from ams_common.errors import ConfigurationError, SourceError
from ams_edge import media as media_module
from ams_edge.camera import SILENT_S, Camera, CameraConfig, open_camera
from ams_edge.frame import Frame
from ams_edge.media import Media

STREAMS = Path(__file__).parents[2].parent / "shared" / "data" / "streams"
TIMEOUT_S = 10.0


def read_all(camera: Camera) -> list[Frame]:
    frames = []
    while (frame := camera.read(TIMEOUT_S)) is not None:
        frames.append(frame)
    return frames


def capture_thread() -> threading.Thread:
    return next(thread for thread in threading.enumerate() if thread.name == "capture")


def wait_for_end(camera: Camera) -> None:
    if camera.alive:
        capture_thread().join(TIMEOUT_S)
    assert not camera.alive


class GateClock(ManualClock):
    """A clock whose sleeps wait for permission, so that a test holds the camera's time."""

    def __init__(self) -> None:
        super().__init__()
        self._allowed_s = 0.0
        self._changed = threading.Condition()

    def sleep(self, duration_s: float) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.now_s() + duration_s <= self._allowed_s + 1e-6, TIMEOUT_S)
            super().sleep(duration_s)

    def allow_until(self, time_s: float) -> None:
        with self._changed:
            self._allowed_s = time_s
            self._changed.notify_all()


class ClosingClock(ManualClock):
    """A clock that closes the camera during the first sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.camera: Camera | None = None
        self.closer = threading.Thread(target=self._close)

    def sleep(self, duration_s: float) -> None:
        assert self.camera is not None
        self.closer.start()
        while not ended(self.camera):
            pass
        super().sleep(duration_s)

    def _close(self) -> None:
        assert self.camera is not None
        self.camera.close()


def ended(camera: Camera) -> bool:
    try:
        return camera.read(0.0) is None
    except TimeoutError:
        return False


@contextmanager
def serving(answer: Callable[[], bytes | None]) -> Iterator[str]:
    """Serve `answer` over HTTP without a length, as a camera does; None means to say nothing."""
    silence = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is given by the library
            body = answer()
            if body is None:
                silence.wait(TIMEOUT_S)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/stream"
    finally:
        silence.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_fast_hands_over_every_picture_with_its_media_time(tmp_path: Path) -> None:
    clock = ManualClock(50.0)
    config = CameraConfig(source=str(write_video(tmp_path / "drive.mp4", tenths(20))), fast=True)
    with open_camera(config, clock) as camera:
        frames = read_all(camera)
        assert camera.read(0.0) is None
    assert [which(frame) for frame in frames] == list(range(20))
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.capture_time_s for frame in frames] == pytest.approx(tenths(20))
    assert camera.dropped == 0
    assert not camera.alive
    assert clock.now_s() == 50.0


def test_fast_waits_for_its_reader(tmp_path: Path) -> None:
    config = CameraConfig(source=str(write_video(tmp_path / "drive.mp4", tenths(20))), fast=True)
    with open_camera(config, ManualClock()) as camera:
        camera.start()
        capture_thread().join(0.1)
        assert camera.alive
        assert [frame.index for frame in read_all(camera)] == list(range(20))


def test_at_its_own_pace_the_newest_picture_wins(tmp_path: Path) -> None:
    config = CameraConfig(source=str(write_video(tmp_path / "drive.mp4", tenths(20))))
    clock = ManualClock(50.0)
    with open_camera(config, clock) as camera:
        camera.start()
        wait_for_end(camera)
        frames = read_all(camera)
    assert [(which(frame), frame.index) for frame in frames] == [(19, 19)]
    assert camera.dropped == 19
    assert clock.now_s() == pytest.approx(51.9)


def test_a_recording_waits_for_its_first_reader_and_keeps_its_pace(tmp_path: Path) -> None:
    times_s = [0.0, 0.1, 0.15, 0.45]
    config = CameraConfig(source=str(write_video(tmp_path / "drive.mp4", times_s)))
    clock = GateClock()
    with open_camera(config, clock) as camera:
        clock.advance_to(7.0)
        for time_s in times_s:
            clock.allow_until(7.0 + time_s)
            frame = camera.read(TIMEOUT_S)
            assert frame is not None
            assert frame.capture_time_s == pytest.approx(time_s)
            assert clock.now_s() == pytest.approx(7.0 + time_s)
            assert time_s == times_s[-1] or not ended(camera)
        assert camera.read(TIMEOUT_S) is None
        assert camera.dropped == 0


def test_broken_stamps_are_repaired_from_the_frame_rate(tmp_path: Path) -> None:
    path = tmp_path / "bare.h264"
    write_video(path, tenths(10), container="h264")  # a bare stream has no time stamps
    with open_camera(CameraConfig(source=str(path), fast=True), ManualClock()) as camera:
        times_s = [frame.capture_time_s for frame in read_all(camera)]
    assert len(times_s) == 10
    assert times_s[0] == 0
    assert np.diff(times_s) == pytest.approx(np.full(9, times_s[1]))


def test_closing_ends_a_full_queue_and_may_be_done_twice(tmp_path: Path) -> None:
    config = CameraConfig(source=str(write_video(tmp_path / "drive.mp4", tenths(20))), fast=True)
    camera = open_camera(config, ManualClock())
    assert camera.read(TIMEOUT_S) is not None
    camera.close()
    camera.close()
    assert not camera.alive
    assert camera.read(0.0) is None


def test_closing_ends_a_long_pause(tmp_path: Path) -> None:
    config = CameraConfig(source=str(write_video(tmp_path / "slides.mp4", [0.0, 50.0])))
    clock = ClosingClock()
    clock.camera = open_camera(config, clock)
    clock.camera.start()
    wait_for_end(clock.camera)
    clock.closer.join(TIMEOUT_S)
    assert not clock.closer.is_alive()
    assert clock.now_s() <= 0.1


def test_closing_before_the_first_read_lets_the_file_go(tmp_path: Path) -> None:
    config = CameraConfig(source=str(write_video(tmp_path / "drive.mp4", tenths(3))))
    with open_camera(config, ManualClock()) as camera:
        pass
    assert camera.read(0.0) is None


@pytest.mark.parametrize("error", [SourceError("reading broke off"), MemoryError("reading broke off: no room")])
def test_a_break_in_a_recording_reaches_the_reader_after_the_pictures_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    whole = Media.pictures

    def broken(media: Media) -> Iterator[av.VideoFrame]:
        pictures = whole(media)
        yield next(pictures)
        yield next(pictures)
        raise error

    monkeypatch.setattr(Media, "pictures", broken)
    config = CameraConfig(source=str(write_video(tmp_path / "drive.mp4", tenths(9))), fast=True)
    with open_camera(config, ManualClock()) as camera:
        assert [which(frame) for frame in (camera.read(TIMEOUT_S), camera.read(TIMEOUT_S)) if frame] == [0, 1]
        for _ in range(2):
            with pytest.raises(type(error), match="broke off"):
                camera.read(TIMEOUT_S)
    assert not camera.alive


def test_a_file_without_a_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pictures(media: Media) -> Iterator[av.VideoFrame]:
        return iter(())

    monkeypatch.setattr(Media, "pictures", no_pictures)
    path = write_video(tmp_path / "drive.mp4", tenths(2))
    with pytest.raises(SourceError, match=r"no picture of '.*drive.mp4' can be decoded"):
        open_camera(CameraConfig(source=str(path)), ManualClock())


def test_a_missing_source_fails_at_once() -> None:
    with pytest.raises(SourceError, match="there is no camera '/dev/video99'"):
        open_camera(CameraConfig(source="/dev/video99"), ManualClock())


def test_a_silent_address_fails_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_module, "OPEN_TIMEOUT_S", 0.2)
    with serving(lambda: None) as address, pytest.raises(SourceError, match="cannot open 'http"):
        open_camera(CameraConfig(source=address), ManualClock())


def test_a_live_source_that_breaks_is_opened_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stream = write_video(tmp_path / "live.ts", tenths(5), container="mpegts").read_bytes()
    clock = ManualClock(1000.0)
    opened = threading.Semaphore(0)
    go_on = threading.Semaphore(1)

    def answer() -> bytes | None:
        opened.release()
        assert go_on.acquire(timeout=TIMEOUT_S)
        return stream

    with serving(answer) as address, open_camera(CameraConfig(source=address), clock) as camera:
        first = camera.read(TIMEOUT_S)
        go_on.release()
        for _ in range(3):
            assert opened.acquire(timeout=TIMEOUT_S)
        second = camera.read(TIMEOUT_S)
        go_on.release(1000)
        camera.close()
    assert not camera.alive
    assert first is not None
    assert second is not None
    assert 1000.0 <= first.capture_time_s < second.capture_time_s
    assert second.capture_time_s >= 1000.5
    assert first.index < 5 <= second.index
    assert "trying to open it again" in caplog.text


def test_a_live_source_that_ends_at_once_is_opened_more_and_more_seldom(tmp_path: Path) -> None:
    stream = write_video(tmp_path / "live.ts", tenths(5), container="mpegts").read_bytes()
    clock, opened_s = ManualClock(1000.0), Mailbox()

    def answer() -> bytes | None:
        opened_s.put(clock.now_s())
        return stream

    with serving(answer) as address, open_camera(CameraConfig(source=address), clock) as camera:
        opened_s.wait_count(float, 6)
        camera.close()
    waits_s = np.diff(cast("list[float]", opened_s.items[:6]))
    assert waits_s == pytest.approx([0.5, 1.0, 2.0, 5.0, 5.0], abs=0.1)


def test_a_live_source_that_is_silent_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ams_edge.camera")
    media, clock = Media(str(write_video(tmp_path / "drive.mp4", tenths(5)))), ManualClock(3.0)
    media.live = True
    with Camera(media, clock, fast=False) as camera:
        monkeypatch.setattr(camera, "start", lambda: None)
        for waited_s in (0.0, SILENT_S - 1.0, 1.0, 1.0):
            clock.sleep(waited_s)
            with pytest.raises(TimeoutError):
                camera.read(0.001)
        assert caplog.messages == [f"no picture has come from {media.name} for 10 s"]
        camera._queue.put_newest(Frame(np.zeros((2, 2, 3), np.uint8), index=0, capture_time_s=3.0))
        assert camera.read(TIMEOUT_S) is not None
        assert caplog.messages[1:] == [f"pictures come from {media.name} again"]


def test_times_of_a_live_source_increase_while_the_clock_stands(tmp_path: Path) -> None:
    media = Media(str(write_video(tmp_path / "drive.mp4", tenths(5))))
    media.live = True
    with Camera(media, ManualClock(3.0), fast=True) as camera:
        frames = [camera.read(TIMEOUT_S) for _ in range(12)]
    times_us = [frame.capture_time_us for frame in frames if frame is not None]
    assert times_us[0] == 3_000_000
    assert len(set(times_us)) == 12
    assert times_us == sorted(times_us)
    assert times_us[4] == 3_000_000 + 400
    assert times_us[5] == 3_500_000


def test_fast_is_for_recordings(tmp_path: Path) -> None:
    stream = write_video(tmp_path / "live.ts", tenths(5), container="mpegts").read_bytes()
    with serving(lambda: stream) as address, pytest.raises(ConfigurationError, match="--fast plays recordings"):
        open_camera(CameraConfig(source=address, fast=True), ManualClock())


def test_a_recording_at_an_address_is_played_like_a_file(tmp_path: Path) -> None:
    recording = write_video(tmp_path / "drive.mp4", tenths(5)).read_bytes()
    with serving(lambda: recording) as address:
        media = Media(address)
        assert not media.live
        media.close()


@pytest.mark.data
@pytest.mark.skipif(not STREAMS.is_dir(), reason="needs the real video of ../shared/data")
@pytest.mark.parametrize(
    ("name", "size", "period_s", "count"), [("kitti_drive", (1242, 374), 0.1, 91), ("intel_one_by_one", (768, 432), 0.1, 1394)]
)
def test_real_video_is_read_whole(name: str, size: tuple[int, int], period_s: float, count: int) -> None:
    with open_camera(CameraConfig(source=str(STREAMS / f"{name}.mp4"), fast=True), SystemClock()) as camera:
        times_s = []
        while (frame := camera.read(TIMEOUT_S)) is not None:
            assert (frame.width, frame.height) == size
            times_s.append(frame.capture_time_s)
            if frame.index % 100 == 0:
                assert frame.rgb(512, 256).std() > 10
    assert len(times_s) == count
    assert np.diff(times_s) == pytest.approx(np.full(count - 1, period_s), abs=1e-3)
