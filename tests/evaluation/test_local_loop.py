from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.evaluation.replays import RATE_HZ, recording, truth
from tests.server.session_support import HEIGHT, WIDTH, ColourTeacher, small_model, small_session
from torch import Tensor

from ams_common.classes import UInt8Array
from ams_common.clock import ManualClock
from ams_eval.local_loop import STUDENT, Course, _Pass, distil, rehearse, run_unchanged
from ams_eval.references import PackedReferences, Reference
from ams_server.learners.just_in_time import JustInTimeLearner
from ams_server.learners.prediction import student_labels
from ams_server.teachers.base import Teacher
from ams_server.trainer import Trainer

LABEL_S, JUDGE_S, SHOW_S = 0.05, 0.01, 0.002


class ScriptedLearner(JustInTimeLearner):
    """A learner that is told how well its student does, and takes time to be told."""

    accuracies: Sequence[float] = ()
    clock = ManualClock()

    def _judge(self, labels: UInt8Array, logits: Tensor) -> float:
        self.clock.sleep(JUDGE_S)
        first, *self.accuracies = self.accuracies
        return first


def jit_learner(**changes: Any) -> JustInTimeLearner:
    learner = small_session(scheme="jit", selection="full", **{"jit_learning_rate": 1e-3, **changes}).learner
    assert isinstance(learner, JustInTimeLearner)
    return learner


def course(frames: int, *, teacher: Teacher | None = None, clock: ManualClock | None = None, human_every: int = 0) -> Course:
    references = PackedReferences((WIDTH, HEIGHT))
    for index in range(frames):
        by_hand = human_every and index % human_every == 0
        references.append(Reference(teacher=truth(index), human=truth(index) if by_hand else None))
    return Course(
        recording=recording(frames / RATE_HZ),
        references=references,
        teacher=teacher or ColourTeacher(),
        classes=small_model().manifest.classes,
        size=(WIDTH, HEIGHT),
        clock=clock or ManualClock(),
    )


def slow_labels(clock: ManualClock, trainer: Trainer, image: UInt8Array) -> UInt8Array:
    clock.sleep(SHOW_S)
    return student_labels(trainer, image)


def test_frames_steps_and_times_are_those_of_a_hand_run_of_algorithm_1(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    monkeypatch.setattr("ams_eval.local_loop.student_labels", lambda trainer, image: slow_labels(clock, trainer, image))
    model = jit_learner(jit_min_stride=2, jit_max_stride=8, jit_max_updates=3)
    learner = ScriptedLearner(trainer=model.trainer, config=model.config, classes=model.classes, size=model.size, loss_stride=1)
    learner.clock = clock
    hand_run = {
        0: [0.9],  # stride 2 becomes 4
        4: [0.2, 0.8],  # 1 step; 8
        8: [0.1, 0.2, 0.3, 0.4],  # 3 steps; 4. Frame 8 is a multiple of the stride, though only 4 frames have passed.
        12: [0.9],  # 8
        16: [0.5, 0.6, 0.75],  # 2 steps; 4: learnt, but not above the threshold
    }
    learner.accuracies = [accuracy for accuracies in hand_run.values() for accuracy in accuracies]
    teacher, shown = ColourTeacher(clock), list[int]()
    attempt = distil(course(20, teacher=teacher, clock=clock), learner, shown.append)
    assert not learner.accuracies
    assert shown == list(range(20))
    assert teacher.capture_times_s == [index / RATE_HZ for index in hand_run]
    assert (attempt.frames, attempt.labelled, attempt.steps, attempt.undone) == (20, 5, 6, 0)
    assert attempt.teacher_s == pytest.approx(5 * LABEL_S)
    assert attempt.training_s == pytest.approx(11 * JUDGE_S)
    assert attempt.student_s == pytest.approx(20 * SHOW_S)


def test_a_student_that_learns_agrees_better_from_the_first_frame_on() -> None:
    settings = {"jit_accuracy": 0.95, "jit_max_updates": 30, "jit_min_stride": 2}
    film = course(20, human_every=5)
    learner = jit_learner(**settings)
    before = learner.trainer.vector()
    unchanged = run_unchanged(film, learner)
    np.testing.assert_array_equal(learner.trainer.vector(), before)
    assert (unchanged.labelled, unchanged.steps, unchanged.teacher_s) == (0, 0, 0.0)
    taught = distil(film, learner)
    assert taught.steps > 0
    gain = taught.teacher.frame_miou() - unchanged.teacher.frame_miou()
    assert gain.mean() > 0.2
    assert gain[0] > 0, "a frame is shown once it has been learnt"
    assert taught.teacher.times_s.tolist() == [index / RATE_HZ for index in range(20)]
    assert taught.human.times_s.tolist() == [0.0, 1.0, 2.0, 3.0]
    np.testing.assert_array_equal(taught.human.matrices, taught.teacher.matrices[::5])


def test_the_same_pass_shows_the_same_labels() -> None:
    first, second = (distil(course(10), jit_learner(jit_min_stride=2)) for _ in range(2))
    np.testing.assert_array_equal(first.teacher.matrices, second.teacher.matrices)


def test_learning_that_fails_is_counted_and_leaves_the_student_as_it_was() -> None:
    learner = jit_learner(jit_learning_rate=1e30, jit_accuracy=1.0)
    before = learner.trainer.vector()
    attempt = distil(course(20), learner)
    assert attempt.undone == attempt.labelled == 3
    np.testing.assert_array_equal(learner.trainer.vector(), before)


def test_a_rehearsal_learns_and_shows_the_first_frame() -> None:
    learner = jit_learner(jit_accuracy=1.0, jit_max_updates=1)
    before, teacher = learner.trainer.vector(), ColourTeacher()
    rehearse(course(20, teacher=teacher), learner)
    assert teacher.capture_times_s == [0.0]
    assert (learner.trainer.vector() != before).any()


def test_the_time_of_a_gpu_is_that_of_the_work_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    queued_s = [5.0]

    def synchronize(device: torch.device) -> None:
        assert device == torch.device("cuda", 1)
        clock.sleep(queued_s.pop() if queued_s else 0.0)

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    model = SimpleNamespace(device=torch.device("cuda", 1))
    learner = cast(JustInTimeLearner, SimpleNamespace(trainer=SimpleNamespace(model=model)))
    one_pass = _Pass(course(1, clock=clock), learner)
    with one_pass._timed(STUDENT):
        queued_s.append(2.0)
    assert one_pass.result().student_s == pytest.approx(2.0)
