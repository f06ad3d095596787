"""Teacher and student on one machine: Algorithm 1 of the just-in-time paper on a recording, scored and with its time taken.

What is learnt, in how many steps, and how far the next labelled frame is, is the product's learner's; here is only whose turn a
frame is, as the stride says (Mullapudi et al., "Online Model Distillation for Efficient Video Inference", ICCV 2019).
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from ams_common.classes import ClassSet, UInt8Array
from ams_common.clock import Clock
from ams_edge.frame import Frame
from ams_eval.inputs.recording import Recording
from ams_eval.profile import Profile
from ams_eval.references import PackedReferences
from ams_eval.scores import Score, ScoreBuilder
from ams_server.learners.base import LabelledFrames
from ams_server.learners.just_in_time import JustInTimeLearner
from ams_server.learners.prediction import student_labels
from ams_server.teachers.base import Teacher

TEACHER, TRAINING, STUDENT = "teacher", "training", "student"
OnFrame: TypeAlias = Callable[[int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """What all passes through a recording share."""

    recording: Recording
    references: PackedReferences
    """Of all its frames."""
    teacher: Teacher
    """Labels each frame anew, so that its time counts."""
    classes: ClassSet
    """The student's."""
    size: tuple[int, int]
    """Width and height of the student's input."""
    clock: Clock
    """Takes the time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Attempt:
    """What came out of one pass through a recording."""

    frames: int
    labelled: int
    """Frames that the teacher labelled."""
    steps: int
    """Optimiser steps, those that were undone included."""
    undone: int
    """Frames whose learning failed and was undone."""
    teacher_s: float
    """Time in all of labelling, from a decoded picture to its labels in the student's classes."""
    training_s: float
    """Time in all of learning labelled frames, the comparisons with the teacher before and after each step included."""
    student_s: float
    """Time in all of the student's labels, from a decoded picture to labels at the size of its input."""
    teacher: Score
    """Against the teacher's labels of every frame."""
    human: Score
    """Against human or exact labels, of the frames that have some; empty where none has."""


def distil(course: Course, learner: JustInTimeLearner, on_frame: OnFrame = lambda index: None) -> Attempt:
    """Let the student label every frame, and learn from the teacher first where the learner's stride says so.

    `on_frame` is called with the index of each frame that is done.

    Raises:
        AmsError: the recording or the teacher fails.
    """
    one_pass = _Pass(course, learner)
    for frame in course.recording.frames():
        if frame.index % learner.strides.stride == 0:
            one_pass.learn(frame)
        one_pass.show(frame)
        on_frame(frame.index)
    return one_pass.result()


def run_unchanged(course: Course, learner: JustInTimeLearner, on_frame: OnFrame = lambda index: None) -> Attempt:
    """Let the student label every frame as it is; see `distil`."""
    one_pass = _Pass(course, learner)
    for frame in course.recording.frames():
        one_pass.show(frame)
        on_frame(frame.index)
    return one_pass.result()


def rehearse(course: Course, learner: JustInTimeLearner) -> None:
    """Learn and label the first frame with a learner of no further use: first calls take longer, on a GPU by seconds.

    Raises:
        AmsError: the recording or the teacher fails.
    """
    one_pass = _Pass(course, learner)
    first = next(course.recording.frames())
    one_pass.learn(first)
    one_pass.show(first)


class _Pass:
    """A pass that is under way."""

    def __init__(self, course: Course, learner: JustInTimeLearner) -> None:
        self._course = course
        self._learner = learner
        self._profile = Profile(course.clock)
        self._table = course.teacher.classes.lookup_into(course.classes)
        self._teacher, self._human = ScoreBuilder(len(course.classes)), ScoreBuilder(len(course.classes))
        self._frames = self._labelled = self._steps = self._undone = 0

    def learn(self, frame: Frame) -> None:
        """Have the teacher label a frame, and learn it."""
        with self._timed(TEACHER):
            images = frame.image[None]
            labels = np.asarray(self._table[self._course.teacher.label(images, [frame.capture_time_s])], np.uint8)
        with self._timed(TRAINING):
            self._learner.take(LabelledFrames(images=images, labels=labels, capture_times_us=(frame.capture_time_us,)))
            result = self._learner.learn(self._learner.trainer.model.layout.trainable_size, lambda: False)
        self._labelled += 1
        self._steps += result.steps
        self._undone += bool(result.failure)

    def show(self, frame: Frame) -> None:
        """Label a frame by the student, and score that."""
        with self._timed(STUDENT):
            predicted = self._predicted(frame)
        reference = self._course.references[frame.index]
        self._teacher.add(frame.capture_time_s, reference.teacher, predicted)
        if reference.human is not None:
            self._human.add(frame.capture_time_s, reference.human, predicted)
        self._frames += 1

    def result(self) -> Attempt:
        """Return what came out."""
        seconds = self._profile.seconds()
        return Attempt(
            frames=self._frames,
            labelled=self._labelled,
            steps=self._steps,
            undone=self._undone,
            teacher_s=seconds.get(TEACHER, 0.0),
            training_s=seconds.get(TRAINING, 0.0),
            student_s=seconds.get(STUDENT, 0.0),
            teacher=self._teacher.build(),
            human=self._human.build(),
        )

    def _predicted(self, frame: Frame) -> UInt8Array:
        return student_labels(self._learner.trainer, frame.rgb(*self._course.size))

    @contextlib.contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        """Count the time of what happens within, to the end of what it started on a GPU."""
        self._synchronise()
        with self._profile.part(part):
            yield
            self._synchronise()

    def _synchronise(self) -> None:
        device = self._learner.trainer.model.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
