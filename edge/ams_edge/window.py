"""A window that shows the overlay, through the Tk of Python's standard library, in a thread of its own."""

import gc
import logging
import os
import sys
import threading

import numpy as np

from ams_common.classes import ClassSet
from ams_common.errors import ConfigurationError
from ams_edge.bounded_queue import BoundedQueue
from ams_edge.frame import UInt8Array
from ams_edge.overlay import draw_caption, draw_legend, draw_overlay, overlay_size
from ams_edge.picture import Picture
from ams_edge.worker import lower_priority

TITLE = "Adaptive Model Streaming"
IDLE_S = 0.03
"""How often the window looks at mouse and keyboard while no picture comes."""
STOP_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class WindowSink:
    """Shows the newest overlay; one that waits when the next comes is dropped. Once a person closes it, it stays closed."""

    def __init__(self, classes: ClassSet) -> None:
        """Open the window.

        Raises:
            ConfigurationError: there is no display, or this Python has no Tk.
        """
        check_display()
        self._classes = classes
        self._palette = classes.palette()
        self._queue: BoundedQueue[Picture] = BoundedQueue(1)
        self._opened = threading.Event()
        self._refusal = ""
        self._thread = threading.Thread(target=self._run, name="window", daemon=True)
        self._thread.start()
        self._opened.wait()
        if self._refusal:
            raise ConfigurationError(self._refusal)

    @property
    def dropped(self) -> int:
        """Pictures that were not shown because newer ones came."""
        return self._queue.dropped

    @property
    def alive(self) -> bool:
        """Whether the window is open."""
        return self._thread.is_alive()

    def write(self, picture: Picture) -> None:
        """Show a picture, whose labels may be changed afterwards."""
        self._queue.put_newest(picture.copied())

    def close(self) -> None:
        """Close the window. May be called twice."""
        self._queue.finish()
        self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        lower_priority()
        try:
            self._show()
        except Exception as error:
            self._refusal = f"cannot open a window: {error}; leave out --window, or use --overlay"
            if self._opened.is_set():
                _log.warning("the window has closed: %s", error)
        finally:
            self._opened.set()
            self._queue.close()
            gc.collect()  # Tk aborts the process when its objects are freed by another thread

    def _show(self) -> None:
        import tkinter

        root = tkinter.Tk()
        root.title(TITLE)
        root.protocol("WM_DELETE_WINDOW", self._queue.close)
        panel = tkinter.Label(root, borderwidth=0)
        panel.pack()
        self._opened.set()
        while True:
            try:
                item = self._queue.take(IDLE_S)
            except TimeoutError:
                root.update()
                continue
            if item is None:
                break
            photo = tkinter.PhotoImage(master=root, data=_ppm(self._draw(item)), format="PPM")
            panel.configure(image=photo)
            root.update()
        root.destroy()

    def _draw(self, picture: Picture) -> UInt8Array:
        if picture.classes is not None and picture.classes != self._classes:
            self._classes, self._palette = picture.classes, picture.classes.palette()
        width, height = overlay_size(picture.frame.width, picture.frame.height)
        drawn = draw_overlay(picture.frame.rgb(width, height), picture.labels, self._palette)
        caption = draw_caption(picture.version, picture.model_age_s, width)
        return np.vstack([drawn, draw_legend(self._classes, width), caption])


def check_display() -> None:
    """See whether a window can be expected to open.

    Raises:
        ConfigurationError: it cannot; the message says why.
    """
    if sys.platform == "darwin":
        raise ConfigurationError("--window does not work on macOS, where only the main thread may draw: use --overlay")
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        raise ConfigurationError("--window needs a display and DISPLAY is not set: leave it out, or use --overlay")
    try:
        import tkinter
    except ImportError as error:
        raise ConfigurationError("--window needs Tk: install the package python3-tk, or use --overlay") from error
    del tkinter


def _ppm(image: UInt8Array) -> bytes:
    """Return RGB [height, width, 3] as the bytes of a portable pixmap, the format that every Tk reads."""
    height, width = image.shape[:2]
    return b"P6 %d %d 255\n" % (width, height) + image.tobytes()
