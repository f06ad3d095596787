from collections.abc import Sequence
from types import ModuleType

import numpy as np
import pytest
from tests.evaluation.replays import RATE_HZ, SECONDS, stage, truth
from tests.server.session_support import ColourTeacher, small_model

from ams_common.budget import LEAST_BATCH_BYTES
from ams_common.clock import ManualClock
from ams_common.errors import CodecError
from ams_common.iou import confusion_matrix, mean_iou
from ams_common.layout import weights_digest
from ams_common.link_speed import SHARE
from ams_common.messages import FrameBatch
from ams_edge import frame_filter
from ams_edge.encoder import BatchEncoder
from ams_edge.frame_filter import FilterConfig
from ams_edge.link_plan import MOST_STRETCHED
from ams_edge.sampler import Sample
from ams_eval.outcome import TrafficKind, Transfer
from ams_eval.replay.device import Shown, starting_state
from ams_eval.replay.latency import NetworkConfig
from ams_eval.replay.student_config import StudentRuntimeConfig
from ams_eval.schemes import adaptation, no_customisation
from ams_eval.schemes.base import Stage
from ams_server.spending import DOWNLOAD_S
from ams_server.students.export import student_vector


def agreement(shown: list[Shown]) -> float:
    """Return the mIoU of the labels against where the film's border is."""
    matrices = [confusion_matrix(truth(each.frame.index), each.labels, 2) for each in shown]
    return mean_iou(np.sum(matrices, axis=0))


def transfers(on: Stage, kind: TrafficKind) -> list[Transfer]:
    return [each for each in on.journal.transfers if each.kind == kind]


def test_a_replay_learns_from_what_it_has_seen_and_only_then() -> None:
    on = stage()
    shown = list(adaptation.label(on))
    assert [each.frame.index for each in shown] == list(range(RATE_HZ * SECONDS))
    versions = [each.version for each in shown]
    assert versions == sorted(versions)
    updates = on.journal.updates
    assert [update.version for update in updates] == list(range(1, len(updates) + 1))
    assert len(updates) >= 8
    for update in updates:
        first = next((each for each in shown if each.version == update.version), None)
        if first is not None:
            assert first.frame.capture_time_s > update.newest_capture_s
            assert first.newest_capture_s == update.newest_capture_s
    early, late = agreement(shown[: 2 * RATE_HZ]), agreement(shown[-10 * RATE_HZ :])
    assert late > early + 0.2, (early, late)


def test_the_same_film_and_seed_give_the_same_records() -> None:
    stages = [stage(seconds=9), stage(seconds=9)]
    shown = [[each.labels.tobytes() for each in adaptation.label(on)] for on in stages]
    assert shown[0] == shown[1]
    assert stages[0].journal.updates[1:] == stages[1].journal.updates[1:]
    assert stages[0].journal.transfers == stages[1].journal.transfers
    assert len(stages[0].journal.updates) >= 2


@pytest.mark.parametrize("scheme", [adaptation, no_customisation])
def test_torch_in_the_place_of_onnx_runtime_shows_the_same(scheme: ModuleType) -> None:
    ways = [stage(seconds=12, runtime=StudentRuntimeConfig(inference=name)) for name in ("onnx", "torch")]
    by_onnx, by_torch = (list(scheme.label(on)) for on in ways)
    assert [each.version for each in by_torch] == [each.version for each in by_onnx]
    assert ways[0].journal.transfers == ways[1].journal.transfers
    same = [float((a.labels == b.labels).mean()) for a, b in zip(by_onnx, by_torch, strict=True)]
    assert min(same) > 0.99


def test_without_adaptation_the_device_keeps_what_it_starts_with() -> None:
    on = stage(seconds=6)
    shown = list(no_customisation.label(on))
    assert {each.version for each in shown} == {0}
    assert len(shown) == 6 * RATE_HZ
    assert not on.journal.transfers


def test_the_teacher_sees_each_sample_once_and_all_bytes_are_counted() -> None:
    teacher = ColourTeacher()
    on = stage(teacher=teacher, steps=1)
    for _ in adaptation.label(on):
        pass
    assert teacher.capture_times_s == sorted(set(teacher.capture_times_s))
    assert on.journal.frames_labelled == len(teacher.capture_times_s) >= SECONDS - 5
    updates = transfers(on, "update")
    assert [each.payload_bytes for each in updates] == [each.payload_bytes for each in on.journal.updates]
    for each in on.journal.transfers:
        assert each.wire_bytes > each.payload_bytes
    assert {each.direction for each in transfers(on, "frames")} == {"up"}


@pytest.mark.parametrize("latency", ["none", "label=1,build=2"])
def test_a_device_skips_what_its_model_knows_however_late_updates_are(latency: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_filter, "SETTLING_S", 8.0)
    teacher = ColourTeacher()
    known = FilterConfig(skip_below=1.0, longest_skip_s=6.0)
    on = stage(teacher=teacher, steps=1, network=NetworkConfig(latency=latency), frame_filter=known)
    for _ in adaptation.label(on):
        pass
    labelled_s = np.array(teacher.capture_times_s)
    assert np.diff(labelled_s[labelled_s < 8]).max() < 1.5
    silences_s = np.diff(labelled_s[labelled_s > 14])
    assert len(silences_s) >= 2
    assert 5.5 <= silences_s.min() <= silences_s.max() <= 6.5


def test_a_device_sends_what_has_changed_since_its_model_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_filter, "SETTLING_S", 8.0)
    labelled = []
    for skip_below in (0.0, 0.01, 1.0):
        on = stage(frame_filter=FilterConfig(skip_below=skip_below))
        for _ in adaptation.label(on):
            pass
        labelled.append(on.journal.frames_labelled)
    every, changed, fewest = labelled
    assert every >= changed > 1.5 * fewest, labelled


def test_only_scored_frames_are_shown_and_the_others_still_teach() -> None:
    on = stage(seconds=12)
    few = stage(seconds=12)
    object.__setattr__(few, "scored_frames", frozenset({0, 40, 55}))
    every = {each.frame.index: each for each in adaptation.label(on)}
    shown = list(adaptation.label(few))
    assert [each.frame.index for each in shown] == [0, 40, 55]
    for each in shown:
        np.testing.assert_array_equal(each.labels, every[each.frame.index].labels)


def test_stated_latency_makes_each_update_late_by_its_parts() -> None:
    costs = "encode=0.5,label=0.1,step=0.02,code=0.25,build=0.5"
    on = stage(network=NetworkConfig(latency=costs, link="80ms"), seconds=20)
    shown = list(adaptation.label(on))
    assert len(on.journal.updates) >= 3
    for update in on.journal.updates:
        parts = (update.wait_s, update.encode_s, update.upload_s, update.queue_s, update.label_s, update.train_s)
        assert parts == pytest.approx((0.0, 0.5, 0.08, 0.0, update.label_s, 15 * 0.02))
        assert update.label_s in (pytest.approx(0.2), pytest.approx(0.1)), "only the last batch of an update"
        rest = update.code_s + update.download_s + update.build_s
        assert rest == pytest.approx(0.25 + 0.08 + 0.5)
        assert update.time_s == pytest.approx(update.newest_capture_s + sum(parts) + rest)
    for each in shown:
        done = [update.version for update in on.journal.updates if update.time_s <= each.frame.capture_time_s]
        assert each.version == max(done, default=0)


def test_measured_latency_is_the_time_that_the_work_took() -> None:
    clock = ManualClock()
    on = stage(network=NetworkConfig(latency="measured"), stopwatch=clock, teacher=ColourTeacher(clock), seconds=10)
    list(adaptation.label(on))
    assert on.journal.updates
    for update in on.journal.updates:
        assert update.label_s == pytest.approx(0.05)
        assert update.time_s == pytest.approx(update.newest_capture_s + update.wait_s + 0.05 + update.queue_s)


def test_just_in_time_learns_from_single_frames() -> None:
    on = stage(seconds=20, scheme="jit", jit_camera_hz=RATE_HZ, jit_min_stride=2, jit_max_stride=8)
    shown = list(adaptation.label(on))
    assert len(on.journal.updates) >= 3
    assert {update.payload_bytes for update in on.journal.updates} != {0}
    assert all(1 <= update.steps <= 8 for update in on.journal.updates)
    assert agreement(shown[-25:]) > agreement(shown[:5])


def test_a_slow_uplink_delays_the_updates() -> None:
    fast, slow = stage(seconds=30), stage(seconds=30, network=NetworkConfig(link="up=0.5kbit"))
    for on in (fast, slow):
        list(adaptation.label(on))
    assert len(slow.journal.updates) < len(fast.journal.updates)
    assert max(update.upload_s for update in slow.journal.updates) > 2
    for update in slow.journal.updates:
        assert update.time_s == pytest.approx(update.newest_capture_s + update.wait_s + update.upload_s)


def test_frames_are_as_few_and_small_as_a_slow_link_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    on, encoded = stage(seconds=30, network=NetworkConfig(link="up=1kbit")), BatchEncoder.encode
    targets: list[int] = []

    def encode(self: BatchEncoder, samples: Sequence[Sample], target_bytes: int, video_codec: str) -> FrameBatch:
        targets.append(target_bytes)
        return encoded(self, samples, target_bytes, video_codec)

    monkeypatch.setattr(BatchEncoder, "encode", encode)
    list(adaptation.label(on))
    asked, *_, carried = targets
    assert carried == LEAST_BATCH_BYTES < asked / 4
    assert len(targets) <= 30 / MOST_STRETCHED + 2


def test_updates_are_as_small_as_a_slow_link_needs_once_it_is_known() -> None:
    slow = NetworkConfig(link="down=80kbit")
    on = stage(network=slow, update_interval_s=10.0, quantisation_step=0.05, fraction=0.5)
    list(adaptation.label(on))
    first, *others = [update.download_s for update in on.journal.updates]
    assert first > 8.0
    assert len(others) >= 2
    assert all(0.7 * SHARE * DOWNLOAD_S < each <= DOWNLOAD_S for each in others)


def test_a_batch_that_does_not_fit_is_given_up_and_the_next_one_is_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    on, encoded = stage(seconds=30), BatchEncoder.encode

    def encode(self: BatchEncoder, samples: Sequence[Sample], target_bytes: int, video_codec: str) -> FrameBatch:
        if 8.0 < samples[0].capture_time_us / 1e6 < 14.0:
            raise CodecError("4 frames do not fit into 10 bytes")
        return encoded(self, samples, target_bytes, video_codec)

    monkeypatch.setattr(BatchEncoder, "encode", encode)
    list(adaptation.label(on))
    messages = [record.getMessage() for record in caplog.records]
    assert messages
    assert set(messages) == {"a batch was not sent: 4 frames do not fit into 10 bytes"}
    newest_s = [update.newest_capture_s for update in on.journal.updates]
    assert min(newest_s) < 8.0
    assert max(newest_s) > 20.0
    assert not any(9.5 < each < 13.0 for each in newest_s)


def test_a_device_starts_with_the_weights_of_the_model() -> None:
    state = starting_state(small_model())
    np.testing.assert_array_equal(state.vector, student_vector(small_model().module))
    assert (state.version, state.weights_digest) == (0, weights_digest(state.vector))
