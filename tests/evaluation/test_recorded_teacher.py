from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tests.evaluation.replays import RATE_HZ, recording, truth
from tests.server.session_support import HEIGHT, WIDTH

from ams_common.classes import CITYSCAPES19, IGNORE, LVS9, STREET7, ClassSet, UInt8Array
from ams_common.errors import AmsError, ConfigurationError
from ams_eval.inputs.input_config import InputConfig
from ams_eval.recorded_teacher import RecordedTeacher, UnknownTeacher
from ams_eval.replay.server import CountingTeacher

IMAGES = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)


@dataclass(frozen=True)
class Labels:
    """Where the film shows road and sky, at twice the size; nothing for the third frame."""

    classes: ClassSet = field(default=CITYSCAPES19)
    digest: str = "t1"

    def labels(self, frame_index: int) -> UInt8Array | None:
        return None if frame_index == 2 else truth(frame_index).repeat(2, 0).repeat(2, 1)


def teacher() -> RecordedTeacher:
    return RecordedTeacher(replace(recording(4), teacher=Labels()))


def test_each_frame_has_the_labels_that_came_with_it() -> None:
    times_s = [7 / RATE_HZ, 13 / RATE_HZ + 1e-6]
    labels = teacher().label(IMAGES, times_s)
    np.testing.assert_array_equal(labels, np.stack([truth(7), truth(13)]))
    assert (teacher().identity, teacher().classes) == ("t1", CITYSCAPES19)


def test_a_frame_without_labels_teaches_nothing() -> None:
    assert (teacher().label(IMAGES[:1], [2 / RATE_HZ]) == IGNORE).all()


def test_a_recording_that_starts_later_is_looked_up_from_its_start() -> None:
    late = CountingTeacher(teacher(), starts_s=10.0)
    np.testing.assert_array_equal(late.label(IMAGES[:1], [10.0 + 7 / RATE_HZ])[0], truth(7))
    assert late.frames == 1


def test_a_recording_that_came_without_labels_is_refused_with_what_it_needs() -> None:
    with pytest.raises(ConfigurationError, match=r"came with 'film': --teacher recording needs film.teacher.npz or the folder"):
        RecordedTeacher(recording(1))


def test_before_the_recording_is_known_only_the_classes_are() -> None:
    assert UnknownTeacher(InputConfig()).classes is LVS9
    street = UnknownTeacher(InputConfig(label_classes="street7"))
    assert street.classes is STREET7
    with pytest.raises(AmsError):
        street.label(IMAGES, [0.0, 1.0])
