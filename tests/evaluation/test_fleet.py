import itertools

import numpy as np
import pytest
from tests.evaluation.replays import RATE_HZ, stage
from tests.server.session_support import ColourTeacher

from ams_eval.fleet import Fleet
from ams_eval.replay.latency import NetworkConfig
from ams_eval.schemes import adaptation

COSTS = NetworkConfig(latency="label=0.05,step=0.05")


def test_a_fleet_of_one_is_a_device_of_its_own() -> None:
    alone, fleet = stage(seconds=15, network=COSTS), stage(seconds=15, network=COSTS)
    own = list(adaptation.label(alone))
    shared = [shown for _, shown in Fleet([fleet]).label()]
    assert [each.version for each in shared] == [each.version for each in own]
    assert fleet.journal.updates[1:] == alone.journal.updates[1:]
    for one, other in zip(own, shared, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)


def test_devices_wait_for_each_other_and_each_frame_is_shown_once() -> None:
    stages = [stage(seconds=16, network=COSTS, seed=seed) for seed in range(6)]
    fleet = Fleet(stages)
    shown = list(fleet.label())
    times_s = [each.frame.capture_time_s for _, each in shown]
    assert times_s == sorted(times_s)
    for index, on in enumerate(stages):
        assert [each.frame.index for device, each in shown if device == index] == list(range(16 * RATE_HZ))
        starts = [update.time_s - update.train_s - update.label_s for update in on.journal.updates]
        assert starts == sorted(starts)
    waits = [update.queue_s for on in stages for update in on.journal.updates]
    assert max(waits) > 0.5
    # Six devices want 0.95 s each in every 4 s: more than there is.
    assert fleet.busy_share > 0.9
    spans = sorted(
        (on.journal.starts_s + update.time_s - update.label_s - update.train_s, on.journal.starts_s + update.time_s)
        for on in stages
        for update in on.journal.updates
    )
    for (_, end_s), (start_s, _) in itertools.pairwise(spans):
        assert start_s >= end_s - 1e-9


def test_one_device_alone_leaves_the_accelerator_time() -> None:
    on = stage(seconds=16, network=COSTS)
    fleet = Fleet([on])
    list(fleet.label())
    assert 0.1 < fleet.busy_share < 0.5
    assert all(update.queue_s == pytest.approx(0) for update in on.journal.updates)


def test_each_device_asks_for_labels_by_the_time_of_its_own_recording() -> None:
    teachers = [ColourTeacher() for _ in range(3)]
    fleet = Fleet([stage(seconds=12, network=COSTS, teacher=teacher) for teacher in teachers])
    list(fleet.label())
    for teacher in teachers:
        assert teacher.capture_times_s[0] == pytest.approx(0.0, abs=1e-6)
        assert max(teacher.capture_times_s) <= 12.0
