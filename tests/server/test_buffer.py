import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ams_server.buffer import BUFFER_BYTES, TrainingBuffer, capacity_for


def filled(times_s: list[float], horizon_s: float = 240.0, capacity: int = 512) -> TrainingBuffer:
    """Samples whose pixels hold their ordinal number."""
    buffer = TrainingBuffer(horizon_s, capacity)
    for number, time_s in enumerate(times_s):
        buffer.add(np.full((4, 6, 3), number, np.uint8), np.full((4, 6), number, np.uint8), time_s)
    return buffer


def test_what_is_older_than_the_horizon_behind_the_newest_is_dropped() -> None:
    buffer = filled([0.0, 5.0, 10.0, 15.0], horizon_s=10.0)
    assert buffer.capture_times_s == (5.0, 10.0, 15.0)
    buffer.add(np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8), 100.0)
    assert list(buffer.capture_times_s) == [100.0]


def test_a_late_frame_is_sorted_in_or_dropped() -> None:
    assert filled([0.0, 20.0, 12.0, 5.0], horizon_s=10.0).capture_times_s == (12.0, 20.0)


def test_the_count_is_bounded_and_the_oldest_go_first() -> None:
    assert filled([1.0, 2.0, 4.0, 3.0], capacity=2).capture_times_s == (3.0, 4.0)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=60), st.floats(0.1, 500), st.integers(1, 20))
def test_never_older_than_the_horizon_nor_more_than_the_capacity(times_s: list[float], horizon_s: float, capacity: int) -> None:
    kept = filled(times_s, horizon_s, capacity).capture_times_s
    recent = sorted(time_s for time_s in times_s if time_s >= max(times_s) - horizon_s)
    assert list(kept) == recent[-capacity:]


@pytest.mark.parametrize(
    ("horizon_s", "sampling_hz", "side", "expected"),
    [(240.0, 1.0, 256, 241), (10.0, 0.25, 256, 3), (0.1, 1.0, 256, 1), (1.7e308, 60.0, 1024, 256), (240.0, 1.0, 4096, 16)],
)
def test_the_capacity_follows_the_horizon_as_far_as_the_memory_goes(
    horizon_s: float, sampling_hz: float, side: int, expected: int
) -> None:
    capacity = capacity_for(horizon_s, sampling_hz, width=side, height=side)
    assert capacity == expected
    image, labels = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
    assert capacity * (image.nbytes + labels.nbytes) <= BUFFER_BYTES


def test_all_samples_of_the_horizon_have_room() -> None:
    assert len(filled([float(time_s) for time_s in range(30)], 10.0, capacity_for(10.0, 1.0, width=6, height=4))) == 11


def test_pixels_of_each_class_are_counted_as_long_as_they_are_there() -> None:
    buffer = filled([0.0, 5.0, 255.0], horizon_s=252.0)
    labels = np.full((4, 6), 1, np.uint8)
    labels[0] = 255
    buffer.add(np.zeros((4, 6, 3), np.uint8), labels, 256.0)
    assert {number: int(count) for number, count in enumerate(buffer.class_pixels) if count} == {1: 24 + 18, 2: 24}
    buffer.clear()
    assert int(buffer.class_pixels.sum()) == 0


def test_samples_are_channels_last_bytes_with_their_own_labels() -> None:
    images, labels = filled([float(time_s) for time_s in range(10)]).sample(32, torch.Generator().manual_seed(1))
    assert images.shape == (32, 3, 4, 6)
    assert labels.shape == (32, 4, 6)
    assert images.dtype == labels.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images[:, 0], labels)


def test_channels_keep_their_order() -> None:
    buffer = TrainingBuffer(1.0, 4)
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    buffer.add(image, np.zeros((4, 6), np.uint8), 0.0)
    images, _ = buffer.sample(1, torch.Generator())
    np.testing.assert_array_equal(images[0].numpy(), image.transpose(2, 0, 1))


def test_drawing_is_uniform_with_replacement_and_follows_the_seed() -> None:
    buffer = filled([float(time_s) for time_s in range(5)])
    _, labels = buffer.sample(5000, torch.Generator().manual_seed(2))
    counts = np.bincount(labels[:, 0, 0].numpy(), minlength=5)
    assert (np.abs(counts - 1000) < 150).all()
    _, again = buffer.sample(5000, torch.Generator().manual_seed(2))
    _, other = buffer.sample(5000, torch.Generator().manual_seed(3))
    assert torch.equal(labels, again)
    assert not torch.equal(labels, other)


def test_new_frames_are_drawn_more_often_and_old_ones_still() -> None:
    """By e in 10 s of age, down to a sixth: in these shares of the sum."""
    buffer = TrainingBuffer(240.0, 4, recency_s=10.0)
    for time_s in (0.0, 80.0, 90.0, 100.0):
        buffer.add(np.zeros((4, 6, 3), np.uint8), np.full((4, 6), time_s, np.uint8), time_s)
    _, labels = buffer.sample(20_000, torch.Generator().manual_seed(2))
    counts = np.bincount(labels[:, 0, 0].numpy(), minlength=101)[[0, 80, 90, 100]]
    chances = np.array([1 / 6, 1 / 6, np.exp(-1), 1.0])
    np.testing.assert_allclose(counts / 20_000, chances / chances.sum(), atol=0.015)
    _, again = buffer.sample(20_000, torch.Generator().manual_seed(2))
    assert torch.equal(labels, again)


def test_frames_are_copied() -> None:
    image, labels = np.ones((2, 2, 3), np.uint8), np.ones((2, 2), np.uint8)
    buffer = TrainingBuffer(1.0, 4)
    buffer.add(image, labels, 0.0)
    image[:], labels[:] = 0, 0
    images, drawn = buffer.sample(1, torch.Generator())
    assert images.all()
    assert drawn.all()


def test_a_read_only_frame_is_taken() -> None:
    image = np.ones((2, 2, 3), np.uint8)
    image.setflags(write=False)
    buffer = TrainingBuffer(1.0, 4)
    buffer.add(image, image[..., 0], 0.0)
    assert len(buffer) == 1


def test_the_newest_samples_come_oldest_first() -> None:
    buffer = filled([4.0, 1.0, 3.0, 2.0])
    assert [sample.capture_time_s for sample in buffer.newest(2)] == [3.0, 4.0]
    assert [sample.capture_time_s for sample in buffer.newest(9)] == [1.0, 2.0, 3.0, 4.0]
    assert filled([]).newest(2) == []


def test_clear_forgets_the_clock_too() -> None:
    buffer = filled([1000.0])
    buffer.clear()
    assert len(buffer) == 0
    buffer.add(np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8), 1.0)
    assert buffer.capture_times_s == (1.0,)


@pytest.mark.parametrize(("image", "labels"), [((2, 2, 3), (2, 3)), ((3, 2, 2), (2, 2)), ((8, 8, 3), (8, 8))])
def test_a_caller_that_mixes_shapes_up_is_told(image: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(AssertionError):
        filled([0.0]).add(np.zeros(image, np.uint8), np.zeros(labels, np.uint8), 0.0)
