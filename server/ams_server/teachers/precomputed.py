"""Labels made before, on disk, as a teacher: they are looked up by the time at which a frame was captured."""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
from av.error import FFmpegError

from ams_common.classes import IGNORE, ClassSet, UInt8Array
from ams_common.errors import ConfigurationError
from ams_server.teachers.network import file_digest, identity_of

MAX_BYTES = 4 << 30
"""Largest array of labels that is read into memory."""
MAX_PIXELS = 1 << 26
"""Largest label image."""
Labels: TypeAlias = Callable[[int], UInt8Array]
"""Returns the label map, uint8 [any, any], of a frame by its number."""
# NotImplementedError and RuntimeError: a way of compression that Python lacks, and an archive with a password.
_UNUSABLE = (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


@dataclass(frozen=True, kw_only=True)
class PrecomputedTeacher:
    """A Teacher that looks labels up; values that are not in `classes` become IGNORE."""

    classes: ClassSet
    identity: str
    labels: Labels
    count: int
    """Number of label maps."""
    rate_hz: float
    """Label maps per second of capture time; the first one belongs to time 0."""

    def label(self, images: UInt8Array, capture_times_s: Sequence[float]) -> UInt8Array:
        """Return uint8 [N, H, W]: the label map nearest in time to each frame of [N, H, W, 3], by nearest neighbour.

        Raises:
            ConfigurationError: a frame is more than one label period before the first or after the last label map.
        """
        labels = np.empty(images.shape[:3], np.uint8)
        for index, time_s in enumerate(capture_times_s):
            labels[index] = self._at(time_s, *images.shape[1:3])
        return labels

    def _at(self, time_s: float, height: int, width: int) -> UInt8Array:
        labels = self.labels(self._number(time_s))
        rows = (np.arange(height) * 2 + 1) * labels.shape[0] // (2 * height)
        columns = (np.arange(width) * 2 + 1) * labels.shape[1] // (2 * width)
        resized = labels[rows[:, None], columns]
        return np.where(resized < len(self.classes), resized, np.uint8(IGNORE))

    def _number(self, time_s: float) -> int:
        position = time_s * self.rate_hz
        if not -1 <= position <= self.count:
            last_s = (self.count - 1) / self.rate_hz
            raise ConfigurationError(
                f"no label for a frame at {time_s:g} s: labels at {self.rate_hz:g} Hz go from 0 to {last_s:g} s"
            )
        return min(max(round(position), 0), self.count - 1)


def precomputed_teacher(path: Path, classes: ClassSet, rate_hz: float) -> PrecomputedTeacher:
    """Return the teacher of an npz file with `labels`, uint8 [F, H, W], or of a folder of grey or palette PNG files.

    PNG files count in the order of their names.

    Raises:
        ConfigurationError: there is no such file or folder, or it holds something else.
    """
    if path.is_dir():
        files = sorted(path.glob("*.png"))
        if not files:
            raise ConfigurationError(f"label folder {str(path)!r} has no PNG files")
        stamps = [(each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in files]
        return _teacher(classes, rate_hz, lambda number: read_label_png(files[number]), len(files), *stamps)
    labels = read_label_array(path)
    return _teacher(classes, rate_hz, labels.__getitem__, len(labels), file_digest(path))


def _teacher(classes: ClassSet, rate_hz: float, labels: Labels, count: int, *content: object) -> PrecomputedTeacher:
    identity = identity_of("labels", classes.names, rate_hz, *content)
    return PrecomputedTeacher(classes=classes, identity=identity, labels=labels, count=count, rate_hz=rate_hz)


def label_array_shape(path: Path) -> tuple[int, int, int]:
    """Return the shape (F, H, W) of `labels`, uint8, in an npz file, without reading them.

    Raises:
        ConfigurationError: the file does not exist or holds no such array, or one of more than MAX_BYTES.
    """
    with _reading_array(path), zipfile.ZipFile(path) as archive, archive.open("labels.npy") as member:
        np.lib.format.read_magic(member)
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        if dtype != np.uint8 or len(shape) != 3 or 0 in shape:
            raise ValueError(f"`labels` is {dtype} {shape}, not uint8 [frames, height, width]")
        if np.prod(shape, dtype=object) > MAX_BYTES:
            raise ValueError(f"`labels` of shape {shape} is too large: use a folder of PNG files")
        frames, height, width = shape
        return frames, height, width


def read_label_array(path: Path) -> UInt8Array:
    """Return `labels`, uint8 [F, H, W], of an npz file.

    Raises:
        ConfigurationError: the file does not exist or holds no such array, or one of more than MAX_BYTES.
    """
    label_array_shape(path)
    with _reading_array(path), np.load(path, allow_pickle=False) as archive:
        labels: UInt8Array = archive["labels"]
        return labels


@contextmanager
def _reading_array(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ConfigurationError(f"labels {str(path)!r} do not exist") from error
    except _UNUSABLE as error:
        if path.is_file() and not zipfile.is_zipfile(path):
            raise ConfigurationError(
                f"labels {str(path)!r} are no npz file, and no pickle is ever read: write uint8 [frames, height, width] with "
                "numpy.savez_compressed(FILE, labels=array)"
            ) from error
        raise ConfigurationError(f"labels {str(path)!r} are not usable: {error}") from error


def read_label_png(path: Path) -> UInt8Array:
    """Return the grey values or palette indices, uint8 [H, W], of a PNG file.

    Raises:
        ConfigurationError: the file is no 8-bit PNG image with one channel, or larger than MAX_PIXELS.
    """
    try:
        with av.open(str(path), format="png_pipe") as container:
            stream = container.streams.video[0]
            if stream.width * stream.height > MAX_PIXELS:
                raise ValueError(f"{stream.width}x{stream.height} pixels are too many")
            frame = next(container.decode(stream))
    except (OSError, FFmpegError, ValueError, IndexError, StopIteration) as error:
        raise ConfigurationError(f"label image {str(path)!r} cannot be read: {error}") from error
    if frame.format.name not in ("gray", "pal8"):
        raise ConfigurationError(f"label image {str(path)!r} is {frame.format.name}, not 8-bit grey or palette")
    plane = frame.planes[0]
    rows = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]
