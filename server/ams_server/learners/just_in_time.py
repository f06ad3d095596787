"""Just-in-time distillation: each labelled frame is learnt until the student agrees with the teacher on it.

This is Algorithm 1 of Mullapudi et al., "Online Model Distillation for Efficient Video Inference", ICCV 2019, with updates that
change a part of the parameters as in the comparison of the AMS paper. The student learns no more from a frame once it is over.

C: classes. H, W: input size of the student. h, w: size of its logits.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ams_common.budget import REFERENCE_UPLINK_BPS
from ams_common.classes import ClassSet, UInt8Array
from ams_common.iou import Int64Array, class_iou, confusion_matrix
from ams_server.learners.base import LabelledFrames, at_size
from ams_server.learners.box_weights import box_weights
from ams_server.learners.config import JustInTimeConfig
from ams_server.learners.prediction import best_labels
from ams_server.learners.stride import StrideController
from ams_server.segmentation_loss import segmentation_loss
from ams_server.state import State, part_of, prefixed
from ams_server.trainer import PhaseResult, Trainer

BACKGROUND = "background"
"""Name of the class that says nothing was found; agreement about it does not count."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lesson:
    """The frame to learn, on the trainer's device."""

    images: Tensor
    """uint8 [1, 3, H, W]."""
    labels: UInt8Array
    """uint8 [H, W], for the comparison."""
    targets: Tensor
    """The same as uint8 [1, H, W]."""
    pixel_weights: Tensor
    """float32 [1, H, W]."""


@dataclass(kw_only=True, eq=False)
class JustInTimeLearner:
    """Trains on the newest labelled frame alone, and asks for frames as often as the student fails on them."""

    trainer: Trainer
    config: JustInTimeConfig
    classes: ClassSet
    size: tuple[int, int]
    """Width and height of the student's input."""
    loss_stride: int
    """The loss is computed on every n-th pixel of every n-th row."""

    def __post_init__(self) -> None:
        self.strides = StrideController(self.config)
        self.least_interval_s = 0.0
        """What the budgets need."""
        self._boxed = [label for label, name in enumerate(self.classes.names) if name in self.config.jit_box_classes]
        self._waiting: tuple[int, UInt8Array, UInt8Array] | None = None
        self._accuracy = math.nan

    @property
    def sampling_hz(self) -> float:
        """Frames per second of capture time: one for each update."""
        return 1 / self.update_interval_s

    @property
    def least_sampling_hz(self) -> float:
        """Frames per second of capture time at the longest stride."""
        return min(self.sampling_hz, self.config.jit_camera_hz / self.config.jit_max_stride)

    @property
    def update_interval_s(self) -> float:
        """Seconds of capture time between two updates if each frame leads to one."""
        return max(self.strides.period_s, self.least_interval_s)

    def reference_uplink_bps(self, sampling_hz: float) -> float:
        """Return the rate in bit/s that batches aim at while the uplink has no limit: that of the paper for each frame."""
        return REFERENCE_UPLINK_BPS * sampling_hz

    def start_run(self) -> None:
        """Forget the frame of an earlier run; what the stride has become stays."""
        self._waiting = None

    def take(self, frames: LabelledFrames) -> None:
        """Keep the newest frame; an older one that has not been learnt by now is out of date."""
        newest = int(np.argmax(frames.capture_times_us))
        time_us = frames.capture_times_us[newest]
        if self._waiting is None or time_us >= self._waiting[0]:
            self._waiting = (time_us, frames.images[newest], frames.labels[newest])

    @property
    def due(self) -> bool:
        """True when a labelled frame waits."""
        return self._waiting is not None

    def due_after(self, newest_capture_us: int) -> bool:
        """Tell whether `learn` should be called once the frame of this time has been taken: always."""
        del newest_capture_us
        return True

    def news_after(self, newest_capture_us: int) -> float:
        """Return the rate of frames: the newest is all that counts, and no phase has learnt from it."""
        del newest_capture_us
        return self.sampling_hz

    def learn(self, limit: int, stopping: Callable[[], bool]) -> PhaseResult:
        """Learn the waiting frame, in steps that change at most `limit` trainable parameters, and set the stride.

        There is no step where the student agrees with the teacher from the beginning.
        """
        losses = self._losses(self._next_lesson())
        first = next(losses, None)
        if first is None:
            result = PhaseResult(indices=np.empty(0, np.int64), loss=math.nan, steps=0)
        else:
            result = self.trainer.run_phase(itertools.chain([first], losses), limit, stopping)
        self.strides.observe(self._accuracy)
        return result

    def state(self) -> State:
        """Return copies of the state of the trainer and the stride."""
        return {**prefixed("trainer", self.trainer.state()), **prefixed("strides", self.strides.state())}

    def load_state(self, state: State) -> None:
        """Go on from `state`.

        Raises:
            ModelError: a part is missing or does not fit.
        """
        self.trainer.load_state(part_of(state, "trainer"))
        self.strides.load_state(part_of(state, "strides"))

    def _next_lesson(self) -> _Lesson:
        assert self._waiting is not None, "nothing to learn"
        _, frame, frame_labels = self._waiting
        self._waiting = None
        image, labels = at_size(frame, frame_labels, self.size)
        config = self.config
        weights = box_weights(labels, self._boxed, weight=config.jit_box_weight, dilation=config.jit_box_dilation)
        device = self.trainer.model.device
        return _Lesson(
            images=torch.tensor(image).permute(2, 0, 1)[None],
            labels=labels,
            targets=torch.tensor(labels)[None].to(device),
            pixel_weights=torch.tensor(weights)[None].to(device),
        )

    def _losses(self, lesson: _Lesson) -> Iterator[Tensor]:
        """Yield a loss for each step that the frame needs; the accuracy is that of the weights after the last one."""
        for updates in itertools.count():
            logits = self.trainer.logits(lesson.images)
            self._accuracy = self._judge(lesson.labels, logits.detach())
            if updates >= self.config.jit_max_updates or self._accuracy >= self.config.jit_accuracy:
                return
            yield segmentation_loss(logits, lesson.targets, self.loss_stride, pixel_weights=lesson.pixel_weights)

    def _judge(self, labels: UInt8Array, logits: Tensor) -> float:
        """Return how far the logits, [1, C, h, w], agree with the teacher's labels, uint8 [H, W]."""
        height, width = labels.shape
        return agreement(labels, best_labels(logits, (height, width)), self.classes)


def agreement(labels: UInt8Array, predicted: UInt8Array, classes: ClassSet) -> float:
    """Return the mIoU, 0..1, of two label maps, uint8 [H, W], as `foreground_miou`.

    Where nothing but background occurs, or nothing is labelled, it is 1: there is nothing to learn.
    """
    found = foreground_miou(confusion_matrix(labels, predicted, len(classes)), classes)
    return 1.0 if math.isnan(found) else found


def foreground_miou(matrix: Int64Array, classes: ClassSet) -> float:
    """Return the mIoU, 0..1, over the classes but the background that a confusion, int64 [C, C], has; NaN if it has none."""
    values = class_iou(matrix)
    judged = np.array([name != BACKGROUND for name in classes.names])
    occurring = values[judged & ~np.isnan(values)]
    return float(occurring.mean()) if occurring.size else math.nan
