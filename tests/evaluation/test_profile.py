from contextlib import suppress

import numpy as np
import pytest
from tests.server.session_support import ColourTeacher

from ams_common.clock import ManualClock
from ams_eval.profile import Profile, ProfiledTeacher


def test_parts_count_their_own_time_alone() -> None:
    clock = ManualClock()
    clock.sleep(50)
    profile = Profile(clock)
    clock.sleep(1)
    with profile.part("training"):
        clock.sleep(2)
        with profile.part("labelling"):
            clock.sleep(4)
        clock.sleep(8)
    clock.sleep(16)
    with profile.part("labelling"):
        clock.sleep(32)
    assert profile.seconds() == {"labelling": pytest.approx(36), "training": pytest.approx(10)}
    assert list(profile.seconds()) == ["labelling", "training"]
    assert profile.rest_s() == pytest.approx(17)


def test_a_part_that_fails_is_over() -> None:
    clock = ManualClock()
    profile = Profile(clock)
    with suppress(ValueError), profile.part("coding"):
        clock.sleep(1)
        raise ValueError("no")
    clock.sleep(5)
    assert profile.seconds() == {"coding": pytest.approx(1)}


def test_a_teacher_is_told_and_timed() -> None:
    clock = ManualClock()
    profile, teacher = Profile(clock), ColourTeacher(clock)
    profiled = ProfiledTeacher(teacher, profile)
    images = np.zeros((2, 4, 6, 3), np.uint8)
    assert profiled.label(images, [1.0, 2.0]).shape == (2, 4, 6)
    assert teacher.capture_times_s == [1.0, 2.0]
    assert (profiled.classes, profiled.identity) == (teacher.classes, teacher.identity)
    assert profile.seconds() == {"labelling": pytest.approx(0.05)}
