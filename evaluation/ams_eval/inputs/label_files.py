"""Labels on disk as a LabelSource: arrays in npz files, and PNG files.

Shapes: F frames, label maps H x W, which have the shape of the pictures but not always their size.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ams_common.classes import IGNORE, ClassSet, UInt8Array
from ams_common.errors import ConfigurationError, system_reason
from ams_edge.frame import Frame
from ams_eval.inputs.frame_range import FrameRange
from ams_eval.inputs.naming import in_natural_order
from ams_eval.inputs.pictures import read_picture
from ams_server.teachers.network import file_digest, identity_of
from ams_server.teachers.precomputed import label_array_shape, read_label_array, read_label_png

Colour: TypeAlias = tuple[int, int, int]
"""RGB in 0..255."""
ReadLabels: TypeAlias = Callable[[Path], UInt8Array]
"""Returns the label map, uint8 [H, W], in a file. Raises AmsError."""
MOST_STRANGE = 0.5
"""Largest part of a label image that may have colours of no class: pictures made by people have some."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredLabels:
    """A LabelSource that reads a label map when it is asked for."""

    classes: ClassSet
    digest: str
    read: Callable[[int], UInt8Array | None]
    """Returns the numbers on disk for the frame with an index, uint8 [H, W]; those that are no class become IGNORE."""

    def labels(self, frame_index: int) -> UInt8Array | None:
        """Return the labels, uint8 [H, W], of the frame with an index; None for a frame that has none.

        Raises:
            AmsError: they cannot be read.
        """
        found = self.read(frame_index)
        return None if found is None else np.where(found < len(self.classes), found, np.uint8(IGNORE))


def array_labels(path: Path, classes: ClassSet, frames: FrameRange) -> StoredLabels:
    """Return the labels in an npz file with `labels`, uint8 [F, H, W], one for each frame of the source.

    They are read when the first of them is asked for, and stay in memory.

    Raises:
        ConfigurationError: there is no such file, it holds something else, or F or the shape are not those of the frames.
    """
    count, height, width = label_array_shape(path)
    check_count(path, count, frames)
    check_shape(path, (height, width), frames)
    array = functools.cache(lambda: read_label_array(path))
    return StoredLabels(
        classes=classes,
        digest=identity_of("array", classes.names, file_digest(path), frames.first, frames.count),
        read=lambda index: array()[frames.first + index],
    )


def image_labels(
    files: Sequence[Path | None], classes: ClassSet, frames: FrameRange, read: ReadLabels = read_label_png
) -> StoredLabels:
    """Return the labels in one file for each frame that a recording has; None for a frame without labels.

    Raises:
        AmsError: a file cannot be read, or the first label map has not the shape of the frames.
    """
    assert len(files) == frames.count

    def checked(index: int) -> UInt8Array | None:
        """Return the label map of a frame, once it is seen to have its shape."""
        file = files[index]
        if file is None:
            return None
        labels = read(file)
        check_shape(file, labels.shape, frames)
        return labels

    first = next((index for index, file in enumerate(files) if file is not None), None)
    if first is not None:
        checked(first)
    return StoredLabels(classes=classes, digest=_files_digest(files, classes), read=checked)


def label_folder(
    folder: Path, classes: ClassSet, frames: FrameRange, frame_files: Sequence[Path] | None = None
) -> StoredLabels:
    """Return the labels in a folder of grey or palette PNG files.

    Where frames are files of their own, a label map has the name of its frame, and frames may have none. Otherwise there is one
    for each frame of the source, in the natural order of their names.

    Raises:
        ConfigurationError: there are no such files, or their number or shape is not that of the frames.
    """
    found = in_natural_order(folder.glob("*.png"))
    if not found:
        raise ConfigurationError(f"label folder {str(folder)!r} has no PNG files")
    by_stem = {file.stem: file for file in found}
    named = [by_stem.get(file.stem) for file in frame_files or ()]
    if any(named):
        return image_labels(named[frames.first : frames.end], classes, frames)
    check_count(folder, len(found), frames)
    return image_labels(found[frames.first : frames.end], classes, frames)


def mapped_values(values: Mapping[int, int]) -> ReadLabels:
    """Return a reader of PNG files whose numbers mean the labels `values`; others mean none."""
    table = np.full(256, IGNORE, np.uint8)
    for value, label in values.items():
        table[value] = label
    return lambda path: table[read_label_png(path)]


def mapped_colours(labels: Mapping[Colour, int]) -> ReadLabels:
    """Return a reader of colour pictures whose colours mean `labels`; others mean none.

    It raises ConfigurationError for a picture that is mostly of other colours, and SourceError for one that cannot be read.
    """
    known = np.sort(_packed(np.array(list(labels), np.uint32)))
    by_colour = {int(_packed(np.array(colour, np.uint32))): label for colour, label in labels.items()}
    table = np.array([by_colour[int(each)] for each in known], np.uint8)

    def read(path: Path) -> UInt8Array:
        """Return the label map, uint8 [H, W], that the colours of a picture mean."""
        colours = _packed(Frame(read_picture(path), index=0, capture_time_s=0.0).image.astype(np.uint32))
        places = np.minimum(np.searchsorted(known, colours), len(known) - 1)
        strange = known[places] != colours
        if strange.mean() > MOST_STRANGE:
            raise ConfigurationError(f"label image {str(path)!r} has other colours than those of its data set")
        return np.where(strange, np.uint8(IGNORE), table[places])

    return read


def _packed(colours: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return each colour, [..., 3], as one number."""
    return np.asarray(colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2], np.uint32)


def check_count(path: Path, count: int, frames: FrameRange) -> None:
    """See that `count` label maps are as many as the source has frames.

    Raises:
        ConfigurationError: they are not.
    """
    expected = frames.end if frames.source_count is None else frames.source_count
    if count < expected or (frames.source_count is not None and count != expected):
        raise ConfigurationError(f"{str(path)!r} has labels of {count} frames, the recording has {expected}")
    if frames.source_count is None and frames.told_count not in (0, count):
        raise ConfigurationError(
            f"{str(path)!r} has labels of {count} frames, and by its header the recording has {frames.told_count}: leave "
            "--duration-s out once to have them counted"
        )


def check_shape(path: Path, shape: tuple[int, ...], frames: FrameRange) -> None:
    """See that label maps of `shape` (H, W) show what the pictures show: the sides have the same ratio, rounding aside.

    Raises:
        ConfigurationError: they do not.
    """
    height, width = shape
    if abs(height * frames.width - width * frames.height) > max(frames.width, frames.height):
        raise ConfigurationError(
            f"labels {str(path)!r} are {width}x{height}, which is not the shape of frames of {frames.width}x{frames.height}"
        )


def _files_digest(files: Sequence[Path | None], classes: ClassSet) -> str:
    try:
        return identity_of("images", classes.names, *(file and file_digest(file) for file in files))
    except OSError as error:
        raise ConfigurationError(f"label image {str(error.filename)!r} cannot be read: {system_reason(error)}") from error
