"""Labels that lie beside a video or a folder of frames, under a name made of its own."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ams_common.classes import LVS9, ClassSet, load_class_set
from ams_common.errors import ConfigurationError
from ams_eval.inputs.frame_range import FrameRange
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.label_files import StoredLabels, array_labels, label_folder

HUMAN, TEACHER = "labels", "teacher"
"""Second part of the names of label files: NAME.labels.npz, or the folder NAME.labels."""

_log = logging.getLogger(__name__)


def human_labels(
    path: Path, config: InputConfig, frames: FrameRange, frame_files: Sequence[Path] | None = None
) -> StoredLabels | None:
    """Return the labels that people made of the video or folder `path`; None where there are none of known meaning.

    `frame_files` are the frames of the source, where each is a file.

    Raises:
        AmsError: the labels cannot be read, or do not match the frames.
    """
    labels = config.human_labels or _beside(path, HUMAN)
    if labels is None:
        return None
    if config.label_classes:
        return _open(labels, load_class_set(config.label_classes), frames, frame_files)
    if config.human_labels is not None:
        raise ConfigurationError(f"--human-labels {str(labels)!r} needs --label-classes: what do its numbers mean?")
    _log.warning("labels %s are left out: say with --label-classes what their numbers mean", labels)
    return None


def teacher_labels(path: Path, config: InputConfig, frames: FrameRange) -> StoredLabels | None:
    """Return the teacher's labels beside the video `path`, by default those of LVS; None where there are none.

    Raises:
        AmsError: the labels cannot be read, or do not match the frames.
    """
    labels = _beside(path, TEACHER)
    if labels is None:
        return None
    return _open(labels, load_class_set(config.label_classes) if config.label_classes else LVS9, frames, None)


def _beside(path: Path, kind: str) -> Path | None:
    name = path.name if path.is_dir() else path.stem
    places = (path.with_name(f"{name}.{kind}.npz"), path.with_name(f"{name}.{kind}"))
    return next((place for place in places if place.exists()), None)


def _open(labels: Path, classes: ClassSet, frames: FrameRange, frame_files: Sequence[Path] | None) -> StoredLabels:
    if labels.is_dir():
        return label_folder(labels, classes, frames, frame_files)
    return array_labels(labels, classes, frames)
