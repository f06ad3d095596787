"""Opens what a path names, in whatever layout it is: a video file or a folder of frames, with labels beside it."""

import logging
from dataclasses import replace
from pathlib import Path

from ams_common.classes import load_class_set
from ams_common.errors import ConfigurationError, SourceError
from ams_eval.inputs.frame_range import FrameRange
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.label_files import StoredLabels, array_labels, label_folder
from ams_eval.inputs.recording import Recording
from ams_eval.inputs.video import open_video

_log = logging.getLogger(__name__)


def open_recordings(path: Path, config: InputConfig) -> list[Recording]:
    """Return the recordings that `path` names, at least one.

    Raises:
        SourceError: there is nothing, or nothing that can be read.
        ConfigurationError: labels do not match the frames, or a setting does not fit.
    """
    if not path.exists():
        raise SourceError(f"there is no video or folder {str(path)!r}")
    return video_file(path, config)


def video_file(path: Path, config: InputConfig) -> list[Recording]:
    """Return the recording of a video file, with human labels where there are any.

    Raises:
        SourceError: the file cannot be read, or holds no video.
        ConfigurationError: labels do not match the frames, or a setting does not fit.
    """
    recording, frames = open_video(path, config)
    return [replace(recording, human=_human_labels(path, config, frames))]


def _human_labels(path: Path, config: InputConfig, frames: FrameRange) -> StoredLabels | None:
    labels = config.human_labels or _labels_beside(path)
    if labels is None:
        return None
    if config.label_classes:
        classes = load_class_set(config.label_classes)
        return label_folder(labels, classes, frames) if labels.is_dir() else array_labels(labels, classes, frames)
    if config.human_labels is not None:
        raise ConfigurationError(f"--human-labels {str(labels)!r} needs --label-classes: what do its numbers mean?")
    _log.warning("labels %s are left out: say with --label-classes what their numbers mean", labels)
    return None


def _labels_beside(path: Path) -> Path | None:
    places = (path.with_name(f"{path.stem}.labels.npz"), path.with_name(f"{path.stem}.labels"))
    return next((place for place in places if place.exists()), None)
