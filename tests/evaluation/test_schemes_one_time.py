from dataclasses import replace

import numpy as np
import pytest
from tests.evaluation.replays import RATE_HZ, config, recording, stage, truth
from tests.server.session_support import ColourTeacher, small_session

from ams_common.budget import allowance
from ams_common.iou import confusion_matrix, mean_iou
from ams_eval.replay.device import Shown
from ams_eval.replay.latency import NetworkConfig
from ams_eval.schemes import one_time
from ams_eval.schemes.base import Stage
from ams_eval.schemes.registry import parse_scheme
from ams_server.learners.base import LabelledFrames
from ams_server.wire_costs import largest_payload_bytes

SPAN_S = 12.0


def one_time_stage(seconds: float = 30, network: NetworkConfig | None = None, teacher: ColourTeacher | None = None) -> Stage:
    changes = {**one_time.SETTINGS, "horizon_s": SPAN_S, "steps": 40, "learning_rate": 0.003}
    return stage(seconds=seconds, network=network, teacher=teacher, **changes)


def agreement(shown: list[Shown]) -> float:
    matrices = [confusion_matrix(truth(each.frame.index), each.labels, 2) for each in shown]
    return mean_iou(np.sum(matrices, axis=0))


def test_the_student_learns_once_from_the_span_and_nothing_more_is_sent() -> None:
    teacher = ColourTeacher()
    on = one_time_stage(teacher=teacher)
    shown = list(one_time.label(on))
    assert [each.frame.index for each in shown] == list(range(30 * RATE_HZ))
    (update,) = on.journal.updates
    manifest = on.model.manifest
    assert update.changed == manifest.layout.trainable_size
    assert update.steps == 40
    assert SPAN_S <= update.newest_capture_s < SPAN_S + 4.0
    assert update.time_s == pytest.approx(update.newest_capture_s + update.wait_s)
    assert max(teacher.capture_times_s) == update.newest_capture_s
    assert on.journal.frames_labelled == len(teacher.capture_times_s) == pytest.approx(update.newest_capture_s + 1)
    assert all(each.time_s <= update.time_s for each in on.journal.transfers)
    (sent,) = (each for each in on.journal.transfers if each.kind == "update")
    assert sent.payload_bytes == update.payload_bytes > manifest.layout.trainable_size
    assert [control.sampling_hz for control in on.journal.controls] == [1.0, pytest.approx(one_time.NEVER_HZ)]
    before = [each for each in shown if each.version == 0]
    after = [each for each in shown if each.version == 1]
    assert before[-1].frame.capture_time_s <= update.time_s < after[0].frame.capture_time_s
    assert agreement(after) > agreement(before) + 0.2


def test_a_recording_shorter_than_the_span_is_never_learnt_from() -> None:
    on = one_time_stage(seconds=10)
    assert {each.version for each in one_time.label(on)} == {0}
    assert not on.journal.updates
    assert on.journal.frames_labelled > 5


def test_a_large_update_takes_its_time_on_a_slow_link() -> None:
    on = one_time_stage(network=NetworkConfig(link="down=1mbit", latency="step=0.05"))
    list(one_time.label(on))
    (update,) = on.journal.updates
    assert update.train_s == pytest.approx(2.0)
    assert update.download_s == pytest.approx(8 * update.payload_bytes / 1e6, rel=0.02)


def test_a_budget_leaves_the_largest_changes_that_its_burst_holds() -> None:
    on = one_time_stage(network=NetworkConfig(downlink_kbps=100))
    list(one_time.label(on))
    (update,) = on.journal.updates
    assert update.changed < on.model.manifest.layout.trainable_size
    allowed = allowance(100_000)
    most_bytes = largest_payload_bytes(allowed.burst_bytes - allowed.reserve_bytes)
    assert 0.8 * most_bytes < update.payload_bytes <= most_bytes


def test_batches_come_as_seldom_as_a_small_budget_needs_updates() -> None:
    on = one_time_stage(seconds=2, network=NetworkConfig(uplink_kbps=5, downlink_kbps=5))
    on = replace(on, config=on.config.model_copy(update={"update_interval_s": 2.0}))
    list(one_time.label(on))
    assert on.journal.controls[0].update_interval_s == pytest.approx(9.1, abs=0.1)


def test_training_that_failed_is_tried_again_with_the_next_batch() -> None:
    on = one_time_stage()
    session = small_session()
    learner = one_time._learner(on, session)
    learner.trainer.model.weights.fill_(float("nan"))
    for index in range(int(SPAN_S) + 1):
        add(learner, index)
    assert learner.due
    assert learner.learn(1, lambda: False).failure
    assert not learner.due
    assert learner.sampling_hz == config().max_sampling_hz


def add(learner: one_time.OneTimeLearner, index: int) -> None:
    frame = next(recording(seconds=1).frames())
    image = frame.rgb(64, 32)[None]
    labels = truth(0)[None]
    learner.take(LabelledFrames(images=image, labels=labels, capture_times_us=(index * 1_000_000,)))


def test_the_scheme_says_what_it_is_made_of() -> None:
    made = parse_scheme("one-time:steps=7").config({"learning_rate": 1.0, "batch_size": 3}, seed=2)
    assert (made.steps, made.selection, made.fraction, made.horizon_s) == (7, "full", 1.0, 60.0)
    assert (made.learning_rate, made.batch_size, made.seed) == (3e-4, 3, 2)
