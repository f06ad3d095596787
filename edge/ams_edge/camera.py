"""The camera: a thread that decodes, and hands the newest picture to whoever asks."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from types import TracebackType

import av

from ams_common.clock import Clock
from ams_common.errors import AmsError, ConfigurationError, SourceError
from ams_common.settings import PartConfig
from ams_edge.bounded_queue import BoundedQueue
from ams_edge.frame import Frame
from ams_edge.media import OPEN_TIMEOUT_S, SHORTEST_GAP_S, CaptureTimes, Media

AHEAD_FRAMES = 4
"""Pictures that `fast` decodes ahead of inference: enough to keep both busy."""
NAP_S = 0.1
"""Longest single sleep, so that a camera closes promptly while it waits."""
RETRY_S = (0.5, 1.0, 2.0, 5.0)
"""Waits before a broken live stream is opened again; the last one repeats."""
STEADY_S = 10.0
"""After a break, waits are the first ones again for a stream that has gone on for so long."""
SILENT_S = 10.0
"""A live source that gives no picture for so long is told of, since its driver may hang without an error."""
LONGEST_CLOSE_S = OPEN_TIMEOUT_S + 1.0
"""A close waits this long for a network or device that is being opened or read to give up."""

_log = logging.getLogger(__name__)


class CameraConfig(PartConfig):
    """Where pictures come from."""

    source: str
    """Video file, V4L2 device such as /dev/video0, or rtsp:// or http:// address."""
    fast: bool = False
    """Play a recording as fast as every frame can be worked on, instead of at its own pace."""


class Camera:
    """An open source that decodes in a thread of its own; a context manager.

    A recording starts to play at the first `read`, a live source at once. Where pictures come at their own pace, one of them
    waits and the newest wins; with `fast` every one is handed over. A live source that breaks is opened again, for as long
    as it takes; a recording ends.
    """

    def __init__(self, media: Media, clock: Clock, *, fast: bool) -> None:
        """Take `media` over and decode its first picture.

        Raises:
            SourceError: nothing can be decoded.
        """
        self._media = media
        self.live = media.live
        """Whether the source goes on by itself, and does not end."""
        self._clock = clock
        self._fast = fast
        self._decoded = media.pictures()
        self._first = next(self._decoded, None)
        if self._first is None:
            raise SourceError(f"no picture of {media.name!r} can be decoded")
        self._times = CaptureTimes(media.period_s)
        self._last_live_s = 0.0
        self._silent = False
        self._opened_s = self._read_s = clock.now_s()
        self._tries = 0
        """Openings since the stream was steady."""
        self._queue: BoundedQueue[Frame] = BoundedQueue(AHEAD_FRAMES if fast else 1)
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    @property
    def dropped(self) -> int:
        """Pictures that nobody took in time."""
        return self._queue.dropped

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next picture; None after the last one and after `close`.

        Raises:
            SourceError: the recording broke off; pictures from before the break are returned first.
            Exception: whatever else has ended the thread, after the pictures from before.
            TimeoutError: no picture came within `timeout_s` seconds; a live source may be away and come back.
        """
        self.start()
        try:
            frame = self._queue.take(timeout_s)
        except TimeoutError:
            self._tell(silent=self.live and self._clock.now_s() - self._read_s >= SILENT_S)
            raise
        if frame is not None:
            self._read_s = self._clock.now_s()
            self._tell(silent=False)
        elif self._failure is not None:
            raise self._failure
        return frame

    def _tell(self, *, silent: bool) -> None:
        """Say so where the source has become silent, and where it is no more."""
        if silent and not self._silent:
            _log.warning("no picture has come from %s for %g s", self._media.name, SILENT_S)
        elif self._silent and not silent:
            _log.info("pictures come from %s again", self._media.name)
        self._silent = silent

    def start(self) -> None:
        """Start to play; has no effect a second time or after `close`."""
        if self._thread.ident is None and not self._stopping.is_set():
            self._thread.start()

    def close(self) -> None:
        """Stop the thread, see it end and let go of the source. May be called twice."""
        self._stopping.set()
        self._queue.close()
        if self._thread.ident is None:
            self._media.close()
            return
        self._thread.join(LONGEST_CLOSE_S)
        if self._thread.is_alive():
            _log.warning("%s does not let go after %g s: its driver hangs", self._media.name, LONGEST_CLOSE_S)

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._play()
        except Exception as error:
            self._failure = error
        finally:
            self._queue.finish()
            self._media.close()

    def _play(self) -> None:
        started_s = self._clock.now_s()
        put = self._queue.put_waiting if self._fast else self._queue.put_newest
        for index, picture in enumerate(self._pictures()):
            capture_time_s = self._capture_time_s(picture)
            if not (self._fast or self.live):
                self._sleep_until(started_s + capture_time_s)
            if self._stopping.is_set():
                return
            put(Frame(picture, index=index, capture_time_s=capture_time_s))

    def _pictures(self) -> Iterator[av.VideoFrame]:
        """Yield what the source shows, across breaks if it is live."""
        assert self._first is not None
        yield self._first
        if not self.live:
            yield from self._decoded
            return
        while not self._stopping.is_set():
            try:
                yield from self._decoded
                _log.warning("%s has ended; trying to open it again", self._media.name)
            except SourceError as error:
                _log.warning("%s; trying to open it again", error)
            self._reopen()

    def _reopen(self) -> None:
        """Open the live source again, or return without when the camera is closed."""
        self._media.close()
        if self._clock.now_s() - self._opened_s >= STEADY_S:
            self._tries = 0
        while True:
            self._sleep_until(self._clock.now_s() + RETRY_S[min(self._tries, len(RETRY_S) - 1)])
            self._tries += 1
            if self._stopping.is_set():
                return
            with contextlib.suppress(SourceError):
                self._media = Media(self._media.source)
                self._decoded = self._media.pictures()
                self._opened_s = self._clock.now_s()
                return

    def _capture_time_s(self, picture: av.VideoFrame) -> float:
        if not self.live:
            return self._times.next_s(picture.time)
        self._last_live_s = max(self._clock.now_s(), self._last_live_s + SHORTEST_GAP_S)
        return self._last_live_s

    def _sleep_until(self, due_s: float) -> None:
        while not self._stopping.is_set() and (left_s := due_s - self._clock.now_s()) > 0:
            self._clock.sleep(min(left_s, NAP_S))


def open_camera(config: CameraConfig, clock: Clock) -> Camera:
    """Open the source of `config` and decode its first picture.

    Raises:
        SourceError: there is no such file, device or stream, it does not answer, or it holds no video.
        ConfigurationError: `fast` with a live source.
    """
    media = Media(config.source)
    try:
        if config.fast and media.live:
            raise ConfigurationError(f"--fast plays recordings, and {media.name!r} is live: leave it out")
        camera = Camera(media, clock, fast=config.fast)
    except AmsError:
        media.close()
        raise
    if media.live:
        camera.start()
    return camera
