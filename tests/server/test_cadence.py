import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_server.cadence import BATCHES_PER_UPDATE, LONGEST_BATCH_S, WORTHWHILE_BYTES, batch_cadence


@pytest.mark.parametrize(
    ("update_interval_s", "sampling_hz", "uplink_bps", "interval_s", "budgeted_s"),
    [
        (10.0, 1.0, 200_000, 1.0, 1.0),
        (5.0, 2.0, 200_000, 1.0, 1.0),
        (2.0, 5.0, 1_000_000, 0.4, 0.4),
        (40.0, 1.0, 200_000, 1.0, 1.0),
        (10.0, 1.0, 48_000, 2.0, 2.0),
        (10.0, 1.0, 24_000, 4.0, 4.0),
        (10.0, 1.0, 6_000, 10.0, 10.0),
        (10.0, 0.7, 200_000, 1 / 0.7, 1 / 0.7),
        (10.0, 0.1, 200_000, 10.0, 2.0),
        (5.0, 0.1, 200_000, 10.0, 2.0),
        (10.0, 0.1, 24_000, 10.0, 4.0),
        (3.0, 0.1, 6_000, 10.0, 3.0),
        (2.6, 1.0, 24_000, 2.0, 2.0),
        (10.0, 1.0, 36_000, 3.0, 3.0),
        (0.2, 1.0, 200_000, 1.0, 1.0),
    ],
)
def test_cadence(update_interval_s: float, sampling_hz: float, uplink_bps: float, interval_s: float, budgeted_s: float) -> None:
    cadence = batch_cadence(update_interval_s, sampling_hz, uplink_bps)
    assert cadence.interval_s == pytest.approx(interval_s)
    assert cadence.frames == round(interval_s * sampling_hz)
    assert cadence.budgeted_s == pytest.approx(budgeted_s)


def test_a_frame_that_needs_more_bytes_may_be_late() -> None:
    assert batch_cadence(10.0, 0.1, 200_000, wanted_frame_s=5.0).budgeted_s == 5.0
    assert batch_cadence(10.0, 0.1, 200_000, wanted_frame_s=50.0).budgeted_s == 10.0


@given(st.floats(1, 600), st.floats(0.1, 10), st.floats(1e3, 1e9))
def test_batches_hold_whole_frames_and_keep_to_the_budget(
    update_interval_s: float, sampling_hz: float, uplink_bps: float
) -> None:
    interval_s, frames, budgeted_s = batch_cadence(update_interval_s, sampling_hz, uplink_bps)
    assert interval_s * sampling_hz == pytest.approx(frames)
    assert frames >= 1
    assert budgeted_s <= interval_s
    if interval_s > 1.5 / sampling_hz:
        assert interval_s <= 1.5 * max(
            min(LONGEST_BATCH_S, update_interval_s / BATCHES_PER_UPDATE), 8 * WORTHWHILE_BYTES / uplink_bps
        )
