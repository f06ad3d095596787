"""A film of what a scheme showed: its labels over the pictures, beside those of the teacher where there are any."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import cv2
import numpy as np
from av.error import FFmpegError

from ams_common.classes import IGNORE, ClassSet, UInt8Array
from ams_common.errors import ConfigurationError, system_reason
from ams_edge.frame import Frame
from ams_edge.overlay import BACKGROUND, FONT, FONT_SCALE, INK
from ams_edge.picture import Picture
from ams_edge.sinks import OverlayVideo
from ams_eval.replay.device import Shown
from ams_eval.scores import at_size_of

PANEL_WIDTH = 640
"""Width of one picture of the film in pixels; narrower ones stay as they are."""
_TITLE_PIXELS = 22


class View(NamedTuple):
    """One side of the film."""

    title: str
    labels: UInt8Array
    """uint8 [h, w] at any size, in the classes of the film; 255 stays untinted."""


class OverlayWriter:
    """Writes an H.264 film of labelled pictures with their true times; whatever stops the process, what is there plays.

    To be used with `with`, or closed.
    """

    def __init__(self, path: Path, classes: ClassSet) -> None:
        """Create the .mp4 file at `path`, with its folder.

        Raises:
            ConfigurationError: it cannot be written.
        """
        self._path = path
        self._video = OverlayVideo(path, classes)

    def write(self, shown: Shown, views: Sequence[View]) -> None:
        """Add the picture of `shown`, once for each of `views`, as many for every picture, side by side, and its model below.

        Raises:
            ConfigurationError: it cannot be written.
        """
        try:
            self._video.record(side_by_side(shown, views))
        except (OSError, FFmpegError) as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Complete the file.

        Raises:
            ConfigurationError: it cannot be written.
        """
        try:
            self._video.close()
        except (OSError, FFmpegError) as error:
            raise self._failed(error) from error

    def __enter__(self) -> "OverlayWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _failed(self, error: OSError | FFmpegError) -> ConfigurationError:
        return ConfigurationError(f"cannot write the overlay video {str(self._path)!r}: {system_reason(error)}")


def side_by_side(shown: Shown, views: Sequence[View]) -> Picture:
    """Return one wide picture with all views, each under its title, one label map for all of it, and the model of `shown`."""
    frame = shown.frame
    width = min(PANEL_WIDTH, frame.width)
    height = round(width * frame.height / frame.width)
    picture = frame.rgb(width, height)
    panels = [np.vstack([_title(view.title, width), picture]) for view in views]
    bare = np.full((_TITLE_PIXELS, width), IGNORE, np.uint8)
    labels = [np.vstack([bare, at_size_of(picture[..., 0], view.labels)]) for view in views]
    wide = Frame(np.ascontiguousarray(np.hstack(panels)), index=frame.index, capture_time_s=frame.capture_time_s)
    newest_s = shown.newest_capture_s
    model_age_s = None if newest_s is None else frame.capture_time_s - newest_s
    return Picture(wide, np.ascontiguousarray(np.hstack(labels)), shown.version, model_age_s)


def _title(text: str, width: int) -> UInt8Array:
    strip = np.full((_TITLE_PIXELS, width, 3), BACKGROUND, np.uint8)
    cv2.putText(strip, text, (8, _TITLE_PIXELS - 7), FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)
    return strip
