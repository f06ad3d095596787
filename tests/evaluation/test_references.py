import dataclasses

import numpy as np
import pytest
from tests.evaluation.replays import RATE_HZ, recording, truth
from tests.server.session_support import HEIGHT, WIDTH, ColourTeacher

from ams_common.classes import IGNORE, STREET7, ClassSet, UInt8Array
from ams_eval.references import (
    MOST_MOMENTS,
    LabelsMismatchError,
    PackedReferences,
    Reference,
    References,
    label_references,
    resized,
)

CLASSES = STREET7.subset(["road", "sky"])


class HumanLabels:
    """Labels of every fifth frame, at half the size of the pictures, or another one."""

    classes: ClassSet = CLASSES
    digest = "by hand"

    def __init__(self, height: int = HEIGHT // 2, width: int = WIDTH // 2) -> None:
        self._size = (width, height)

    def labels(self, frame_index: int) -> UInt8Array | None:
        return None if frame_index % 5 else resized(truth(frame_index), self._size)


def referenced(seconds: float = 4, scored_hz: float = 2.0, human: HumanLabels | None = None) -> References:
    film = dataclasses.replace(recording(seconds), human=human)
    return label_references(film, ColourTeacher(), CLASSES, (WIDTH, HEIGHT), scored_hz)


def test_scored_frames_are_evenly_spread() -> None:
    # At 5 frames a second: the first frame in each half second.
    assert list(referenced().frames) == [0, 3, 5, 8, 10, 13, 15, 18]
    assert list(referenced(scored_hz=0).frames) == list(range(4 * RATE_HZ))
    assert list(referenced(scored_hz=100).frames) == list(range(4 * RATE_HZ))
    assert list(referenced(scored_hz=0.5).frames) == [0, 10]


def test_the_teacher_labels_the_original_pictures() -> None:
    references = referenced()
    for index, reference in references.frames.items():
        np.testing.assert_array_equal(reference.teacher, truth(index))
        assert reference.human is None
    assert references.moments.human is None


def test_people_s_labels_may_be_smaller_and_rare() -> None:
    references = referenced(human=HumanLabels())
    labelled = [index for index, reference in references.frames.items() if reference.human is not None]
    assert labelled == [0, 5, 10, 15]
    human = references.frames[5].human
    assert human is not None
    assert (human == truth(5)).mean() > 0.95
    assert references.moments.human is not None
    without = [each.min() == IGNORE for each in references.moments.human]
    assert without == [index not in labelled for index in references.moments.frames]


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(LabelsMismatchError, match=r"labels of frame 0 are 32x32 pixels, .* its picture, 64x32"):
        referenced(human=HumanLabels(height=32, width=32))


def test_moments_are_few_whatever_the_length() -> None:
    references = referenced(seconds=60, scored_hz=0)
    moments = references.moments
    assert len(references.frames) == 300
    assert MOST_MOMENTS / 2 <= len(moments.frames) <= MOST_MOMENTS + 1
    assert moments.frames[0] == 0
    assert moments.times_s.tolist() == [index / RATE_HZ for index in moments.frames]
    assert np.diff(moments.frames).max() < 300 / 12
    assert moments.pictures.shape == (len(moments.frames), HEIGHT, WIDTH, 3)
    for index, teacher in zip(moments.frames, moments.teacher, strict=True):
        np.testing.assert_array_equal(teacher, truth(int(index)))


def test_progress_is_told_for_every_frame() -> None:
    done: list[int] = []
    label_references(recording(1), ColourTeacher(), CLASSES, (WIDTH, HEIGHT), 1.0, done.append)
    assert done == [0, 1, 2, 3, 4]


def test_packed_references_are_those_that_were_kept() -> None:
    packed = PackedReferences((WIDTH, HEIGHT))
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
    kept = [Reference(teacher=noise, human=None), Reference(teacher=truth(3), human=truth(4))]
    for reference in kept:
        packed.append(reference)
    for index in (1, 0):
        np.testing.assert_array_equal(packed[index].teacher, kept[index].teacher)
    assert packed[0].human is None
    human = packed[1].human
    assert human is not None
    np.testing.assert_array_equal(human, truth(4))
