"""Opens what a camera setting names and decodes it in the calling thread; without pacing, queues or retries."""

import logging
import os
import re
import stat
from collections.abc import Iterator

import av
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.stream import Disposition
from av.video.stream import VideoStream

from ams_common.errors import SourceError, system_reason

OPEN_TIMEOUT_S = 10.0
"""A camera on a network answers within this time or counts as not there; waking cameras take several seconds."""
READ_TIMEOUT_S = 5.0
"""A stream on a network that is silent for this long is broken."""
LARGEST_PICTURE_PIXELS = 8192 * 8192
"""Pictures of a hostile stream are refused beyond this, before memory is taken."""
PLAYLIST_FORMATS = ("hls", "dash")
"""Formats whose address names a list of pieces: its length says nothing about an end."""
USUAL_RATE_HZ = 30.0
"""Taken where a file does not tell its rate, or tells one outside POSSIBLE_RATES_HZ, as broken files do."""
POSSIBLE_RATES_HZ = (0.01, 1000.0)
LONGEST_GAP_S = 60.0
"""A longer leap between two stamps is a broken stamp or a joint, not a pause."""
SHORTEST_GAP_S = 1e-4
"""Least time between two pictures; far above the microsecond that messages count in."""

_log = logging.getLogger(__name__)


class Media:
    """An open video stream."""

    def __init__(self, source: str) -> None:
        """Open `source`: the path of a video file or of a V4L2 device, or a URL.

        Raises:
            SourceError: there is no such thing, it does not answer, or it holds no video.
        """
        self.source = source
        self.name = _without_password(source)
        """The source as it may be shown to people and written to logs."""
        self._container = _open_container(source)
        try:
            self._stream = _video_stream(self._container, source)
        except SourceError:
            self._container.close()
            raise
        self.live = _is_live(source, self._container)
        """Whether pictures come when they happen; a recording, also one at a URL, waits to be read."""

    @property
    def period_s(self) -> float:
        """Nominal time between two pictures, in seconds."""
        rate_hz = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        lowest, highest = POSSIBLE_RATES_HZ
        return 1 / (rate_hz if lowest <= rate_hz <= highest else USUAL_RATE_HZ)

    def pictures(self) -> Iterator[av.VideoFrame]:
        """Yield the decoded pictures to the end; packets that cannot be decoded are left out and counted.

        Raises:
            SourceError: reading broke off.
        """
        damaged = 0
        try:
            for packet in self._container.demux(self._stream):
                try:
                    yield from self._stream.decode(packet)
                except InvalidDataError:
                    damaged += 1
        except (FFmpegError, OSError) as error:
            raise SourceError(f"reading {self.name!r} broke off: {system_reason(error)}") from error
        finally:
            if damaged:
                _log.warning("%d packets of %s were damaged and left out", damaged, self.name)

    def close(self) -> None:
        """Let go of the file, device or connection; not while another thread reads `pictures`."""
        self._container.close()


class CaptureTimes:
    """Turns media time stamps into capture times: from 0, strictly increasing, one nominal period where a stamp is no use."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._last_s: float | None = None
        self._shift_s = 0.0

    def next_s(self, stamp_s: float | None) -> float:
        """Return the capture time of the next picture, whose stamp in seconds may be missing.

        A stamp that stands still, goes back or leaps by over a minute starts a new count: it is taken as one period later.
        """
        if self._last_s is None:
            self._last_s, self._shift_s = 0.0, -(stamp_s or 0.0)
            return 0.0
        expected_s = self._last_s + self._period_s
        time_s = expected_s if stamp_s is None else stamp_s + self._shift_s
        if not SHORTEST_GAP_S <= time_s - self._last_s <= LONGEST_GAP_S:
            self._shift_s += expected_s - time_s
            time_s = expected_s
        self._last_s = time_s
        return time_s


def _open_container(source: str) -> InputContainer:
    try:
        return av.open(
            source,
            format="v4l2" if _is_device(source) else None,
            options={"rtsp_flags": "prefer_tcp"},
            metadata_errors="replace",
            timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S),
        )
    except (FFmpegError, OSError, ValueError) as error:
        raise SourceError(_refusal(source, error)) from error


def _video_stream(container: InputContainer, source: str) -> VideoStream:
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams or streams[0].codec_context is None or streams[0].codec_context.name == "ansi":  # text drawn as pictures
        raise SourceError(f"{_without_password(source)!r} holds no video")
    stream = streams[0]
    stream.thread_type = "NONE"  # threads over frames would deliver each picture some frames late
    stream.codec_context.options = {"max_pixels": str(LARGEST_PICTURE_PIXELS)}
    return stream


def _is_live(source: str, container: InputContainer) -> bool:
    if _is_device(source) or source.lower().startswith(("rtsp://", "rtsps://")):
        return True
    if not _is_url(source) or container.duration:
        return False
    return container.size <= 0 or container.format.name in PLAYLIST_FORMATS


def _refusal(source: str, error: Exception) -> str:
    if _is_url(source):
        return f"cannot open {_without_password(source)!r}: {system_reason(error)}; is the address right, and is the camera on?"
    if isinstance(error, FileNotFoundError):
        kind = "camera" if source.startswith("/dev/") else "video file"
        return f"there is no {kind} {source!r}"
    if isinstance(error, InvalidDataError):
        return f"{source!r} is not a video"
    if _is_device(source):
        return f"cannot open {source!r} as a camera: {system_reason(error)}"
    return f"cannot open video {source!r}: {system_reason(error)}"


def _without_password(source: str) -> str:
    return re.sub(r"://[^/]*@", "://***@", source)


def _is_url(source: str) -> bool:
    return "://" in source


def _is_device(source: str) -> bool:
    if _is_url(source) or not os.path.exists(source):
        return False
    return stat.S_ISCHR(os.stat(source).st_mode)
