"""LVS, or any folder of videos.

    SEQUENCE/SEGMENT.mp4, with the teacher's labels in SEGMENT.teacher.npz or the folder SEGMENT.teacher of PNG files

Each video is a recording. LVS comes with the detections of Mask R-CNN as pickled arrays, detectron_..._SEGMENT.npy. These are
never read, because a pickle can run any program: they have to be drawn as label maps with the numbers of the class set lvs9,
for which docs/evaluation.md has a program.
"""

import logging
from pathlib import Path

from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.naming import in_natural_order
from ams_eval.inputs.recording import Recording
from ams_eval.inputs.video import video_file

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm"})
"""Endings of the names of video files, in lower case."""

_log = logging.getLogger(__name__)


def lvs(path: Path, config: InputConfig) -> list[Recording]:
    """Return the recordings of a folder of videos or of folders of videos; none where it has no video.

    Raises:
        SourceError: a video cannot be read.
        ConfigurationError: labels do not match the frames, or a setting does not fit.
    """
    files = [file for pattern in ("*", "*/*") for file in path.glob(pattern) if file.suffix.lower() in VIDEO_SUFFIXES]
    recordings = []
    for file in in_natural_order(files):
        (recording,) = video_file(file, config)
        detections = next(file.parent.glob(f"*detectron*{file.stem}.npy"), None)
        if recording.teacher is None and detections is not None:
            _log.warning(
                "%s is a pickle, which is never read: draw its labels into the folder %s.teacher as docs/evaluation.md says",
                detections,
                file.with_suffix(""),
            )
        recordings.append(recording)
    return recordings
