"""How much there is to learn from a new frame: what the student gets wrong in it beyond what it gets wrong in any frame.

A student never agrees with its teacher in all pixels, for it is small and the teacher flickers. What more frames can mend is by
how much it does worse on a frame that it has not learnt from than on the last ones that it has, with the same weights.
"""

from collections.abc import Sequence

import numpy as np

from ams_common.classes import UInt8Array
from ams_common.iou import changed_share
from ams_server.buffer import TrainingBuffer, TrainingSample
from ams_server.learners.prediction import student_labels
from ams_server.trainer import Trainer

LEARNT_FRAMES = 5
"""Of those that a phase has learnt from, as many of the newest are asked for again."""


class Novelty:
    """Compares new frames with those of the last phase, at the weights that the device runs. H, W: the student's input size."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._learnt: Sequence[TrainingSample] = ()
        self._usual_error: float | None = 0.0

    def learnt(self, buffer: TrainingBuffer) -> None:
        """Compare with the newest samples of `buffer` from now on: a phase has learnt from them."""
        self._learnt = buffer.newest(LEARNT_FRAMES)
        self._usual_error = None

    def judge(self, image: UInt8Array, labels: UInt8Array) -> float | None:
        """Return the share of wrong pixels of a new frame less that of frames learnt from, -1..1; None without a label.

        The frame is uint8 RGB [H, W, 3] with the teacher's labels, uint8 [H, W]. Before the first phase nothing is learnt yet,
        and all that is wrong counts.
        """
        if self._usual_error is None:
            # Not before: the weights that a phase comes to are replaced by those that the device decodes.
            shares = [self._error(each.image.numpy(), each.labels.numpy()) for each in self._learnt]
            labelled = [share for share in shares if share is not None]
            self._usual_error = float(np.mean(labelled)) if labelled else 0.0
        error = self._error(image, labels)
        return None if error is None else error - self._usual_error

    def _error(self, image: UInt8Array, labels: UInt8Array) -> float | None:
        return changed_share(labels, student_labels(self._trainer, image))
