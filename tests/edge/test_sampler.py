from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.messages import Control
from ams_edge import sampler as sampler_module
from ams_edge.frame import Frame
from ams_edge.frame_filter import SETTLING_S, FilterConfig, View
from ams_edge.sampler import FIRST_PERIOD_S, Sample, Sampler

CONTROL = Control(sampling_hz=1.0, batch_interval_s=10.0, batch_bytes=100_000, frame_width=8, frame_height=4)
BLANK = np.zeros((8, 16, 3), np.uint8)


def frame_at(time_s: float) -> Frame:
    return Frame(BLANK, index=0, capture_time_s=time_s)


def kept_times(sampler: Sampler, times_s: list[float]) -> list[float]:
    return [time_s for time_s in times_s if sampler.offer(frame_at(time_s))]


def ticks(rate_hz: float, seconds: float) -> list[float]:
    return [index / rate_hz for index in range(round(rate_hz * seconds))]


def times_s(samples: list[Sample] | None) -> list[float]:
    assert samples is not None
    return [sample.capture_time_us / 1e6 for sample in samples]


@given(st.floats(5, 60), st.floats(0.1, 4))
def test_samples_are_evenly_spaced_at_the_wanted_rate(camera_hz: float, sampling_hz: float) -> None:
    sampler = Sampler(replace(CONTROL, sampling_hz=sampling_hz))
    kept = kept_times(sampler, ticks(camera_hz, 30))
    early_s = max(0.0, 1 / sampling_hz - FIRST_PERIOD_S)
    grid = np.arange(len(kept)) / sampling_hz - early_s * (np.arange(len(kept)) > 0)
    assert np.abs(np.array(kept) - grid).max() <= 0.5 / camera_hz + 1e-6
    assert abs(len(kept) - (30 + early_s) * sampling_hz) <= 1.5


def test_a_camera_slower_than_the_rate_loses_no_frame() -> None:
    sampler = Sampler(replace(CONTROL, sampling_hz=5.0))
    assert kept_times(sampler, ticks(2, 10)) == ticks(2, 10)


def test_a_pause_of_the_camera_is_not_made_up_for() -> None:
    sampler = Sampler(CONTROL)
    kept = kept_times(sampler, ticks(10, 3) + [100 + time_s for time_s in ticks(10, 3)])
    assert kept == pytest.approx([0, 1, 2, 100, 101, 102])


def test_a_new_rate_counts_from_the_last_sample() -> None:
    sampler = Sampler(CONTROL)
    assert kept_times(sampler, [time_s for time_s in ticks(10, 10) if time_s < 2.5]) == [0, 1, 2]
    sampler.set_control(replace(CONTROL, sampling_hz=0.25))
    assert kept_times(sampler, [time_s for time_s in ticks(10, 20) if time_s >= 2.5]) == [6, 10, 14, 18]


@pytest.mark.parametrize("sampling_hz", [0.0, -1.0, float("nan")])
def test_a_rate_of_nothing_keeps_nothing(sampling_hz: float) -> None:
    assert kept_times(Sampler(replace(CONTROL, sampling_hz=sampling_hz)), ticks(10, 3)) == []


def test_nothing_is_kept_before_the_server_has_spoken() -> None:
    sampler = Sampler()
    assert not sampler.offer(frame_at(0.0))
    assert sampler.cut(100.0) is None
    sampler.set_control(CONTROL)
    assert sampler.offer(frame_at(0.1))


def test_samples_have_the_wanted_size_and_the_time_of_their_frame() -> None:
    sampler = Sampler(CONTROL)
    picture = np.arange(8 * 16 * 3, dtype=np.uint8).reshape(8, 16, 3)
    frame = Frame(picture, index=7, capture_time_s=1.25)
    sampler.offer(frame)
    samples = sampler.flush()
    assert samples is not None
    assert samples[0].capture_time_us == 1_250_000
    assert np.array_equal(samples[0].image, frame.rgb(8, 4))


@pytest.mark.parametrize(("width", "height", "kept"), [(6, 3, (6, 2)), (20, 3, (8, 2)), (7, 9, (6, 4)), (8, 4, (8, 4))])
def test_a_sample_is_no_larger_than_its_frame_and_even(width: int, height: int, kept: tuple[int, int]) -> None:
    sampler = Sampler(CONTROL)
    sampler.offer(Frame(np.zeros((height, width, 3), np.uint8), index=0, capture_time_s=0.0))
    samples = sampler.flush()
    assert samples is not None
    assert samples[0].image.shape == (kept[1], kept[0], 3)


def test_the_first_batch_does_not_wait_for_samples_that_are_seldom() -> None:
    sampler = Sampler(replace(CONTROL, sampling_hz=0.25, batch_interval_s=4.0))
    cuts = []
    for time_s in ticks(10, 15):
        sampler.offer(frame_at(time_s))
        samples = sampler.cut(time_s)
        if samples is not None:
            cuts.append(times_s(samples))
    assert cuts == [[0.0, 1.0], [5.0], [9.0], [13.0]]


def test_the_first_batch_comes_early_and_the_others_once_an_interval() -> None:
    sampler = Sampler(CONTROL)
    batches = cuts(sampler, ticks(10, 35))
    assert [time_s for time_s, _ in batches] == [1, 11, 21, 31]
    assert batches[0][1] == [0, 1]
    assert batches[1][1] == list(range(2, 12))
    assert times_s(sampler.flush()) == [32, 33, 34]
    assert sampler.flush() is None


def cuts(sampler: Sampler, camera_times_s: list[float]) -> list[tuple[float, list[float]]]:
    """Return when each batch was cut, and its samples."""
    found = []
    for time_s in camera_times_s:
        sampler.offer(frame_at(time_s))
        if samples := sampler.cut(time_s):
            found.append((time_s, times_s(samples)))
    return found


@given(st.floats(5, 60), st.floats(0.2, 4), st.floats(0.5, 5))
def test_a_batch_ends_with_a_sample_that_need_not_wait_and_the_interval_holds_on_average(
    camera_hz: float, sampling_hz: float, interval_s: float
) -> None:
    sampler = Sampler(replace(CONTROL, sampling_hz=sampling_hz, batch_interval_s=interval_s))
    batches = cuts(sampler, ticks(camera_hz, 40))
    assert all(samples[-1] == pytest.approx(time_s, abs=2e-6) for time_s, samples in batches)
    expected_s = (len(batches) - 1) * max(interval_s, 1 / sampling_hz)
    assert batches[-1][0] - batches[0][0] == pytest.approx(expected_s, abs=1 / sampling_hz + 1 / camera_hz)


def test_each_sample_is_a_batch_where_the_interval_is_that_of_the_samples() -> None:
    sampler = Sampler(replace(CONTROL, sampling_hz=3.75, batch_interval_s=1 / 3.75))
    batches = cuts(sampler, ticks(30, 20))
    assert [len(samples) for _, samples in batches] == [2] + [1] * (len(batches) - 1)
    assert len(batches) == 74


def test_an_interval_without_samples_goes_on_until_there_is_one() -> None:
    sampler = Sampler(CONTROL)
    assert cuts(sampler, [0.0, 1.0, 14.0]) == [(1.0, [0.0, 1.0]), (14.0, [14.0])]
    assert sampler.cut(21.0) is None
    assert cuts(sampler, [60.0]) == [(60.0, [60.0])], "a pause is not made up for"
    assert cuts(sampler, [61.0, 69.4, 70.4]) == [(70.4, [61.0, 69.4, 70.4])]


def test_what_was_sampled_does_not_wait_for_a_rate_that_has_fallen() -> None:
    sampler = Sampler(replace(CONTROL, batch_interval_s=2.0))
    assert cuts(sampler, [0.0, 1.0, 2.0]) == [(1.0, [0.0, 1.0])]
    sampler.set_control(replace(CONTROL, sampling_hz=0.1, batch_interval_s=2.0))
    assert cuts(sampler, ticks(10, 12)[21:]) == [(4.0, [2.0])]


def test_a_longer_interval_holds_for_the_batch_in_hand() -> None:
    sampler = Sampler(CONTROL)
    kept_times(sampler, [0.0, 1.0])
    sampler.cut(1.0)
    kept_times(sampler, [2.0, 3.0])
    sampler.set_control(replace(CONTROL, batch_interval_s=20.0))
    assert sampler.cut(21.4) is None
    assert times_s(sampler.cut(21.5)) == [2, 3]


def test_another_size_starts_the_batch_anew() -> None:
    sampler = Sampler(CONTROL)
    sampler.offer(frame_at(0.0))
    sampler.set_control(replace(CONTROL, frame_width=16, frame_height=8))
    sampler.offer(frame_at(1.0))
    samples = sampler.flush()
    assert samples is not None
    assert [sample.image.shape for sample in samples] == [(8, 16, 3)]
    assert sampler.dropped == 1


def test_the_oldest_samples_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_module, "BUFFER_BYTES", 5 * 8 * 4 * 3)
    sampler = Sampler(CONTROL)
    kept_times(sampler, ticks(1, 12))
    assert times_s(sampler.flush()) == [7, 8, 9, 10, 11]
    assert sampler.dropped == 7


def test_frames_that_the_model_knows_are_skipped_and_the_grid_goes_on() -> None:
    sampler = Sampler(CONTROL, FilterConfig(skip_below=0.1, longest_skip_s=20.0))
    known = View(labels=np.zeros((2, 2), np.uint8), learnt_us=10**9)
    after_s = [SETTLING_S + time_s for time_s in ticks(10, 50)]
    assert sampler.offer(frame_at(0.0), lambda: known)
    kept = [time_s for time_s in after_s if sampler.offer(frame_at(time_s), lambda: known)]
    assert [time_s - SETTLING_S for time_s in kept] == pytest.approx([0, 20, 40])
    assert sampler.skipped == 47


def test_without_a_model_no_frame_is_skipped() -> None:
    sampler = Sampler(CONTROL, FilterConfig(skip_below=1.0))
    assert kept_times(sampler, ticks(1, 90)) == ticks(1, 90)
    assert sampler.skipped == 0
