"""How large the frames of a device should be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_server.frame_size import LEAST_BITS_PER_PIXEL, MOST_PIXELS, SCALES, FrameConfig, FrameSize

STUDENT = (208, 160)


def sizes() -> FrameSize:
    return FrameSize(FrameConfig(), STUDENT)


def test_more_bits_ask_for_larger_frames() -> None:
    found = [sizes().choose(1000 * kbit) for kbit in (4, 16, 32, 64, 128, 1000)]
    assert found == [(208, 160), (312, 240), (416, 320), (624, 480), (832, 640), (832, 640)]


def test_a_size_stays_while_the_bits_change_little() -> None:
    frame_size = sizes()
    assert frame_size.choose(30_000) == (416, 320)
    assert frame_size.choose(16_000) == (416, 320)
    assert frame_size.choose(12_000) == (312, 240)
    assert frame_size.choose(16_000) == (312, 240)


def test_what_the_server_is_told_is_asked_for_whatever_the_bits() -> None:
    both = FrameSize(FrameConfig(frame_width=640, frame_height=361), STUDENT)
    assert both.choose(1e3) == both.choose(1e9) == (640, 362)
    assert both.most_pixels == 640 * 362
    assert FrameSize(FrameConfig(frame_width=640), STUDENT).choose(1e9) == (640, 160)


def test_a_frame_has_bits_for_what_the_student_sees() -> None:
    pixels = 208 * 160
    assert sizes().wanted_bits(0.0) == pytest.approx(2.4 * pixels), "however long that takes"
    assert sizes().wanted_bits(40_000.0) == pytest.approx(3 * 40_000)
    assert sizes().wanted_bits(1e9) == pytest.approx(4.8 * pixels), "more is for more frames"
    for width, height, seen in ((640, 361, pixels), (104, 80, 104 * 80)):
        given_size = FrameSize(FrameConfig(frame_width=width, frame_height=height), STUDENT)
        assert given_size.wanted_bits(0.0) == pytest.approx(2.4 * seen)


def test_a_large_student_gets_frames_of_its_size() -> None:
    frame_size = FrameSize(FrameConfig(), (2049, 1025))
    assert frame_size.choose(1e9) == (2050, 1026)
    assert frame_size.most_pixels == 2050 * 1026


@given(
    student=st.tuples(st.integers(16, 3000), st.integers(16, 3000)), bits=st.lists(st.floats(0, 1e8), min_size=1, max_size=6)
)
def test_no_frame_is_ever_larger_than_is_promised(student: tuple[int, int], bits: list[float]) -> None:
    frame_size = FrameSize(FrameConfig(), student)
    for each in bits:
        width, height = frame_size.choose(each)
        assert width % 2 == height % 2 == 0
        assert (width, height) >= student
        assert width * height <= frame_size.most_pixels <= max(MOST_PIXELS, student[0] * student[1]) * 1.2
        if (width, height) > (student[0] + 1, student[1] + 1):
            assert width * height * LEAST_BITS_PER_PIXEL <= 1.2 * each
    assert SCALES[0] == 1
