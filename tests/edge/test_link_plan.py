from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.budget import LEAST_BATCH_BYTES
from ams_common.messages import Control
from ams_edge.link_plan import MOST_STRETCHED, as_carried

CONTROL = Control(sampling_hz=2.0, batch_interval_s=1.0, batch_bytes=24_000, frame_width=48, frame_height=32)


def test_a_link_that_carries_all_changes_nothing() -> None:
    assert as_carried(CONTROL, 1.0) is CONTROL


def test_batches_become_smaller_and_then_more_seldom() -> None:
    assert as_carried(CONTROL, 0.3) == replace(CONTROL, batch_bytes=7200)
    seldom = as_carried(CONTROL, 0.1)
    assert seldom.batch_bytes == LEAST_BATCH_BYTES
    assert seldom.batch_interval_s == pytest.approx(LEAST_BATCH_BYTES / 2400)
    still = as_carried(CONTROL, 0.0)
    assert (still.batch_bytes, still.batch_interval_s) == (LEAST_BATCH_BYTES, MOST_STRETCHED)


def test_a_budget_whose_batches_are_tiny_keeps_them() -> None:
    tiny = replace(CONTROL, batch_bytes=100)
    assert as_carried(tiny, 0.5) == replace(tiny, batch_interval_s=2.0)


@given(st.floats(0.05, 1.0), st.integers(1, 10**6), st.floats(0.1, 60.0))
def test_the_rate_is_what_the_link_carries(share: float, batch_bytes: int, interval_s: float) -> None:
    asked = replace(CONTROL, batch_bytes=batch_bytes, batch_interval_s=interval_s)
    carried = as_carried(asked, share)
    rates = [each.batch_bytes / each.batch_interval_s for each in (asked, carried)]
    least_share = min(1.0, LEAST_BATCH_BYTES / batch_bytes) / MOST_STRETCHED
    assert rates[1] <= max(share, least_share) * rates[0] * 1.001
    assert rates[1] >= min(share, 1.0) * rates[0] - 1 / interval_s
