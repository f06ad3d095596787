from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.server.session_support import (
    HEIGHT,
    RUN,
    UNLIMITED,
    WIDTH,
    ColourTeacher,
    colour_batch,
    picture,
    small_model,
    small_session,
    small_settings,
)

from ams_common.classes import IGNORE, STREET7, UInt8Array
from ams_common.clock import ManualClock
from ams_common.errors import AmsError, CodecError
from ams_common.flights import Flight
from ams_common.framing import UPKEEP_BPS
from ams_common.layout import weights_digest
from ams_common.link_speed import SHARE
from ams_common.messages import MAX_BATCH_BYTES, FrameBatch
from ams_common.model_file import StoredModel
from ams_common.update_codec import CODECS, DEFAULT_CODEC
from ams_edge.encoder import EncoderWorker
from ams_edge.frame import Frame
from ams_edge.patcher import Patcher
from ams_edge.providers import Backend
from ams_edge.sampler import Sampler
from ams_edge.swap import ModelSlot
from ams_server.buffer import TrainingBuffer
from ams_server.device_budget import Allotted, DeviceBudget
from ams_server.edge_session import KEPT_UPDATES, UPDATES_IN_STATE, EdgeSession, largest_changes
from ams_server.learners.ams import AmsLearner
from ams_server.spending import DOWNLOAD_S
from ams_server.starting_model import StartingModel, new_session, starting_model
from ams_server.students.export import student_vector
from ams_server.wire_costs import largest_payload_bytes, largest_video_bytes


def trained(session: EdgeSession) -> None:
    """Run a phase that works and make its result the mirror, as the scheduler does."""
    mirror = session.train()
    assert mirror is not None
    session.mirror = mirror


def buffer_of(session: EdgeSession) -> TrainingBuffer:
    assert isinstance(session.learner, AmsLearner)
    return session.learner.buffer


def running_edge(session: EdgeSession, model: StartingModel | None = None, slot: ModelSlot | None = None) -> Patcher:
    """Return an edge that runs the weights of the session's first mirror, of `small_model` unless it is another one."""
    model, vector = model or small_model(), session.mirror.weights.copy()
    patcher = Patcher(Backend(provider="cpu", threads=1), slot or ModelSlot(), ManualClock())
    patcher.install(
        StoredModel(manifest=model.manifest, graph=model.graph, vector=vector, version=0, weights_digest=weights_digest(vector))
    )
    return patcher


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("preset", ["default", "restoring"])
def test_the_mirror_is_what_the_edge_runs_bit_for_bit(codec: str, preset: str) -> None:
    changes: dict[str, Any] = {} if preset == "default" else {"restore_between_phases": True, "batch_norm": "train"}
    session = small_session(codec=codec, **changes)
    patcher = running_edge(session)
    for number in range(1, 5):
        session.ingest(colour_batch(number, 10.0 * number, 10.0 * number + 1), RUN)
        assert session.due
        trained(session)
        patcher.apply(session.mirror.recent_updates[-1])
        assert patcher.state is not None
        assert patcher.state.version == session.mirror.version == number
        np.testing.assert_array_equal(patcher.state.vector, session.mirror.weights)
        np.testing.assert_array_equal(session.learner.trainer.vector(), session.mirror.weights)
        assert patcher.state.weights_digest == session.mirror.digest == weights_digest(session.mirror.weights)
    assert not np.array_equal(session.mirror.weights, student_vector(small_model().module))


def test_the_first_mirror_is_the_starting_model() -> None:
    session = small_session()
    assert (session.mirror.version, session.mirror.recent_updates) == (0, ())
    np.testing.assert_array_equal(session.mirror.weights, student_vector(small_model().module))
    assert not session.due


def test_an_update_says_what_it_has_learnt_from_and_how_long_that_took() -> None:
    clock = ManualClock()
    teacher = ColourTeacher(clock)
    session = small_session(teacher=teacher, clock=clock, codec="gap-zstd")
    arrived_s = clock.now_s()
    clock.sleep(0.25)
    session.ingest(colour_batch(3, 1.0, 2.5), RUN, arrived_s=arrived_s)
    clock.sleep(0.5)
    trained(session)
    (update,) = session.mirror.recent_updates
    assert update.queue_ms == pytest.approx(750), "before the batch was labelled and after"
    assert (update.newest_batch_id, update.newest_capture_time_us) == (3, 2_500_000)
    assert update.label_ms == pytest.approx(50)
    assert (update.base_version, update.version, update.codec) == (0, 1, session.codec.name)
    assert update.changed == round(0.1 * small_model().manifest.layout.trainable_size)
    assert teacher.capture_times_s == [1.0, 2.5]


def test_recent_updates_are_a_chain_of_the_last_few() -> None:
    session = small_session(steps=1)
    for number in range(KEPT_UPDATES + 2):
        session.ingest(colour_batch(number + 1, 10.0 * number), RUN)
        trained(session)
    chain = session.mirror.recent_updates
    assert [update.version for update in chain] == list(range(3, KEPT_UPDATES + 3))
    for earlier, later in pairwise(chain):
        assert later.base_digest == earlier.result_digest
    assert chain[-1].result_digest == session.mirror.digest


def test_a_phase_is_due_once_the_interval_is_nearly_over_and_there_is_something_new() -> None:
    session = small_session(steps=1, update_interval_s=10, early_phases=False)
    session.ingest(colour_batch(1, 0.0), RUN)
    assert session.due, "the first frames are learnt from at once"
    trained(session)
    assert not session.due
    session.ingest(colour_batch(2, 8.9), RUN)
    assert not session.due
    assert session.due_after(colour_batch(3, 7.0, 9.0), RUN)
    session.ingest(colour_batch(3, 9.0), RUN)
    assert session.due


def test_the_update_interval_holds_on_average() -> None:
    session = small_session(steps=1, update_interval_s=10, early_phases=False)
    phases_s = []
    for number in range(40):
        session.ingest(colour_batch(number + 1, 3.0 * number), RUN)
        if session.due:
            trained(session)
            phases_s.append(3.0 * number)
    assert phases_s == [0, 9, 21, 30, 39, 51, 60, 69, 81, 90, 99, 111]


def test_a_long_silence_is_not_made_up_for() -> None:
    session = small_session(steps=1, update_interval_s=10)
    for number, (time_s, due) in enumerate([(0.0, True), (100.0, True), (105.0, False), (110.0, True)]):
        session.ingest(colour_batch(number + 1, time_s), RUN)
        assert session.due == due
        if due:
            trained(session)


def test_batches_of_another_run_are_due_whatever_their_times() -> None:
    session = small_session(steps=1)
    session.ingest(colour_batch(1, 100.0), RUN)
    trained(session)
    assert not session.due_after(colour_batch(1, 5.0), RUN)
    assert session.due_after(colour_batch(1, 5.0), bytes([1] * 16))


def test_in_another_run_all_is_new() -> None:
    session = small_session(steps=1)
    session.ingest(colour_batch(1, 100.0), RUN)
    session.ingest(colour_batch(2, 109.0), RUN)
    trained(session)
    assert session.news_after(colour_batch(3, 110.0), RUN) == pytest.approx(session.learner.sampling_hz / 10)
    assert session.news_after(colour_batch(1, 110.0), bytes([1] * 16)) == session.learner.sampling_hz


def test_capture_times_may_be_negative() -> None:
    session = small_session(steps=1, update_interval_s=10)
    for number, time_s in ((1, -100.0), (2, -90.0)):
        session.ingest(colour_batch(number, time_s), RUN)
        assert session.due
        trained(session)
    assert session.mirror.recent_updates[-1].newest_capture_time_us == -90_000_000


def test_another_run_starts_with_an_empty_buffer_and_its_own_clock() -> None:
    session = small_session(steps=1)
    session.ingest(colour_batch(7, 1000.0, 1001.0), RUN)
    trained(session)
    weights = session.mirror.weights
    session.ingest(colour_batch(1, 5.0), bytes([1] * 16))
    assert buffer_of(session).capture_times_s == (5.0,)
    assert session.due
    trained(session)
    newest = session.mirror.recent_updates[-1]
    assert (newest.newest_batch_id, newest.newest_capture_time_us) == (1, 5_000_000)
    assert newest.base_digest == weights_digest(weights), "weights and optimiser outlive the run"


def test_labels_reach_the_buffer_in_the_classes_of_the_student() -> None:
    class CarTeacher(ColourTeacher):
        def label(self, images: UInt8Array, capture_times_s: Sequence[float]) -> UInt8Array:
            labels = super().label(images, capture_times_s)
            labels[:, -4:] = STREET7.names.index("car")
            return labels

    session = small_session(teacher=CarTeacher())
    session.ingest(colour_batch(1, 0.0), RUN)
    _, labels = buffer_of(session).sample(1, torch.Generator())
    assert session.manifest.classes.names == ("road", "sky")
    assert labels[0, 0, 0] == 1
    assert labels[0, -5, 0] == 0
    assert (labels[0, -4:] == IGNORE).all(), "car is not among the student's classes"


def test_the_downlink_budget_limits_an_update() -> None:
    budget = DeviceBudget(uplink_bps=0, downlink_bps=12_000)
    session = small_session(budget=budget, codec="gap-zstd", steps=1, update_interval_s=10, fraction=0.5)
    limit_bytes = session.spending.update_plan(session.learner).limit_bytes
    assert limit_bytes is not None
    for number in range(1, 4):
        session.ingest(colour_batch(number, 10.0 * number), RUN)
        trained(session)
    first, *_, last = session.mirror.recent_updates
    assert first.changed == limit_bytes * 8 // 24
    assert last.changed > first.changed, "an update turned out smaller than expected"
    interval_bytes = (12_000 - UPKEEP_BPS) * 10 / 8
    assert 0.7 * interval_bytes < len(last.payload) < interval_bytes


@pytest.mark.parametrize("codec", ["gap-zstd", "mask-float16"])
def test_an_update_that_turns_out_larger_than_planned_leaves_out_its_smallest_changes(codec: str) -> None:
    session = small_session(
        budget=DeviceBudget(uplink_bps=0, downlink_bps=12_000), codec=codec, fraction=0.5, update_interval_s=10
    )
    session.spending.bits_per_parameter = 6.0
    most_bytes = session.spending.update_plan(session.learner).limit_bytes
    assert most_bytes is not None
    session.ingest(colour_batch(1, 0.0), RUN)
    trained(session)
    (update,) = session.mirror.recent_updates
    assert 0.85 * most_bytes < len(update.payload) <= most_bytes
    np.testing.assert_array_equal(session.learner.trainer.vector(), session.mirror.weights)


@pytest.mark.parametrize("downlink_bps", [0, 60_000])
def test_an_update_is_no_larger_than_what_a_slow_link_carries(downlink_bps: int) -> None:
    budget = DeviceBudget(uplink_bps=0, downlink_bps=downlink_bps)
    session = small_session(budget=budget, codec="delta-rans", fraction=0.5, update_interval_s=10, quantisation_step=0.2)
    session.spending.link_speed.observe(Flight(wire_bytes=25_000, duration_s=20.0, waited_s=1.0))
    session.ingest(colour_batch(1, 0.0), RUN)
    trained(session)
    limit_bytes = largest_payload_bytes((SHARE * 10_000 - UPKEEP_BPS) * DOWNLOAD_S / 8)
    assert 0.5 * limit_bytes < len(session.mirror.recent_updates[0].payload) <= limit_bytes


def test_the_largest_changes_are_kept_in_order() -> None:
    base = np.zeros(6, np.float32)
    vector = np.array([5, -4, 3, 2, -1, 0], np.float32)
    np.testing.assert_array_equal(largest_changes(base, vector, np.array([1, 2, 4, 5]), 2), [1, 2])
    np.testing.assert_array_equal(largest_changes(base, vector, np.array([1, 2, 4, 5]), 0), [1])


def test_a_codec_that_keeps_its_limit_has_candidates_by_bits() -> None:
    budget = DeviceBudget(uplink_bps=0, downlink_bps=3_000)
    changes: dict[str, Any] = {"quantisation_step": 0.2, "fraction": 0.5, "bits_per_candidate": 2.0, "update_interval_s": 10}
    session = small_session(budget=budget, codec="delta-rans", **changes)
    limit_bytes = session.spending.update_plan(session.learner).limit_bytes
    assert limit_bytes is not None
    session.ingest(colour_batch(1, 0.0), RUN)
    trained(session)
    (update,) = session.mirror.recent_updates
    assert 0.9 * limit_bytes < len(update.payload) <= limit_bytes
    assert update.changed <= 4 * limit_bytes


def test_an_update_leaves_out_what_the_budget_does_not_hold_now() -> None:
    session = small_session(budget=DeviceBudget(uplink_bps=0, downlink_bps=60_000), codec="delta-rans", fraction=0.5)
    session.spending.downlink.spend(55_000)
    session.ingest(colour_batch(1, 0.0), RUN)
    trained(session)
    assert len(session.mirror.recent_updates[0].payload) <= largest_payload_bytes(20_000)


def test_updates_come_less_often_where_the_budget_is_too_small_for_the_interval() -> None:
    budget = DeviceBudget(uplink_bps=0, downlink_bps=2_200)
    session = small_session(budget=budget, steps=1, update_interval_s=2)
    assert session.learner.update_interval_s == session.spending.least_interval_s > 8
    phases_s = []
    for number in range(40):
        session.ingest(colour_batch(number + 1, float(number)), RUN)
        if session.due:
            trained(session)
            phases_s.append(number)
    assert phases_s == [0, 9, 18, 27, 36]
    session.change_budget(Allotted(budget=DeviceBudget(uplink_bps=0, downlink_bps=100_000)))
    assert session.learner.update_interval_s == 2
    assert session.due, "at once"


def test_a_changed_budget_counts_for_the_next_batch() -> None:
    session = small_session(budget=DeviceBudget(uplink_bps=200_000, downlink_bps=0))
    assert session.control().uplink_bps == 200_000
    session.change_budget(Allotted(budget=DeviceBudget(uplink_bps=20_000, downlink_bps=0)))
    control = session.control()
    assert (control.uplink_bps, control.batch_interval_s) == (20_000, 5.0)
    assert 8 * control.batch_bytes / 5.0 < 20_000


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("the loss becomes infinite", {"learning_rate": 1e30, "steps": 3}),
        ("a change is more than float16 holds", {"learning_rate": 1e6, "steps": 1, "codec": "gap-zstd"}),
    ],
)
def test_a_phase_that_diverges_is_undone_and_not_tried_again_at_once(case: str, changes: dict[str, Any]) -> None:
    session = small_session(**changes)
    session.ingest(colour_batch(1, 0.0), RUN)
    before, state = session.mirror, session.learner.trainer.state()
    assert session.train() is None, case
    assert session.mirror is before
    np.testing.assert_array_equal(session.learner.trainer.vector(), before.weights)
    for name in state.keys() - {"generator"}:  # mini-batches that were drawn stay drawn
        np.testing.assert_array_equal(session.learner.trainer.state()[name], state[name], case)
    assert not session.due
    session.ingest(colour_batch(2, 10.0), RUN)
    assert session.due


def test_a_batch_of_larger_frames_than_asked_for_is_refused_before_it_is_decoded() -> None:
    session = small_session(frame_width=WIDTH)
    with pytest.raises(CodecError):
        session.ingest(colour_batch(1, 0.0, width=2 * WIDTH), RUN)
    session.ingest(colour_batch(2, 0.0, width=HEIGHT, height=WIDTH), RUN)
    assert len(buffer_of(session)) == 1


def test_an_odd_student_is_fed_even_frames_and_trained_at_its_own_size() -> None:
    """Video has even sides; the student of 257x193 gets its frames from one column and one row more."""
    settings = small_settings(student_width=257, student_height=193, frame_width=257)
    model = starting_model(settings)
    session = new_session(
        settings,
        model,
        teacher=ColourTeacher(),
        device=torch.device("cpu"),
        clock=ManualClock(),
        device_id="odd",
        budget=UNLIMITED,
        codec=DEFAULT_CODEC,
    )
    sampler = Sampler(session.control())
    for index, time_s in enumerate((0.0, 2.0, 4.0)):
        assert sampler.offer(Frame(picture(200 + 20 * index, 640, 480), index=index, capture_time_s=time_s))
    samples = sampler.flush()
    assert samples is not None
    assert samples[0].image.shape == (194, 258, 3)
    batches: list[FrameBatch] = []
    encoder = EncoderWorker(lambda batch, _: batches.append(batch), ManualClock())
    encoder.start()
    encoder.submit(samples, 100_000)
    encoder.stop()
    session.ingest(batches[0], RUN)
    images, labels = buffer_of(session).sample(1, torch.Generator())
    assert (images.shape, labels.shape) == ((1, 3, 193, 257), (1, 193, 257))
    slot = ModelSlot()
    patcher = running_edge(session, model, slot)
    trained(session)
    patcher.apply(session.mirror.recent_updates[-1])
    running = slot.current()
    assert running is not None
    assert running.version == 1
    assert running.model.infer(picture(90, 257, 193)).shape == (193, 257)


def test_frames_of_a_damaged_batch_leave_everything_as_it_was() -> None:
    session = small_session()
    good = colour_batch(1, 0.0)
    with pytest.raises(CodecError):
        session.ingest(replace(good, packets=((0, b"\0\0\0\1nonsense"),)), RUN)
    assert len(buffer_of(session)) == 0
    assert not session.due


def test_control_follows_budget_pacing_and_sampling() -> None:
    session = small_session(budget=DeviceBudget(uplink_bps=100_000, downlink_bps=0))
    control = session.control()
    assert (control.frame_width, control.frame_height) == (4 * WIDTH, 4 * HEIGHT), "100 kbit a frame"
    assert control.batch_interval_s == 1.0
    assert control.batch_bytes == largest_video_bytes((100_000 - UPKEEP_BPS) / 8, 1)
    assert control.sampling_hz == 1.0
    assert small_session(frame_width=640, frame_height=360).control().frame_width == 640
    rich = DeviceBudget(uplink_bps=10**10, downlink_bps=0)
    assert small_session(budget=rich).control().batch_bytes == MAX_BATCH_BYTES


def test_a_scene_that_stands_still_is_sampled_and_trained_less_often() -> None:
    session = small_session(steps=1, sampling_period_s=5, sampling_target=0.5)
    still = colour_batch(1, 0.0)
    for number in range(1, 12):
        time_us = 10_000_000 * number
        session.ingest(replace(still, batch_id=number, capture_times_us=(time_us,)), RUN)
        if session.due:
            trained(session)
    control = session.control()
    assert control.sampling_hz == pytest.approx(0.1)
    assert control.batch_interval_s == pytest.approx(10), "each frame is a batch"
    assert session.learner.update_interval_s > 10


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "sgd", "codec": "mask-float16"},
        {"restore_between_phases": True, "batch_norm": "train"},
        {"selection": "random", "budget": DeviceBudget(uplink_bps=0, downlink_bps=20_000)},
        {"codec": "delta-rans", "budget": DeviceBudget(uplink_bps=0, downlink_bps=12_000)},
    ],
)
def test_a_session_that_goes_on_from_a_state_trains_on_bit_for_bit(changes: dict[str, Any]) -> None:
    before, after = small_session(**changes), small_session(**changes)
    for number in range(1, 4):
        for session in (before, after):
            session.ingest(colour_batch(number, 10.0 * number, 10.0 * number + 1), RUN)
        trained(before)
    after.load_state(before.state())
    assert (after.mirror.version, after.mirror.digest) == (3, before.mirror.digest)
    assert after.control() == before.control()
    for number in range(4, 6):
        for session in (before, after):
            session.ingest(colour_batch(number, 10.0 * number), RUN)
            trained(session)
        assert after.mirror.recent_updates[-1].payload == before.mirror.recent_updates[-1].payload
        assert after.mirror.digest == before.mirror.digest
        assert after.mirror.version == before.mirror.version == number


def test_a_state_brings_the_updates_that_may_be_on_the_way() -> None:
    before, after = small_session(steps=1), small_session(steps=1)
    for number in range(1, 6):
        before.ingest(colour_batch(number, 10.0 * number), RUN)
        trained(before)
    after.load_state(before.state())
    assert after.mirror.recent_updates == before.mirror.recent_updates[-UPDATES_IN_STATE:]
    patcher = running_edge(small_session())
    for update in before.mirror.recent_updates[:-UPDATES_IN_STATE] + after.mirror.recent_updates:
        patcher.apply(update)
    assert patcher.state is not None
    np.testing.assert_array_equal(patcher.state.vector, after.mirror.weights)


def test_a_state_does_not_change_with_the_session_it_came_from() -> None:
    session = small_session(steps=1)
    session.ingest(colour_batch(1, 0.0), RUN)
    trained(session)
    state = session.state()
    copies = {name: array.copy() for name, array in state.items()}
    session.ingest(colour_batch(2, 10.0), RUN)
    trained(session)
    for name, array in state.items():
        np.testing.assert_array_equal(array, copies[name], err_msg=name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", np.zeros(3, np.float32)),
        ("weights", np.zeros(10**4)),
        ("version", np.array(-1)),
        ("version", np.array(2**60)),
        ("bits_per_parameter", np.array(np.nan)),
        ("learner.trainer.step_count", np.array(np.inf)),
        ("learner.trainer.phases", np.array(np.nan)),
        ("learner.trainer.second_moment", np.full(3, -1, np.float32)),
        ("learner.sampling.rate_hz", np.array(-1.0)),
        ("learner.pacing.rates_hz", np.array([np.inf, np.nan])),
        ("learner.pacing.rates_hz", np.ones(6)),
        ("learner.pacing.slow", np.array(2)),
        ("update.1", np.frombuffer(b"nonsense", np.uint8)),
    ],
)
def test_a_foreign_state_is_refused(name: str, value: npt.NDArray[Any]) -> None:
    session = small_session(steps=1)
    session.ingest(colour_batch(1, 0.0), RUN)
    trained(session)
    state = session.state()
    assert name in state
    with pytest.raises(AmsError):
        small_session().load_state({**state, name: value})
    missing = {key: array for key, array in state.items() if key != name}
    if not name.startswith("update."):
        with pytest.raises(AmsError):
            small_session().load_state(missing)


def test_weights_that_are_not_finite_never_become_a_mirror() -> None:
    session = small_session()
    state = session.state()
    weights = state["weights"].copy()
    weights[-1] = np.inf
    with pytest.raises(AmsError, match="not finite"):
        session.load_state({**state, "weights": weights})
    assert session.mirror.version == 0
