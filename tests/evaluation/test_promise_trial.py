import pytest
from tests.evaluation.demo_results import run_log

from ams_eval.promise.counting_proxy import Trace
from ams_eval.promise.trial import Finding, Trial, Use


def use(*sizes_bytes: int, rate_bps: float = 8000.0, other_bps: float = 8000.0) -> Use:
    """What went one second apart, in a trial of 40 s."""
    trace = Trace()
    for second, size_bytes in enumerate(sizes_bytes):
        trace.times_s.append(float(second))
        trace.wire_bytes.append(size_bytes)
    return Use(trace=trace, rate_bps=rate_bps, other_bps=other_bps, duration_s=40.0)


def finding(up: Use, down: Use) -> Finding:
    trial = Trial(uplink_kbps=8.0, downlink_kbps=80.0, duration_s=40.0, actions=[], server_arguments=[], edge_arguments=[])
    return Finding(trial=trial, uplink=up, downlink=down, connections=1, started_s=0.0, log=run_log())


def test_a_direction_is_held_to_its_own_budget() -> None:
    # 20 kB at once in a window of 10 s that may have 10 kB; the burst of 8 kbit/s is 32 kB.
    assert use(20_000).excess_bytes == pytest.approx(10_000)
    assert use(20_000).burst_bytes == 32_000
    assert use(20_000).kept
    assert not use(43_000).kept
    assert use(43_000, rate_bps=80_000.0).kept
    assert use(8_000).share == pytest.approx(0.2)


def test_the_burst_is_smaller_far_above_the_budget_of_the_other_direction() -> None:
    even, uneven = (use(8_000, rate_bps=200_000.0, other_bps=other_bps).burst_bytes for other_bps in (200_000.0, 25_000.0))
    assert even == 300_000
    assert uneven == pytest.approx(4.2 * use(8_000, rate_bps=25_000.0, other_bps=200_000.0).burst_bytes, rel=0.01)


def test_a_promise_is_kept_when_both_directions_keep_theirs() -> None:
    assert finding(use(42_000), use(42_000)).kept
    assert not finding(use(43_000), use(42_000)).kept
    assert not finding(use(42_000), use(43_000)).kept
