"""One captured picture with the time it was captured at."""

import functools
import threading

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

UInt8Array = npt.NDArray[np.uint8]
QUARTER_TURN_DEGREES = 90


class Frame:
    """One picture of the camera. Pixels are converted when they are asked for, and may be asked for from any thread."""

    def __init__(self, picture: av.VideoFrame | UInt8Array, *, index: int, capture_time_s: float) -> None:
        """Wrap a decoded picture, or uint8 RGB [height, width, 3].

        Raises:
            ValueError: the array is not uint8 [height, width, 3].
        """
        self._picture = picture if isinstance(picture, av.VideoFrame) else av.VideoFrame.from_ndarray(picture, format="rgb24")
        self.index = index
        """Position in the source's sequence of pictures, from 0; pictures that were dropped leave gaps."""
        self.capture_time_s = capture_time_s
        """Seconds on the capture clock: strictly increasing, from an arbitrary origin."""

    def at(self, *, index: int, capture_time_s: float) -> "Frame":
        """Return a frame of the same picture with another place in a sequence."""
        return Frame(self._picture, index=index, capture_time_s=capture_time_s)

    @property
    def capture_time_us(self) -> int:
        """Capture time in whole microseconds, as messages carry it."""
        return round(self.capture_time_s * 1_000_000)

    @property
    def width(self) -> int:
        """Width in pixels, as the picture is looked at."""
        return self._picture.height if self._quarter_turns % 2 else self._picture.width

    @property
    def height(self) -> int:
        """Height in pixels, as the picture is looked at."""
        return self._picture.width if self._quarter_turns % 2 else self._picture.height

    @property
    def image(self) -> UInt8Array:
        """The picture at full resolution, RGB [height, width, 3]; a new array each time."""
        return self.rgb(self.width, self.height)

    def rgb(self, width: int, height: int) -> UInt8Array:
        """Return the picture scaled to `width` x `height` pixels by area averaging, RGB [height, width, 3], a new array.

        A picture that a phone marked as turned comes upright.
        """
        turned = self._quarter_turns % 2
        target = (height, width) if turned else (width, height)
        scaled = _reformatter(threading.get_ident(), *target).reformat(
            self._picture, *target, format="rgb24", interpolation="AREA"
        )
        image = np.asarray(scaled.to_ndarray(), np.uint8)
        if scaled is self._picture:
            image = image.copy()  # nothing had to be converted, so this is a view of the picture itself
        return np.ascontiguousarray(np.rot90(image, self._quarter_turns)) if self._quarter_turns else image

    @property
    def _quarter_turns(self) -> int:
        return round(self._picture.rotation / QUARTER_TURN_DEGREES) % 4


@functools.lru_cache(maxsize=64)
def _reformatter(thread_id: int, width: int, height: int) -> VideoReformatter:
    """Keep one scaler for each thread and size: it sets up its tables once and must not be used by two threads at a time."""
    del thread_id, width, height
    return VideoReformatter()
