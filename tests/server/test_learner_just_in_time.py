import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.server.session_support import HEIGHT, RUN, WIDTH, colour_batch, picture, small_model, small_session
from torch import Tensor

from ams_common.budget import REFERENCE_UPLINK_BPS
from ams_common.classes import STREET7, VOC21, UInt8Array
from ams_common.errors import ModelError
from ams_common.framing import UPKEEP_BPS
from ams_common.layout import weights_digest
from ams_server.device_budget import DeviceBudget
from ams_server.edge_session import EdgeSession
from ams_server.learners.base import LabelledFrames
from ams_server.learners.just_in_time import JustInTimeLearner, agreement
from ams_server.optimizer import MOMENTUM, SgdMomentum
from ams_server.wire_costs import largest_payload_bytes, largest_video_bytes

NEVER = 1.0
"""An accuracy that a small student does not reach."""


class ScriptedLearner(JustInTimeLearner):
    """A learner that is told how well its student does."""

    accuracies: Sequence[float] = ()

    def _judge(self, labels: UInt8Array, logits: Tensor) -> float:
        assert labels.shape == (HEIGHT, WIDTH)
        first, *rest = self.accuracies
        self.accuracies = rest
        return first


def learner_of(session: EdgeSession) -> JustInTimeLearner:
    assert isinstance(session.learner, JustInTimeLearner)
    return session.learner


def jit_session(budget: DeviceBudget | None = None, **changes: Any) -> EdgeSession:
    settings = {"scheme": "jit", "jit_learning_rate": 1e-3, **changes}
    return small_session(**settings) if budget is None else small_session(budget=budget, **settings)


def scripted(**changes: Any) -> ScriptedLearner:
    learner = learner_of(jit_session(**changes))
    return ScriptedLearner(
        trainer=learner.trainer, config=learner.config, classes=learner.classes, size=learner.size, loss_stride=1
    )


def labelled(*borders: int, start_us: int = 0) -> LabelledFrames:
    """Return frames one second apart with what the teacher of the small sessions says about them."""
    images = np.stack([picture(border) for border in borders])
    labels = np.zeros(images.shape[:3], np.uint8)
    for each, border in zip(labels, borders, strict=True):
        each[:border] = 1
    times_us = tuple(start_us + 1_000_000 * index for index in range(len(borders)))
    return LabelledFrames(images=images, labels=labels, capture_times_us=times_us)


def trained(session: EdgeSession) -> None:
    mirror = session.train()
    assert mirror is not None
    session.mirror = mirror


@pytest.mark.parametrize(
    ("accuracies", "updates", "stride"),
    [
        ([0.9], 0, 32),
        ([0.2, 0.5, 0.8], 2, 32),
        ([0.1, 0.2, 0.3, 0.4], 3, 8),
        ([0.74, 0.75], 1, 8),
        ([0.1, 0.1, 0.1, 0.9], 3, 32),
        ([0.75], 0, 8),
    ],
)
def test_updates_and_strides_are_those_of_a_hand_run_of_algorithm_1(accuracies: list[float], updates: int, stride: int) -> None:
    learner = scripted(jit_max_updates=3)
    learner.strides.observe(1.0)
    assert learner.strides.stride == 16
    learner.accuracies = accuracies
    learner.take(labelled(12))
    assert learner.due
    assert learner.news_after(0) == learner.sampling_hz
    result = learner.learn(10**9, lambda: False)
    assert (result.steps, result.failure, learner.strides.stride) == (updates, "", stride)
    assert not learner.accuracies, "the student is judged once more than it is trained"
    assert math.isnan(result.loss) == (updates == 0)
    assert not learner.due


def test_a_step_is_one_of_gradient_descent_with_momentum_on_the_weighted_loss_of_that_frame() -> None:
    session = jit_session(
        jit_accuracy=NEVER,
        jit_max_updates=3,
        jit_learning_rate=2e-4,
        selection="full",
        jit_box_classes=["sky"],
        jit_box_weight=4,
    )
    learner = learner_of(session)
    frames = labelled(12)
    reference = learner_of(jit_session()).trainer
    velocity = torch.zeros_like(reference.model.trainable_weights)
    weights = torch.ones(1, HEIGHT, WIDTH)
    weights[0, :13] = 4  # 12 rows and 15 % of them are 13.8 rows about the same centre; the upper end is outside
    losses = []
    for _ in range(3):
        logits = reference.logits(torch.tensor(frames.images).permute(0, 3, 1, 2))
        upsampled = F.interpolate(logits, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
        loss = (F.cross_entropy(upsampled, torch.tensor(frames.labels).long(), reduction="none") * weights).mean()
        reference.model.gradients.zero_()
        torch.autograd.backward(loss)
        losses.append(float(loss.detach()))
        velocity = MOMENTUM * velocity + reference.model.gradients
        reference.model.trainable_weights.sub_(2e-4 * velocity)
    learner.take(frames)
    result = learner.learn(10**9, lambda: False)
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-5)
    np.testing.assert_allclose(learner.trainer.vector(), reference.vector(), atol=1e-6)


def test_learning_frame_by_frame_the_student_comes_to_agree_with_the_teacher() -> None:
    session = jit_session(jit_accuracy=0.9, fraction=0.3)
    before = first_accuracy(session)
    for number in range(1, 13):
        session.ingest(colour_batch(number, float(number)), RUN)
        mirror = session.train()
        session.mirror = mirror or session.mirror
    assert session.mirror.version >= 2
    np.testing.assert_array_equal(session.learner.trainer.vector(), session.mirror.weights)
    assert first_accuracy(session) > before + 0.2


def first_accuracy(session: EdgeSession) -> float:
    """Return the agreement on a frame of its own, learning nothing."""
    frames = labelled(17)
    with torch.no_grad():
        logits = session.learner.trainer.logits(torch.tensor(frames.images).permute(0, 3, 1, 2))
    upsampled = F.interpolate(logits, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    predicted = upsampled[0].argmax(0).to(torch.uint8).numpy()
    return agreement(frames.labels[0], predicted, session.manifest.classes)


def test_an_update_changes_the_fraction_with_the_largest_momentum_of_the_last_one() -> None:
    session = jit_session(jit_accuracy=NEVER, jit_max_updates=2, fraction=0.1, codec="gap-zstd")
    size = small_model().manifest.layout.trainable_size
    session.ingest(colour_batch(1, 0.0), RUN)
    trained(session)
    optimizer = session.learner.trainer._optimizer
    assert isinstance(optimizer, SgdMomentum)
    expected = set(torch.topk(optimizer.velocity.abs(), round(0.1 * size)).indices.tolist())
    learner = learner_of(session)
    learner.take(labelled(9, start_us=10_000_000))
    assert set(learner.learn(10**9, lambda: False).indices.tolist()) == expected
    assert [update.changed for update in session.mirror.recent_updates] == [round(0.1 * size)]


def test_the_same_frames_and_seed_give_the_same_bytes() -> None:
    def payloads() -> list[bytes]:
        session = jit_session(jit_accuracy=0.9)
        for number in range(1, 5):
            session.ingest(colour_batch(number, float(number)), RUN)
            session.mirror = session.train() or session.mirror
        return [update.payload for update in session.mirror.recent_updates]

    first = payloads()
    assert len(first) >= 2
    assert payloads() == first


def test_nothing_is_sent_and_nothing_has_changed_where_the_student_agrees(caplog: pytest.LogCaptureFixture) -> None:
    session = jit_session(jit_accuracy=1e-6)
    session.ingest(colour_batch(1, 0.0), RUN)
    before, rate_hz = session.mirror, session.control().sampling_hz
    state = {name: value.copy() for name, value in session.learner.trainer.state().items()}
    with caplog.at_level(logging.WARNING):
        assert session.train() is None
    assert not caplog.records
    assert session.mirror is before
    assert weights_digest(session.learner.trainer.vector()) == before.digest
    np.testing.assert_equal(session.learner.trainer.state(), state)
    assert session.control().sampling_hz == rate_hz / 2
    assert not session.due


def test_only_the_newest_frame_is_learnt() -> None:
    learner = scripted()
    learner.take(labelled(5, 9, 13, start_us=2_000_000))
    learner.take(labelled(20, start_us=1_000_000))
    lesson = learner._next_lesson()
    assert int((lesson.labels[:, 0] == 1).sum()) == 13, "an older batch that arrives late changes nothing"
    assert not learner.due


def test_a_frame_of_another_run_is_not_learnt_and_the_stride_stays() -> None:
    session = jit_session(jit_accuracy=1e-6)
    session.ingest(colour_batch(1, 500.0), RUN)
    session.train()
    session.ingest(colour_batch(2, 501.0), RUN)
    learner_of(session).start_run()
    assert not session.due
    session.ingest(colour_batch(1, 3.0), bytes([1] * 16))
    assert session.due, "earlier on another clock"
    assert session.control().sampling_hz == pytest.approx(30 / 16)


def test_a_phase_that_diverges_is_undone_and_not_tried_again_before_there_is_a_new_frame() -> None:
    session = jit_session(jit_accuracy=NEVER, jit_learning_rate=1e30)
    session.ingest(colour_batch(1, 0.0), RUN)
    before = session.mirror
    assert session.train() is None
    np.testing.assert_array_equal(session.learner.trainer.vector(), before.weights)
    assert not session.due
    session.ingest(colour_batch(2, 1.0), RUN)
    assert session.due


def test_a_stopped_phase_is_undone() -> None:
    session = jit_session(jit_accuracy=NEVER)
    session.ingest(colour_batch(1, 0.0), RUN)
    answers = iter([False, False, True])
    assert session.train(lambda: next(answers)) is None
    np.testing.assert_array_equal(session.learner.trainer.vector(), session.mirror.weights)


def test_the_device_is_asked_for_single_frames_at_the_rate_of_the_stride() -> None:
    control = jit_session().control()
    assert control.sampling_hz == pytest.approx(30 / 8)
    assert control.batch_interval_s == pytest.approx(1 / control.sampling_hz)
    frame_bps = REFERENCE_UPLINK_BPS * control.sampling_hz
    assert control.batch_bytes == largest_video_bytes(frame_bps * (8 / 30) / 8, 1)
    assert control.batch_bytes == pytest.approx(0.94 * 25_000, rel=0.02), "a frame of what the AMS paper's uplink is made of"
    limited = jit_session(DeviceBudget(uplink_bps=300_000, downlink_bps=0))
    assert limited.control().batch_bytes == largest_video_bytes((300_000 - UPKEEP_BPS) * (8 / 30) / 8, 1)


def test_the_downlink_budget_limits_an_update_at_the_present_rate() -> None:
    budget = DeviceBudget(uplink_bps=0, downlink_bps=400_000)
    session = jit_session(budget, jit_accuracy=NEVER, jit_max_updates=1, fraction=1.0, codec="gap-zstd")
    interval_bytes = largest_payload_bytes((400_000 - UPKEEP_BPS) * (8 / 30) / 8)
    moved = []
    for number in (1, 2):
        session.ingest(colour_batch(number, float(number)), RUN)
        moved.append(session.spending.update_plan(session.learner).parameters)
        trained(session)
    first, second = session.mirror.recent_updates
    assert first.changed == moved[0] == 8 * interval_bytes // 24
    assert moved[1] == int(interval_bytes / (len(first.payload) / first.changed))
    assert second.changed < moved[1], "its changes are harder to code, and some are left out"
    assert 0.85 * interval_bytes < len(second.payload) <= interval_bytes


def test_frames_come_as_seldom_as_the_budgets_need_updates() -> None:
    session = jit_session(DeviceBudget(uplink_bps=20_000, downlink_bps=20_000))
    control = session.control()
    assert session.learner.update_interval_s == session.spending.least_interval_s > 2
    assert control.batch_interval_s == pytest.approx(1 / control.sampling_hz)
    assert control.batch_interval_s == pytest.approx(session.spending.least_interval_s)
    assert session.learner.least_sampling_hz == session.learner.sampling_hz
    assert jit_session().learner.least_sampling_hz == pytest.approx(30 / 64)


def test_state_goes_on_identically() -> None:
    def learn(session: EdgeSession, number: int) -> None:
        session.ingest(colour_batch(number, float(number)), RUN)
        session.mirror = session.train() or session.mirror

    first, second = jit_session(jit_accuracy=0.8), jit_session(jit_accuracy=0.8)
    for number in range(1, 5):
        learn(first, number)
    second.load_state(first.state())
    for number in range(5, 8):
        learn(first, number)
        learn(second, number)
    assert first.mirror.version > 1
    assert second.mirror.digest == first.mirror.digest
    assert second.control() == first.control()


def test_the_state_of_another_scheme_is_refused() -> None:
    for one, other in ((jit_session(), small_session(optimizer="sgd")), (small_session(optimizer="sgd"), jit_session())):
        with pytest.raises(ModelError):
            one.load_state(other.state())


def test_agreement_is_the_mean_iou_of_what_occurs_without_the_background() -> None:
    labels = np.zeros((4, 4), np.uint8)
    labels[:2] = VOC21.names.index("car")
    labels[3] = 255
    predicted = np.zeros((4, 4), np.uint8)
    predicted[0] = VOC21.names.index("car")
    predicted[1] = VOC21.names.index("bus")
    assert agreement(labels, predicted, VOC21) == pytest.approx((0.5 + 0) / 2)
    assert agreement(np.zeros_like(labels), np.zeros_like(labels), VOC21) == 1.0
    assert agreement(np.full_like(labels, 255), predicted, VOC21) == 1.0
    assert agreement(np.zeros_like(labels), np.zeros_like(labels), STREET7) == 1.0, "road is no background"
    assert agreement(np.zeros_like(labels), np.ones_like(labels), STREET7) == 0.0


def test_frames_larger_than_the_student_are_learnt_at_its_size() -> None:
    session = jit_session(jit_accuracy=NEVER, jit_max_updates=1, frame_width=2 * WIDTH, frame_height=2 * HEIGHT)
    session.ingest(colour_batch(1, 0.0, width=2 * WIDTH, height=2 * HEIGHT), RUN)
    trained(session)
    assert session.mirror.version == 1
