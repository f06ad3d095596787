from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.budget import LEAST_BATCH_BYTES
from ams_common.frame_bits import UPLOAD_S
from ams_common.messages import Control
from ams_edge.link_plan import MOST_STRETCHED, as_carried, planned_bps

CONTROL = Control(sampling_hz=2.0, batch_interval_s=1.0, batch_bytes=24_000, frame_width=48, frame_height=32)
SINGLES = replace(CONTROL, sampling_hz=1.0, worthwhile_frame_bytes=10_000)


def test_a_link_that_carries_all_changes_nothing() -> None:
    assert as_carried(CONTROL, 1.0) is CONTROL
    assert as_carried(SINGLES, 1.5) is SINGLES


def test_frames_keep_the_bits_that_make_them_worth_labelling() -> None:
    half, tenth, least = (as_carried(SINGLES, share) for share in (0.5, 0.1, 0.04))
    assert half.sampling_hz == pytest.approx(0.6)
    assert half.batch_bytes == 20_000, "twice what is worthwhile is enough"
    assert tenth.sampling_hz == pytest.approx(0.24)
    assert tenth.batch_bytes == 10_000
    assert least.sampling_hz == pytest.approx(1 / MOST_STRETCHED)
    assert least.batch_bytes == 4800
    assert least.batch_interval_s == MOST_STRETCHED


def test_a_frame_that_would_be_late_has_no_more_than_is_worthwhile() -> None:
    slow = replace(SINGLES, worthwhile_frame_bytes=15_000)
    carried = as_carried(slow, 0.24)
    assert carried.batch_bytes == pytest.approx(UPLOAD_S * 0.24 * 24_000, abs=1)
    assert as_carried(slow, 0.125).batch_bytes == 15_000


def test_a_batch_of_several_frames_has_fewer_of_them_in_about_the_same_time() -> None:
    many = replace(CONTROL, sampling_hz=4.0, worthwhile_frame_bytes=6000)
    carried = as_carried(many, 0.5)
    assert carried.sampling_hz == 2.0
    assert carried.batch_bytes == 12_000
    assert carried.batch_interval_s == pytest.approx(1.0)


def test_where_any_frame_will_do_they_become_smaller_and_then_more_seldom() -> None:
    assert as_carried(CONTROL, 0.3) == replace(CONTROL, batch_bytes=7200)
    seldom = as_carried(CONTROL, 0.1)
    assert seldom.batch_bytes == LEAST_BATCH_BYTES
    assert seldom.batch_interval_s == pytest.approx(LEAST_BATCH_BYTES / 2400)
    assert seldom.sampling_hz == pytest.approx(2.0 * 2400 / LEAST_BATCH_BYTES)
    still = as_carried(CONTROL, 0.0)
    assert (still.batch_bytes, still.batch_interval_s) == (LEAST_BATCH_BYTES, MOST_STRETCHED)


def test_a_budget_whose_batches_are_tiny_keeps_them() -> None:
    tiny = replace(CONTROL, batch_bytes=100)
    assert as_carried(tiny, 0.5) == replace(tiny, sampling_hz=1.0, batch_interval_s=2.0)


@given(st.floats(0.05, 1.0), st.integers(1, 10**6), st.integers(1, 20), st.floats(0.1, 60.0), st.integers(0, 10**6))
def test_the_rate_is_what_the_link_carries(share: float, batch_bytes: int, frames: int, interval_s: float, least: int) -> None:
    asked = replace(
        CONTROL,
        sampling_hz=frames / interval_s,
        batch_bytes=batch_bytes,
        batch_interval_s=interval_s,
        worthwhile_frame_bytes=least,
    )
    carried = as_carried(asked, share)
    least_share = min(1.0, LEAST_BATCH_BYTES / batch_bytes) / MOST_STRETCHED
    assert planned_bps(carried) <= max(share, least_share) * planned_bps(asked) * 1.001
    assert planned_bps(carried) >= share * planned_bps(asked) - 8 / carried.batch_interval_s
    # A whole number of frames, of which none has less than it is worth unless frames come as seldom as may be.
    together = carried.sampling_hz * carried.batch_interval_s
    assert together == pytest.approx(round(together))
    assert carried.sampling_hz >= asked.sampling_hz / MOST_STRETCHED * 0.999
    if carried.sampling_hz > asked.sampling_hz / MOST_STRETCHED * 1.001:
        assert carried.batch_bytes / together >= min(least, batch_bytes / frames) * 0.999 - 1
