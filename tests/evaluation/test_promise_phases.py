import math

import pytest
from tests.evaluation.demo_results import run_log

from ams_eval.promise.counting_proxy import CountingProxy, Trace
from ams_eval.promise.phases import phase_of
from ams_eval.promise.trial import Finding, Trial, Use, outage, stall

STARTED_S = 100.0
"""The log has a report a second from then on, updates at 2.5 and 8 s, and a batch of 60 kB at 0.6 s."""


def finding() -> Finding:
    uplink, downlink = Trace(), Trace()
    for second in range(20):
        uplink.add(STARTED_S + second, 1000, 1)
        downlink.add(STARTED_S + second, 0, 2)
    trial = Trial(uplink_kbps=100.0, downlink_kbps=50.0, duration_s=20.0, actions=[], server_arguments=[], edge_arguments=[])
    up = Use(trace=uplink, rate_bps=100_000, other_bps=50_000, duration_s=20.0)
    down = Use(trace=downlink, rate_bps=50_000, other_bps=100_000, duration_s=20.0)
    return Finding(trial=trial, uplink=up, downlink=down, connections=1, started_s=STARTED_S, log=run_log())


def test_a_phase_has_the_rates_ages_and_ways_of_its_time_alone() -> None:
    phase = phase_of(finding(), 2.0, 7.0)
    assert phase.uplink_kbps == pytest.approx(8 * 1.052)
    assert phase.downlink_kbps == pytest.approx(8 * 0.104)
    assert phase.planned_uplink_kbps == 0.0
    assert phase.model_age_s.mean == pytest.approx(4.0), "from 3 to 5 s: those before an update have no age"
    assert phase.oldest_s == 5.0
    assert phase.updates == 1
    assert phase.latency_s == pytest.approx(2.0)
    assert phase.way_s["encode"] == pytest.approx(0.2)


def test_all_of_a_trial_is_a_phase_too() -> None:
    found = finding()
    phase = phase_of(found, 0.0, 20.0)
    assert (phase.updates, phase.oldest_s) == (2, 9.0)
    assert phase.planned_uplink_kbps == pytest.approx(24.0)
    assert phase.latency_s == pytest.approx(2.5)
    assert found.swaps_s == (2.5, 8.0)


def test_a_phase_in_which_nothing_happened_has_no_figures() -> None:
    phase = phase_of(finding(), 50.0, 60.0)
    assert (phase.uplink_kbps, phase.planned_uplink_kbps, phase.updates) == (0.0, 0.0, 0)
    assert all(map(math.isnan, (phase.model_age_s.mean, phase.oldest_s, phase.latency_s)))


def test_outages_and_stalls_are_two_actions_each() -> None:
    assert outage(5.0, 6.0) == [(5.0, CountingProxy.cut), (6.0, CountingProxy.restore)]
    assert stall(8.0, 9.0) == [(8.0, CountingProxy.stall), (9.0, CountingProxy.resume)]
