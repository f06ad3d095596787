import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ams_common.budget import LEAST_BATCH_BYTES
from ams_common.frame_bits import UPLOAD_S
from ams_common.messages import Control
from ams_edge.link_plan import MOST_STRETCHED, as_carried

CONTROL = Control(sampling_hz=2.0, batch_interval_s=1.0, batch_bytes=24_000, frame_width=48, frame_height=32)
SINGLES = replace(CONTROL, sampling_hz=1.0, worthwhile_frame_bytes=10_000)


def rate_bps(control: Control) -> float:
    return 8 * control.batch_bytes / control.batch_interval_s


@pytest.mark.parametrize("carried_bps", [192_000.0, 1e9, math.inf])
def test_a_link_that_carries_all_changes_nothing(carried_bps: float) -> None:
    assert as_carried(CONTROL, carried_bps) == CONTROL
    assert as_carried(SINGLES, carried_bps) == SINGLES


def test_frames_keep_the_bits_that_make_them_worth_labelling() -> None:
    most, half, tenth, least = (as_carried(SINGLES, share * rate_bps(SINGLES)) for share in (0.9, 0.5, 0.1, 0.04))
    assert most.sampling_hz == 1.0
    assert most.batch_bytes == 21_600
    assert half.sampling_hz == pytest.approx(0.6)
    assert half.batch_bytes == 20_000, "twice what is worthwhile is enough"
    assert tenth.sampling_hz == pytest.approx(0.24)
    assert tenth.batch_bytes == 10_000
    assert least.sampling_hz == pytest.approx(1 / MOST_STRETCHED)
    assert least.batch_bytes == 4800
    assert least.batch_interval_s == MOST_STRETCHED


def test_a_frame_that_would_be_late_has_no_more_than_is_worthwhile() -> None:
    slow = replace(SINGLES, worthwhile_frame_bytes=15_000)
    assert as_carried(slow, 46_080).batch_bytes == pytest.approx(UPLOAD_S * 46_080 / 8, abs=1)
    assert as_carried(slow, 24_000).batch_bytes == 15_000


@pytest.mark.parametrize(
    ("carried_bps", "frame_bytes"), [(80_000, 30_000), (60_000, 22_500), (40_000, 15_000), (20_000, 15_000)]
)
def test_a_seldom_frame_is_not_late_either(carried_bps: float, frame_bytes: int) -> None:
    seldom = replace(CONTROL, sampling_hz=0.1, batch_interval_s=10.0, batch_bytes=47_000, worthwhile_frame_bytes=15_000)
    carried = as_carried(seldom, carried_bps)
    assert (carried.sampling_hz, carried.batch_interval_s) == (0.1, 10.0), "the link carries that many frames"
    assert carried.batch_bytes == frame_bytes


def test_a_batch_of_several_frames_has_fewer_of_them_in_about_the_same_time() -> None:
    many = replace(CONTROL, sampling_hz=4.0, worthwhile_frame_bytes=6000)
    carried = as_carried(many, 96_000)
    assert carried.sampling_hz == 2.0
    assert carried.batch_bytes == 12_000
    assert carried.batch_interval_s == pytest.approx(1.0)
    crowd = replace(CONTROL, sampling_hz=20.0, batch_bytes=40_000, worthwhile_frame_bytes=1000)
    few = as_carried(crowd, 32_000)
    assert few.sampling_hz == 4.0
    assert few.batch_interval_s == pytest.approx(1.25), "five frames make a batch that is worth sending"
    assert few.batch_bytes == 5000


def test_where_any_frame_will_do_they_become_smaller_and_then_more_seldom() -> None:
    assert as_carried(CONTROL, 0.3 * 192_000) == replace(CONTROL, batch_bytes=7200)
    seldom = as_carried(CONTROL, 0.1 * 192_000)
    assert seldom.batch_bytes == LEAST_BATCH_BYTES
    assert seldom.batch_interval_s == pytest.approx(LEAST_BATCH_BYTES / 2400)
    assert seldom.sampling_hz == pytest.approx(2.0 * 2400 / LEAST_BATCH_BYTES)
    still = as_carried(CONTROL, 0.0)
    assert (still.batch_bytes, still.batch_interval_s) == (LEAST_BATCH_BYTES, MOST_STRETCHED)


def test_a_budget_whose_batches_are_tiny_keeps_them() -> None:
    tiny = replace(CONTROL, batch_bytes=100)
    assert as_carried(tiny, 400) == replace(tiny, sampling_hz=1.0, batch_interval_s=2.0)


def test_a_batch_of_less_than_a_frame_counts_as_one() -> None:
    sparse = replace(CONTROL, sampling_hz=0.1, batch_interval_s=1.0)
    assert as_carried(sparse, 19_200) == replace(sparse, batch_bytes=LEAST_BATCH_BYTES)


@st.composite
def controls(draw: st.DrawFn) -> Control:
    """Return what servers may ask for."""
    frames, interval_s = draw(st.integers(1, 20)), draw(st.floats(0.1, 60.0))
    return replace(
        CONTROL,
        sampling_hz=frames / interval_s,
        batch_bytes=draw(st.integers(1, 10**6)),
        batch_interval_s=interval_s,
        worthwhile_frame_bytes=draw(st.integers(0, 10**6)),
    )


@given(controls(), st.floats(0.001, 10.0))
def test_no_more_than_the_link_carries_is_sent_and_nothing_is_late(asked: Control, share: float) -> None:
    carried_bps = share * rate_bps(asked)
    carried = as_carried(asked, carried_bps)
    frames, together = (each.sampling_hz * each.batch_interval_s for each in (asked, carried))
    assert together == pytest.approx(round(together)), "a whole number of frames"
    assert carried.batch_bytes <= asked.batch_bytes
    least_bytes = min(LEAST_BATCH_BYTES, asked.batch_bytes)
    if carried.batch_bytes > least_bytes:
        assert rate_bps(carried) <= 1.001 * carried_bps
    if round(together) == 1:
        late_bytes = max(asked.worthwhile_frame_bytes, UPLOAD_S * carried_bps / 8, least_bytes)
        assert carried.batch_bytes <= 1.001 * late_bytes
    assert asked.sampling_hz / MOST_STRETCHED * 0.999 <= carried.sampling_hz <= asked.sampling_hz
    if carried.sampling_hz > asked.sampling_hz / MOST_STRETCHED * 1.001:
        worthwhile_bytes = min(asked.worthwhile_frame_bytes, asked.batch_bytes / frames)
        assert carried.batch_bytes / together >= worthwhile_bytes * 0.999 - 1


@given(controls(), st.floats(0.001, 0.99))
def test_what_the_link_carries_is_used_unless_frames_would_be_late(asked: Control, share: float) -> None:
    carried_bps = share * rate_bps(asked)
    carried = as_carried(asked, carried_bps)
    assume(carried.batch_interval_s <= UPLOAD_S or carried.sampling_hz * carried.batch_interval_s > 1.5)
    assert rate_bps(carried) >= carried_bps - 8 / carried.batch_interval_s
