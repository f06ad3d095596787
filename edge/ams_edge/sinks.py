"""Where labelled pictures go: an overlay video, a folder of label maps, a window. None of them holds inference up."""

import contextlib
import csv
import logging
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.stream import VideoStream

from ams_common.classes import ClassSet
from ams_common.earlier_outputs import set_aside
from ams_common.errors import ConfigurationError, system_reason
from ams_common.settings import PartConfig
from ams_edge.frame import Frame
from ams_edge.overlay import ROW_PIXELS, draw_caption, draw_legend, draw_overlay, overlay_size
from ams_edge.picture import Picture
from ams_edge.window import WindowSink, check_display
from ams_edge.worker import Worker

WAITING_PICTURES = 8
"""Pictures that wait for a file to be written."""
VIDEO_CLOCK_HZ = 90_000
NOMINAL_RATE_HZ = 30
CODING = {"preset": "veryfast", "crf": "21", "bf": "0"}
"""Without B-frames a fragmented file starts at time 0; it cannot say that they delay its first picture."""
CONTAINERS = {
    ".mp4": ("mp4", {"movflags": "empty_moov+default_base_moof+frag_keyframe", "frag_duration": "1000000"}),
    ".mkv": ("matroska", {"cluster_time_limit": "1000"}),
}
"""Format and its options for each ending of an overlay video's name. The index of an MP4 file comes in pieces of a second
instead of at the end, and Matroska's clusters last as long, so that a file that was cut short plays."""
INDEX_NAME = "index.csv"
_LONGEST_HEAD = 200
"""Letters that are read of a file to know it for an index; it may be anything."""
COLUMNS = ("file", "frame_index", "capture_time_s", "version", "model_age_s")

_log = logging.getLogger(__name__)


class SinkConfig(PartConfig):
    """What to do with the labels."""

    overlay: Path | None = None
    """Write an H.264 video of the pictures with the labels drawn over them to this .mp4 or .mkv file; one that is there is
    kept as NAME-1 and so on."""
    labels: Path | None = None
    """Write each label map as a grey PNG to this folder, with an index of capture times, model versions and model ages; a
    folder with those of an earlier run is kept as NAME-1 and so on."""
    window: bool = False
    """Show the overlay in a window."""


class Sink(Protocol):
    """Takes labelled pictures."""

    def write(self, picture: Picture) -> None:
        """Take a picture, whose labels may be changed afterwards."""
        ...

    def close(self) -> None:
        """Write what is waiting and let go. May be called twice."""
        ...


class Recorder(Protocol):
    """Writes labelled pictures in the thread that calls it."""

    def record(self, picture: Picture) -> None:
        """Write one picture; may raise OSError or FFmpegError."""
        ...

    def close(self) -> None:
        """Complete the files."""
        ...


class FileSink:
    """A recorder behind a bounded queue, in a thread of its own.

    When the queue is full, `lossless` makes `write` wait; otherwise the oldest picture is dropped and counted. A recorder that
    fails, on a full disk for example, is left with one warning; later pictures go nowhere.
    """

    def __init__(self, name: str, recorder: Recorder, *, lossless: bool) -> None:
        self._name = name
        self._recorder = recorder
        self._worker: Worker[Picture] = Worker(name, self._record, capacity=WAITING_PICTURES)
        self._put = self._worker.put_waiting if lossless else self._worker.put_newest
        self._closed = False
        self._worker.start()

    @property
    def dropped(self) -> int:
        """Pictures that were left out because writing is slower than the camera."""
        return self._worker.dropped

    def write(self, picture: Picture) -> None:
        """Queue a picture, whose labels may be changed afterwards."""
        self._put(picture.copied())

    def _record(self, picture: Picture) -> None:
        try:
            self._recorder.record(picture)
        except OSError as error:
            _log.warning("%s has stopped: %s", self._name, system_reason(error))
            raise
        except Exception as error:
            _log.warning("%s has stopped: %s: %s", self._name, type(error).__name__, error)
            raise

    def close(self) -> None:
        """Write what is waiting and complete the files. May be called twice."""
        self._worker.stop()
        if self._closed or self._worker.alive:
            return
        self._closed = True
        if self.dropped:
            _log.info("%s: %d pictures were left out, writing is slower than the camera", self._name, self.dropped)
        try:
            self._recorder.close()
        except (OSError, FFmpegError) as error:
            if self._worker.failure is None:
                _log.warning("%s is not complete: %s", self._name, error)


class OverlayVideo:
    """An H.264 film of the overlays with their true times; whatever stops the process, what is in the file plays."""

    def __init__(self, path: Path, classes: ClassSet) -> None:
        """Create the file at `path`, whose name has an ending of CONTAINERS, with its folder.

        Raises:
            ConfigurationError: it cannot be written.
        """
        self._classes = classes
        self._palette = classes.palette()
        self._output = _Output(_create(path, "--overlay"))
        container, options = CONTAINERS[path.suffix.lower()]
        self._container = av.open(self._output, "w", format=container, options=options)
        self._stream: VideoStream | None = None
        self._legend = np.empty((0, 0, 3), np.uint8)

    def record(self, picture: Picture) -> None:
        """Draw and encode one picture; all are scaled to the size of the first."""
        frame = picture.frame
        stream = self._stream or self._start(frame)
        if picture.classes is not None and picture.classes != self._classes:
            self._change_classes(picture.classes)
        height = stream.height - self._legend.shape[0] - ROW_PIXELS
        drawn = draw_overlay(frame.rgb(stream.width, height), picture.labels, self._palette)
        caption = draw_caption(picture.version, picture.model_age_s, stream.width)
        encoded = av.VideoFrame.from_ndarray(np.vstack([drawn, self._legend, caption]), format="rgb24")
        encoded.pts = round(frame.capture_time_s * VIDEO_CLOCK_HZ)  # the muxer counts from the first
        encoded.time_base = Fraction(1, VIDEO_CLOCK_HZ)
        self._container.mux(stream.encode(encoded))
        self._output.check()

    def close(self) -> None:
        """Encode what the encoder holds back and complete the file."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()
        self._output.close()
        self._output.check()

    def _change_classes(self, classes: ClassSet) -> None:
        """Draw labels of another model; of its legend as many rows as the film has room for."""
        self._classes, self._palette = classes, classes.palette()
        rows, width, _ = self._legend.shape
        legend = draw_legend(classes, width)[:rows]
        self._legend = np.pad(legend, ((0, rows - len(legend)), (0, 0), (0, 0)))

    def _start(self, frame: Frame) -> VideoStream:
        width, height = overlay_size(frame.width, frame.height)
        self._legend = draw_legend(self._classes, width)
        stream = self._container.add_stream("libx264", rate=NOMINAL_RATE_HZ, options=CODING)
        stream.width, stream.height, stream.pix_fmt = width, height + self._legend.shape[0] + ROW_PIXELS, "yuv420p"
        stream.codec_context.time_base = Fraction(1, VIDEO_CLOCK_HZ)
        stream.codec_context.thread_count = 1  # the other cores are for inference
        self._stream = stream
        return stream


class _Output:
    """A file that keeps an error of the disk to itself until it is asked: the muxer would not survive it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write `data` to the disk at once, or forget it after an error."""
        if self._error is None:
            try:
                self._file.write(data)
                self._file.flush()
            except OSError as error:
                self._error = error
        return len(data)

    def check(self) -> None:
        """Raise the OSError that writing met, if any."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close the file; what could not be written is lost."""
        with contextlib.suppress(OSError):
            self._file.close()


class LabelFolder:
    """One PNG a picture, each pixel its label, named by the picture's index; and a table of times, versions and ages."""

    def __init__(self, folder: Path) -> None:
        """Create `folder` and its index.

        Raises:
            ConfigurationError: it cannot be written.
        """
        self._folder = folder
        path = _create(folder / INDEX_NAME, "--labels")
        self._file = path.open("w", encoding="utf-8", newline="", buffering=1)
        self._index = csv.writer(self._file)
        try:
            self._index.writerow(COLUMNS)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.close()
            raise ConfigurationError(f"cannot write --labels {str(path)!r}: {system_reason(error)}") from error

    def record(self, picture: Picture) -> None:
        """Write one label map and its line of the index."""
        frame = picture.frame
        name = f"{frame.index:06d}.png"
        _, data = cv2.imencode(".png", picture.labels)
        (self._folder / name).write_bytes(data.tobytes())
        age = "" if picture.model_age_s is None else f"{picture.model_age_s:.3f}"
        self._index.writerow([name, frame.index, f"{frame.capture_time_s:.6f}", picture.version, age])

    def close(self) -> None:
        """Close the index."""
        self._file.close()


def check_outputs(config: SinkConfig) -> None:
    """See early, before any model is here, that the outputs are possible.

    Raises:
        ConfigurationError: a path cannot be written, the overlay video has an unknown ending, the folder for labels holds
            other pictures, or there is no display.
    """
    if config.overlay is not None:
        if config.overlay.suffix.lower() not in CONTAINERS:
            known = " or ".join(CONTAINERS)
            raise ConfigurationError(f"cannot write --overlay {str(config.overlay)!r}: its name must end in {known}")
        _create(config.overlay, "--overlay")
    if config.labels is not None:
        _check_own(config.labels)
        _create(config.labels / INDEX_NAME, "--labels")
    if config.window:
        check_display()


def open_sinks(config: SinkConfig, classes: ClassSet, *, lossless: bool) -> tuple[Sink, ...]:
    """Open the sinks of `config`; `lossless` makes files wait for the disk instead of leaving pictures out.

    Raises:
        ConfigurationError: a path cannot be written, or there is no display.
    """
    sinks: list[Sink] = []
    try:
        if config.overlay is not None:
            _set_film_aside(config.overlay)
            sinks.append(FileSink("overlay video", OverlayVideo(config.overlay, classes), lossless=lossless))
        if config.labels is not None:
            _set_labels_aside(config.labels)
            sinks.append(FileSink("label folder", LabelFolder(config.labels), lossless=lossless))
        if config.window:
            sinks.append(WindowSink(classes))
    except ConfigurationError:
        for sink in sinks:
            sink.close()
        raise
    return tuple(sinks)


def _check_own(folder: Path) -> None:
    """Refuse a folder with other pictures than the labels of an earlier run, which can be set aside."""
    try:
        has_pictures = any(folder.glob("*.png"))
    except OSError:
        # Whoever writes to it says what is wrong with it.
        return
    if has_pictures and not _is_labelled(folder):
        raise ConfigurationError(f"--labels {str(folder)!r} holds other pictures: name a folder of its own")


def _is_labelled(folder: Path) -> bool:
    """Tell whether the folder was written by a LabelFolder."""
    try:
        with (folder / INDEX_NAME).open(encoding="utf-8", errors="replace") as file:
            return file.readline(_LONGEST_HEAD).strip() == ",".join(COLUMNS)
    except OSError:
        return False


def _set_film_aside(overlay: Path) -> None:
    path = overlay.resolve()
    if path.is_file() and path.stat().st_size > 0:
        set_aside(overlay, "--overlay")


def _set_labels_aside(folder: Path) -> None:
    _check_own(folder)
    if _is_labelled(folder):
        set_aside(folder, "--labels")


def _create(path: Path, flag: str) -> Path:
    """Create an empty file where there is none, and its folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(f"cannot write {flag} {str(path)!r}: its folder is a file") from error
    except OSError as error:
        raise ConfigurationError(f"cannot write {flag} {str(path)!r}: {system_reason(error)}") from error
    return path
