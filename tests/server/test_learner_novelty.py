from typing import Any

import numpy as np
import pytest
from tests.server.session_support import HEIGHT, RUN, WIDTH, colour_batch, picture, small_session

from ams_common.classes import UInt8Array
from ams_server.buffer import TrainingBuffer
from ams_server.edge_session import EdgeSession
from ams_server.learners.ams import AmsLearner
from ams_server.learners.base import LabelledFrames
from ams_server.learners.novelty import LEARNT_FRAMES, Novelty
from ams_server.learners.prediction import student_labels


class ScriptedNovelty(Novelty):
    """Is told how much of each frame the student gets wrong, by the label of its first pixel, in hundredths."""

    asked: int = 0

    def _error(self, image: UInt8Array, labels: UInt8Array) -> float | None:
        self.asked += 1
        return None if labels[0, 0] == 255 else int(labels[0, 0]) / 100


def frame(value: int) -> tuple[UInt8Array, UInt8Array]:
    return np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.full((HEIGHT, WIDTH), value, np.uint8)


def learnt_frames(*values: int) -> TrainingBuffer:
    buffer = TrainingBuffer(240.0, 100)
    for time_s, value in enumerate(values):
        buffer.add(*frame(value), float(time_s))
    return buffer


def scripted() -> ScriptedNovelty:
    return ScriptedNovelty(learner_of(small_session()).trainer)


def learner_of(session: EdgeSession) -> AmsLearner:
    assert isinstance(session.learner, AmsLearner)
    return session.learner


def error_session(**changes: Any) -> EdgeSession:
    return small_session(sampling_rule="error", **changes)


def train(session: EdgeSession) -> None:
    mirror = session.train()
    assert mirror is not None
    session.mirror = mirror


def test_before_the_first_phase_all_that_is_wrong_is_new() -> None:
    assert scripted().judge(*frame(40)) == pytest.approx(0.4)


def test_what_is_wrong_in_frames_that_were_learnt_is_not_new() -> None:
    novelty = scripted()
    novelty.learnt(learnt_frames(90, 4, 4, 4, 4, 9))
    # The five newest: (4 + 4 + 4 + 4 + 9) / 5 = 5 hundredths.
    assert LEARNT_FRAMES == 5
    assert novelty.judge(*frame(12)) == pytest.approx(0.07)
    assert novelty.judge(*frame(2)) == pytest.approx(-0.03)


def test_learnt_frames_are_asked_for_once_a_phase() -> None:
    novelty = scripted()
    novelty.learnt(learnt_frames(1, 2, 3))
    for _ in range(4):
        novelty.judge(*frame(10))
    assert novelty.asked == 3 + 4
    novelty.learnt(learnt_frames(1))
    novelty.judge(*frame(10))
    assert novelty.asked == 3 + 4 + 1 + 1


def test_frames_without_labels_say_nothing() -> None:
    novelty = scripted()
    novelty.learnt(learnt_frames(255, 6))
    assert novelty.judge(*frame(255)) is None
    assert novelty.judge(*frame(10)) == pytest.approx(0.04)
    novelty.learnt(learnt_frames(255))
    assert novelty.judge(*frame(10)) == pytest.approx(0.1)


def test_a_frame_is_judged_by_the_share_of_pixels_that_the_student_gets_wrong() -> None:
    trainer = learner_of(error_session()).trainer
    labels = student_labels(trainer, picture(16))
    labels[:8] = 1 - labels[:8]
    assert Novelty(trainer).judge(picture(16), labels) == pytest.approx(8 / HEIGHT)
    labels[:4] = 255
    assert Novelty(trainer).judge(picture(16), labels) == pytest.approx(4 / (HEIGHT - 4))


def test_the_rate_falls_where_the_student_is_right_about_new_frames_and_rises_where_it_is_not() -> None:
    learner = learner_of(error_session())
    novelty = learner.novelty = scripted()
    novelty.learnt(learnt_frames(4))
    # 10 Hz for each unit above 2 hundredths more than usual, which is 4; from 0.1 to 1 Hz.
    expected = [(50, 1.0), (3, 0.7), (3, 0.4), (6, 0.4), (3, 0.1), (3, 0.1), (12, 0.7), (255, 0.7), (12, 1.0)]
    for number, (value, rate_hz) in enumerate(expected):
        image, labels = frame(value)
        learner.take(LabelledFrames(images=image[None], labels=labels[None], capture_times_us=(number * 10_000_000,)))
        assert learner.sampling_hz == pytest.approx(rate_hz), number


def test_a_phase_is_what_new_frames_are_compared_with() -> None:
    session = error_session(steps=1)
    learner = learner_of(session)
    novelty = learner.novelty = scripted()
    session.ingest(colour_batch(1, 1.0, 2.0, 3.0), RUN)
    asked = novelty.asked
    train(session)
    session.ingest(colour_batch(2, 11.0, 12.0), RUN)
    assert (asked, novelty.asked) == (3, 3 + 3 + 2)


def test_asking_the_student_does_not_change_what_it_learns() -> None:
    digests = []
    for rule in ("error", "loss"):
        session = small_session(sampling_rule=rule)
        for number in range(1, 4):
            session.ingest(colour_batch(number, 10.0 * number, 10.0 * number + 1), RUN)
            train(session)
        digests.append(session.mirror.digest)
    assert digests[0] == digests[1]


def test_other_rules_do_not_ask_the_student() -> None:
    assert learner_of(small_session()).novelty is None
    assert learner_of(small_session(sampling_rule="similarity")).novelty is None
    assert learner_of(error_session()).novelty is not None
