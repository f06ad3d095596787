"""How well label maps agree: mIoU of a whole recording, of each frame, and over time.

Shapes: F scored frames, C classes. Labels are those of one class set, uint8 [H, W], 255 where there is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ams_common.classes import UInt8Array
from ams_common.iou import Float64Array, Int64Array, class_iou, confusion_matrix, mean_iou

WINDOW_S = 10.0
"""Width of the window of mIoU over time, in seconds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """Agreement of one model's labels with one reference, frame by frame."""

    times_s: Float64Array
    """Capture times, float64 [F], ascending."""
    matrices: Int64Array
    """Confusion of each frame, int64 [F, C, C]: rows are the reference."""

    def __post_init__(self) -> None:
        assert self.matrices.shape[0] == self.times_s.shape[0]

    def miou(self) -> float:
        """Return the mIoU of the confusion summed over all frames, 0..1; NaN without any label."""
        return mean_iou(self.matrices.sum(axis=0))

    def class_iou(self) -> Float64Array:
        """Return the IoU of each class over all frames, float64 [C]; NaN for a class that never occurs."""
        return class_iou(self.matrices.sum(axis=0))

    def frame_miou(self) -> Float64Array:
        """Return the mIoU of each frame by itself, float64 [F]."""
        return np.array([mean_iou(matrix) for matrix in self.matrices], np.float64)

    def mean_frame_miou(self) -> float:
        """Return the mean over the frames of their mIoU, 0..1; frames without any label do not count."""
        values = self.frame_miou()
        known = values[~np.isnan(values)]
        return float(known.mean()) if known.size else float("nan")

    def windowed_miou(self, window_s: float = WINDOW_S) -> Float64Array:
        """Return for each frame the mIoU of the frames at most half of `window_s` away, float64 [F].

        Confusions are summed within the window, which is shorter at both ends of the recording.
        """
        sums = np.concatenate([np.zeros_like(self.matrices[:1]), self.matrices.cumsum(axis=0)])
        first = np.searchsorted(self.times_s, self.times_s - window_s / 2, side="left")
        end = np.searchsorted(self.times_s, self.times_s + window_s / 2, side="right")
        return np.array([mean_iou(matrix) for matrix in sums[end] - sums[first]], np.float64)

    def between(self, start_s: float, end_s: float) -> "Score":
        """Return the score of the frames captured from `start_s` to before `end_s`."""
        inside = (self.times_s >= start_s) & (self.times_s < end_s)
        return Score(times_s=self.times_s[inside], matrices=self.matrices[inside])


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """The same frames with and without adaptation, against one reference."""

    without: Score
    """The model as it starts, on every frame."""
    adapted: Score
    """What the edge showed, from its first frame on, so including frames before the first update."""

    def gain(self) -> float:
        """Return what adaptation adds to the mIoU of the whole recording, -1..1."""
        return self.adapted.miou() - self.without.miou()

    def frame_gain(self) -> Float64Array:
        """Return what adaptation adds to the mIoU of each frame, float64 [F]."""
        return self.adapted.frame_miou() - self.without.frame_miou()


class ScoreBuilder:
    """Collects the frames of a Score."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._times_s: list[float] = []
        self._matrices: list[Int64Array] = []

    def add(self, time_s: float, reference: UInt8Array, predicted: UInt8Array) -> Int64Array:
        """Add the frame captured at `time_s`; return its confusion, int64 [C, C].

        `predicted`, uint8 [h, w], is read at the size of `reference`, uint8 [H, W], by the nearest pixel.
        """
        matrix = confusion_matrix(reference, at_size_of(reference, predicted), self._classes)
        self._times_s.append(time_s)
        self._matrices.append(matrix)
        return matrix

    def build(self) -> Score:
        """Return the score of all frames so far."""
        matrices = np.array(self._matrices, np.int64).reshape(-1, self._classes, self._classes)
        return Score(times_s=np.array(self._times_s, np.float64), matrices=matrices)


def at_size_of(reference: UInt8Array, labels: UInt8Array) -> UInt8Array:
    """Return `labels` at the size of `reference`, each pixel the nearest one."""
    height, width = reference.shape
    if labels.shape == (height, width):
        return labels
    return np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def evenly_spaced(times_s: Sequence[float], *, per_second: float, most: int) -> list[int]:
    """Return positions of about `per_second` times a second and at most about `most`, evenly spread over `times_s`.

    Time is cut into equal slots; the first of `times_s`, which ascend, in each slot is taken.
    """
    if not times_s:
        return []
    duration_s = times_s[-1] - times_s[0]
    slot_s = max(1 / per_second, duration_s / most)
    slots = [int((time_s - times_s[0]) / slot_s + 1e-6) for time_s in times_s]
    return [index for index, slot in enumerate(slots) if index == 0 or slot != slots[index - 1]]
