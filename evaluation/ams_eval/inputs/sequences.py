"""Data sets whose files carry the sequence and the number of a frame in their names."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ams_common.classes import ClassSet
from ams_eval.inputs.folders import open_frames
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.label_files import ReadLabels, image_labels
from ams_eval.inputs.recording import Recording


class NumberedFrame(NamedTuple):
    """A picture file with its number at the rate of the camera."""

    number: int
    file: Path


class DataSetLabels(NamedTuple):
    """The labels of a data set."""

    classes: ClassSet
    read: ReadLabels
    file_of: Callable[[Path], Path]
    """Returns where the labels of a picture are, if it has some."""


def frames_by_sequence(pattern: re.Pattern[str], files: Iterable[Path]) -> dict[str, list[NumberedFrame]]:
    """Return the files whose names match, by the group `sequence` of the pattern, ordered by its group `frame`."""
    found: dict[str, list[NumberedFrame]] = {}
    for file in files:
        if match := pattern.fullmatch(file.name):
            found.setdefault(match["sequence"], []).append(NumberedFrame(int(match["frame"]), file))
    return {sequence: sorted(found[sequence]) for sequence in sorted(found)}


def open_sequences(
    sequences: Mapping[str, list[NumberedFrame]], rate_hz: float, labels: DataSetLabels, config: InputConfig
) -> list[Recording]:
    """Return a recording for each sequence of more than one frame, numbers that are missing being gaps in time.

    Raises:
        AmsError: a picture or its labels cannot be read or do not match, or `config` takes no frame of a sequence.
    """
    return [
        open_labelled(name, [frame.file for frame in frames], [frame.number / rate_hz for frame in frames], labels, config)
        for name, frames in sequences.items()
        if len(frames) > 1
    ]


def open_labelled(name: str, files: list[Path], times_s: list[float], labels: DataSetLabels, config: InputConfig) -> Recording:
    """Return the recording of picture files taken at `times_s`, with the labels of those that have some.

    Raises:
        AmsError: a picture or its labels cannot be read or do not match, or `config` takes no frame.
    """
    recording, frames = open_frames(name, files, times_s, config)
    label_files = [labels.file_of(file) for file in files[frames.first : frames.end]]
    existing = [file if file.is_file() else None for file in label_files]
    if not any(existing):
        return recording
    return replace(recording, human=image_labels(existing, labels.classes, frames, labels.read))
