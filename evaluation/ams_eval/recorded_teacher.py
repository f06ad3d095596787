"""The labels of a teacher that came with a recording, in the place of a teacher: `--teacher recording`."""

from collections.abc import Sequence

import numpy as np

from ams_common.classes import IGNORE, LVS9, ClassSet, UInt8Array, load_class_set
from ams_common.errors import AmsError, ConfigurationError
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.recording import Recording
from ams_eval.references import resized

RECORDED = "recording"
"""What `--teacher` is then."""


class RecordedTeacher:
    """A Teacher that says of each frame of one recording what the labels say that came with it."""

    def __init__(self, recording: Recording) -> None:
        """Go through `recording` once, for the capture times of its frames.

        Raises:
            ConfigurationError: no labels of a teacher came with it.
            SourceError: it cannot be read.
        """
        if recording.teacher is None:
            name = recording.name
            raise ConfigurationError(
                f"no labels of a teacher came with {name!r}: --teacher {RECORDED} needs {name}.teacher.npz or the folder "
                f"{name}.teacher beside the video"
            )
        self._source = recording.teacher
        self._times_s = np.array([frame.capture_time_s for frame in recording.frames()])

    @property
    def classes(self) -> ClassSet:
        """Meaning of the labels."""
        return self._source.classes

    @property
    def identity(self) -> str:
        """Identity of the labels."""
        return self._source.digest

    def label(self, images: UInt8Array, capture_times_s: Sequence[float]) -> UInt8Array:
        """Return the labels, uint8 [N, H, W], of frames, uint8 [N, H, W, 3], captured at `capture_times_s`.

        Raises:
            AmsError: the labels of a frame cannot be read.
        """
        _, height, width, _ = images.shape
        labels = np.empty(images.shape[:3], np.uint8)
        for place, time_s in enumerate(capture_times_s):
            found = self._source.labels(int(np.abs(self._times_s - time_s).argmin()))
            labels[place] = IGNORE if found is None else resized(found, (width, height))
        return labels


class UnknownTeacher:
    """What takes the place of recorded labels where it is not known yet of which recording."""

    identity = RECORDED

    def __init__(self, config: InputConfig) -> None:
        """Take it that labels mean what `config` says, or else the classes of LVS, as `teacher_labels` does.

        Raises:
            ConfigurationError: there is no such class set.
        """
        self.classes = load_class_set(config.label_classes) if config.label_classes else LVS9

    def label(self, images: UInt8Array, capture_times_s: Sequence[float]) -> UInt8Array:
        """Refuse: the labels are those of a recording."""
        raise AmsError(f"{len(images)} frames at {capture_times_s[0]:g} s are of no recording")
