import dataclasses
from collections.abc import Iterator, Sequence
from functools import cache

import cv2
import numpy as np
import pytest
from tests.evaluation.replays import RATE_HZ, recording, stage
from tests.server.session_support import HEIGHT, WIDTH, ColourTeacher

from ams_common.budget import burst_bytes
from ams_common.classes import IGNORE, UInt8Array
from ams_common.clock import ManualClock
from ams_edge.frame import Frame
from ams_eval.replay.device import Shown
from ams_eval.replay.latency import NetworkConfig
from ams_eval.schemes import no_customisation, tracking
from ams_eval.schemes.base import Stage
from ams_eval.schemes.tracking import nearest_known
from ams_server.teachers.base import Teacher

SPEED = 3
"""Pixels that the view moves on from frame to frame."""
VIEW_HEIGHT, VIEW_WIDTH = 2 * HEIGHT, 2 * WIDTH


@cache
def panorama() -> UInt8Array:
    """Return a long rough wall with blue fields, RGB."""
    noise = np.random.default_rng(5).random((VIEW_HEIGHT, 1000)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    rough = (80 * (smooth - smooth.min()) / (smooth.max() - smooth.min())).astype(np.uint8)
    wall = np.stack([rough + 80] * 3, axis=-1)
    for left in range(20, 1000, 70):
        wall[10:40, left : left + 35, 0] //= 2
        wall[10:40, left : left + 35, 2] += 80
    return wall


def view(index: int) -> UInt8Array:
    return panorama()[:, SPEED * index : SPEED * index + VIEW_WIDTH]


def drive(seconds: float) -> Iterator[Frame]:
    for index in range(round(RATE_HZ * seconds)):
        yield Frame(np.ascontiguousarray(view(index)), index=index, capture_time_s=index / RATE_HZ)


def truth(index: int) -> UInt8Array:
    """Return where the view shows wall (0) and blue (1), at the student's size."""
    picture = view(index).astype(int)
    return (picture[::2, ::2, 2] > picture[::2, ::2, 0] + 20).astype(np.uint8)


def staged(
    seconds: float, network: NetworkConfig | None = None, teacher: Teacher | None = None, clock: ManualClock | None = None
) -> Stage:
    on = stage(seconds=seconds, network=network, stopwatch=clock, teacher=teacher)
    return dataclasses.replace(on, recording=dataclasses.replace(recording(seconds), frames=lambda: drive(seconds)))


def tracked(seconds: float = 6, **network: str | float) -> tuple[Stage, list[Shown]]:
    on = staged(seconds, NetworkConfig.model_validate(network))
    return on, list(tracking.label(on))


def right(shown: Shown) -> float:
    return float((shown.labels == truth(shown.frame.index)).mean())


def unmoved(shown: Shown, sampled: int) -> float:
    """Return how much the labels of frame `sampled` would be right at the frame of `shown`."""
    return float((truth(sampled) == truth(shown.frame.index)).mean())


def test_without_latency_a_sampled_frame_has_the_labels_of_the_teacher_itself() -> None:
    on, shown = tracked()
    assert [each.frame.index for each in shown] == list(range(6 * RATE_HZ))
    assert {each.version for each in shown} == {0}
    assert min(right(each) for each in shown[::RATE_HZ]) > 0.94
    assert min(right(each) for each in shown) > 0.93
    last = [each for each in shown if each.frame.index % RATE_HZ == RATE_HZ - 1]
    assert max(unmoved(each, each.frame.index - RATE_HZ + 1) for each in last) < 0.87
    assert on.journal.frames_labelled == 6
    assert not on.journal.updates


def test_pictures_and_label_maps_are_counted() -> None:
    on, _ = tracked()
    up = [each for each in on.journal.transfers if each.direction == "up"]
    down = [each for each in on.journal.transfers if each.direction == "down"]
    assert [each.time_s for each in up] == [each.time_s for each in down] == [0, 1, 2, 3, 4, 5]
    assert {each.kind for each in up} == {"frames"}
    assert {each.kind for each in down} == {"labels"}
    for each in on.journal.transfers:
        assert each.wire_bytes > each.payload_bytes + tracking.HEADER_BYTES > 100


def test_labels_that_come_late_are_carried_to_where_things_are_now() -> None:
    on, shown = tracked(latency="label=0.5", link="150ms")
    start = list(no_customisation.label(staged(seconds=1)))
    for each, pretrained in zip(shown[:4], start, strict=False):
        np.testing.assert_array_equal(each.labels, pretrained.labels)
    assert min(right(each) for each in shown[4:]) > 0.88
    # They come back at 0.8 s, when the view has moved on by 12 pixels.
    assert max(unmoved(each, each.frame.index - 4) for each in shown[4::RATE_HZ]) < 0.87
    assert [each.time_s for each in on.journal.transfers if each.kind == "labels"] == pytest.approx(
        [0.65, 1.65, 2.65, 3.65, 4.65, 5.65]
    )


def test_no_picture_is_sent_while_two_are_underway() -> None:
    on, _ = tracked(seconds=8, latency="label=2.5")
    sent = [each.time_s for each in on.journal.transfers if each.kind == "frames"]
    # Those of 0 s and 1 s are labelled at 2.5 s and 5 s, that of 3 s at 7.5 s.
    assert sent == [0, 1, 3, 5]


def test_measured_latency_is_the_time_of_the_teacher() -> None:
    clock = ManualClock()
    on = staged(3, NetworkConfig(latency="measured"), ColourTeacher(clock), clock)
    shown = list(tracking.label(on))
    assert [each.time_s for each in on.journal.transfers if each.kind == "labels"] == pytest.approx([0.05, 1.05, 2.05])
    assert right(shown[1]) > 0.9


def test_a_budget_delays_pictures() -> None:
    on, _ = tracked(seconds=24, uplink_kbps=4)
    sent = [each.time_s for each in on.journal.transfers if each.kind == "frames"]
    assert 2 <= len(sent) < 24
    total_bits = 8 * sum(each.payload_bytes for each in on.journal.transfers if each.kind == "frames")
    assert total_bits < 4000 * 24 + 8 * burst_bytes(4000)


def test_two_runs_show_and_send_the_same() -> None:
    (one, shown), (two, again) = tracked(seconds=3), tracked(seconds=3)
    assert [each.labels.tobytes() for each in shown] == [each.labels.tobytes() for each in again]
    assert one.journal.transfers == two.journal.transfers


class HazyTeacher(ColourTeacher):
    """Sees nothing in a strip in the middle."""

    def label(self, images: UInt8Array, capture_times_s: Sequence[float]) -> UInt8Array:
        labels = super().label(images, capture_times_s)
        labels[:, :, 60:64] = IGNORE
        return labels


def test_a_device_shows_a_class_everywhere() -> None:
    for each in tracking.label(staged(2, teacher=HazyTeacher())):
        assert right(each) > 0.9
        assert each.labels.max() <= 1


def test_unknown_pixels_take_the_nearest_label() -> None:
    labels = np.array([[3, IGNORE, IGNORE, IGNORE, 4], [3, IGNORE, IGNORE, 4, IGNORE]], np.uint8)
    assert nearest_known(labels)[0, 1] == 3
    assert nearest_known(labels)[0, 3] == nearest_known(labels)[1, 4] == nearest_known(labels)[1, 2] == 4
    known = labels != IGNORE
    np.testing.assert_array_equal(nearest_known(labels)[known], labels[known])
    blank = np.full((3, 4), IGNORE, np.uint8)
    assert nearest_known(blank) is blank
