"""Tiny picture and label files for tests of the layouts of data sets."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ams_eval.inputs.recording import LabelSource, Recording

WIDTH, HEIGHT = 16, 12


def write_picture(path: Path, number: int, *, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """Write a picture that is uniformly grey at level 10 * `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 10 * number, np.uint8)).save(path)
    return path


def write_labels(path: Path, rows: npt.ArrayLike) -> Path:
    """Write a label image of HEIGHT x WIDTH that has the values, or RGB colours, of `rows` from left to right."""
    values = np.asarray(rows, np.uint8)
    columns = np.arange(WIDTH) * len(values) // WIDTH
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(values[columns][None], HEIGHT, axis=0)).save(path)
    return path


def numbers_shown(recording: Recording) -> list[int]:
    """Return which pictures the frames show."""
    frames = list(recording.frames())
    assert [frame.index for frame in frames] == list(range(recording.frame_count))
    return [round(float(frame.image.mean()) / 10) for frame in frames]


def times_s(recording: Recording) -> list[float]:
    return [frame.capture_time_s for frame in recording.frames()]


def labelled_frames(recording: Recording) -> list[int]:
    """Return the indices of the frames that have human labels."""
    if recording.human is None:
        return []
    return [index for index in range(recording.frame_count) if recording.human.labels(index) is not None]


def names_in(source: LabelSource | None, frame_index: int) -> list[str]:
    """Return the names of the classes in a label map from left to right, runs as one, a dash where there is none."""
    assert source is not None
    labels = source.labels(frame_index)
    assert labels is not None
    assert labels.shape == (HEIGHT, WIDTH)
    row = [source.classes.names[label] if label < len(source.classes) else "-" for label in labels[0]]
    return [name for index, name in enumerate(row) if index == 0 or row[index - 1] != name]
