"""When adaptive model streaming trains, and on what, with a trainer that only notes its phases."""

from collections.abc import Callable
from typing import cast

import numpy as np
import pytest

from ams_common.budget import REFERENCE_UPLINK_BPS
from ams_common.classes import UInt8Array
from ams_server.buffer import TrainingBuffer
from ams_server.learners.ams import EARLY_SHARE, AmsLearner
from ams_server.learners.base import LabelledFrames
from ams_server.learners.novelty import Novelty
from ams_server.pacing import PacingConfig, PacingController
from ams_server.sampling import SamplingConfig, SamplingController
from ams_server.state import State
from ams_server.trainer import PhaseResult, Trainer

WIDTH, HEIGHT = 6, 4
INTERVAL_S = 10.0
NOTHING = np.empty(0, np.int64)


class ScriptedTrainer:
    """Notes the frames that each phase may learn from."""

    def __init__(self) -> None:
        self.phases: list[tuple[float, ...]] = []
        self.limits: list[int] = []
        self.failure = ""
        self.loaded: State = {}

    def train_phase(self, buffer: TrainingBuffer, limit: int, stopping: Callable[[], bool]) -> PhaseResult:
        assert not stopping()
        self.phases.append(buffer.capture_times_s)
        self.limits.append(limit)
        return PhaseResult(indices=NOTHING, loss=0.5, steps=0 if self.failure else 3, failure=self.failure)

    def state(self) -> State:
        return {"phases": np.array(len(self.phases), np.int64)}

    def load_state(self, state: State) -> None:
        self.loaded = state


class ScriptedNovelty:
    """Calls frames as new as the test says."""

    def __init__(self, score: float) -> None:
        self.score = score
        self.judged: list[tuple[int, ...]] = []
        self.learnt_frames: list[int] = []

    def judge(self, image: UInt8Array, labels: UInt8Array) -> float:
        self.judged.append(image.shape)
        assert labels.shape == image.shape[:2]
        return self.score

    def learnt(self, buffer: TrainingBuffer) -> None:
        self.learnt_frames.append(len(buffer))


def make_learner(novelty: ScriptedNovelty | None = None, **pacing: object) -> tuple[AmsLearner, ScriptedTrainer]:
    trainer = ScriptedTrainer()
    config = PacingConfig.model_validate(
        {"update_interval_s": INTERVAL_S, "adaptive_pacing": False, "early_phases": False, **pacing}
    )
    learner = AmsLearner(
        trainer=cast(Trainer, trainer),
        buffer=TrainingBuffer(60.0, 100),
        sampling=SamplingController(SamplingConfig()),
        pacing=PacingController(config),
        size=(WIDTH, HEIGHT),
        novelty=cast("Novelty | None", novelty),
    )
    return learner, trainer


def frames(*times_s: float, label: int = 0, width: int = WIDTH, height: int = HEIGHT) -> LabelledFrames:
    return LabelledFrames(
        images=np.zeros((len(times_s), height, width, 3), np.uint8),
        labels=np.full((len(times_s), height, width), label, np.uint8),
        capture_times_us=tuple(round(1e6 * time_s) for time_s in times_s),
    )


def learn(learner: AmsLearner, limit: int = 100) -> PhaseResult:
    return learner.learn(limit, lambda: False)


def phase_times_s(learner: AmsLearner, batch_times_s: list[float]) -> list[float]:
    """Return the times of the batches that each led to a phase."""
    found = []
    for time_s in batch_times_s:
        learner.take(frames(time_s))
        if learner.due:
            learn(learner)
            found.append(time_s)
    return found


def test_the_first_batch_is_learnt_at_once_and_the_next_ones_once_the_interval_is_over() -> None:
    learner, trainer = make_learner()
    assert not learner.due, "there is nothing to learn"
    learner.take(frames(0.0, 1.0))
    assert learner.due
    assert learn(learner, 7).steps == 3
    assert not learner.due
    assert phase_times_s(learner, [3.0, 6.0, 9.0, 12.0]) == [12.0]
    assert trainer.phases == [(0.0, 1.0), (0.0, 1.0, 3.0, 6.0, 9.0, 12.0)]
    assert trainer.limits == [7, 100]


def test_at_the_start_a_phase_is_due_once_there_is_as_much_new_as_there_was_before() -> None:
    learner, trainer = make_learner(early_phases=True)
    learner.take(frames(100.0, 101.0))
    learn(learner)
    times_s = [102.0 + index for index in range(40)]
    assert phase_times_s(learner, times_s) == [103.0, 106.0, 112.0, 121.0, 131.0, 141.0], "after 2, 3, 6, 9 s and then 10 s"
    assert trainer.phases[:3] == [(100.0, 101.0), (100.0, 101.0, 102.0, 103.0), tuple(100.0 + i for i in range(7))]
    learner.start_run()
    assert phase_times_s(learner, [500.0 + time_s for time_s in range(7)]) == [500.0, 502.0, 504.0], "another run starts anew"


def test_at_the_start_a_late_phase_is_not_made_up_for() -> None:
    learner, _ = make_learner(early_phases=True)
    assert phase_times_s(learner, [0.0, 3.5, 6.5, 7.5, 14.0, 15.5, 25.0, 35.0]) == [0.0, 3.5, 7.5, 15.5, 25.0, 35.0]


def test_at_the_start_phases_come_no_faster_than_the_budgets_let_updates_go() -> None:
    learner, _ = make_learner(early_phases=True)
    learner.least_interval_s = 5.0
    assert phase_times_s(learner, [float(time_s) for time_s in range(30)]) == [0.0, 5.0, 10.0, 19.0, 29.0]


def test_a_phase_starts_a_tenth_of_the_interval_early_rather_than_wait_for_another_batch() -> None:
    learner, _ = make_learner()
    learner.take(frames(0.0))
    learn(learner)
    early_s = INTERVAL_S * (1 - EARLY_SHARE)
    assert not learner.due_after(round(1e6 * early_s) - 1)
    assert learner.due_after(round(1e6 * early_s))


def test_news_are_the_frames_not_learnt_from_as_a_share_of_what_is_remembered() -> None:
    learner, _ = make_learner()
    assert learner.news_after(10**6) == learner.sampling_hz, "all is new"
    learner.take(frames(100.0, 101.0))
    assert learner.news_after(101_000_000) == learner.sampling_hz
    learn(learner)
    assert learner.news_after(101_000_000) == 0.0
    assert learner.news_after(104_000_000) == pytest.approx(learner.sampling_hz * 3 / 4)
    learner.take(frames(161.0, 180.0))
    learn(learner)
    assert learner.news_after(186_000_000) == pytest.approx(learner.sampling_hz * 6 / 60), "of the horizon of 60 s"
    learner.start_run()
    assert learner.news_after(5) == learner.sampling_hz


def test_a_scene_that_rests_has_less_news() -> None:
    news = []
    for labels in ((0, 1, 2), (0, 0, 0)):
        learner, _ = make_learner()
        for index, label in enumerate(labels):
            learner.take(frames(10.0 * index, label=label))
        learn(learner)
        news.append(learner.news_after(25_000_000))
    assert news == [pytest.approx(1 / 5), pytest.approx((1 - 2 * 3 * 0.08) / 5)]


@pytest.mark.parametrize("batch_s", [0.93, 3.1, 3.7, 9.1, 9.9])
def test_the_interval_holds_on_average_whenever_batches_come(batch_s: float) -> None:
    learner, _ = make_learner()
    found = phase_times_s(learner, [batch_s * number for number in range(1000)])
    assert (found[-1] - found[0]) / (len(found) - 1) == pytest.approx(max(INTERVAL_S, batch_s), rel=0.01)


def test_after_a_pause_the_interval_counts_from_the_first_batch_of_it() -> None:
    learner, _ = make_learner()
    assert phase_times_s(learner, [0.0, 100.0, 104.0, 108.0, 110.0]) == [0.0, 100.0, 110.0]


def test_what_was_learnt_from_is_not_due_again_however_late_it_is() -> None:
    learner, _ = make_learner()
    assert phase_times_s(learner, [0.0, 19.5]) == [0.0, 19.5]
    assert not learner.due, "the next interval is over as well, but nothing has come since"
    assert learner.due_after(19_500_001)


def test_frames_that_come_late_do_not_set_the_clock_back() -> None:
    learner, _ = make_learner()
    learner.take(frames(50.0))
    learner.take(frames(20.0))
    learn(learner)
    assert not learner.due_after(45_000_000)


def test_a_phase_that_failed_is_not_tried_again_before_its_time() -> None:
    novelty = ScriptedNovelty(0.5)
    learner, trainer = make_learner(novelty)
    trainer.failure = "loss is not finite"
    learner.take(frames(0.0))
    assert learn(learner).failure
    assert not learner.due
    assert novelty.learnt_frames == [], "nothing was learnt"
    trainer.failure = ""
    learner.take(frames(INTERVAL_S))
    assert learner.due
    learn(learner)
    assert novelty.learnt_frames == [2]


def test_budgets_make_the_interval_longer_and_never_shorter() -> None:
    learner, _ = make_learner()
    for least_s, interval_s in ((3.0, INTERVAL_S), (25.0, 25.0)):
        learner.least_interval_s = least_s
        assert learner.update_interval_s == interval_s
    assert phase_times_s(learner, [5.0 * number for number in range(11)]) == [0.0, 25.0, 50.0]
    assert learner.reference_uplink_bps(0.5) == REFERENCE_UPLINK_BPS


def test_another_run_of_the_device_begins_with_nothing() -> None:
    learner, trainer = make_learner()
    assert phase_times_s(learner, [1000.0, 1004.0]) == [1000.0]
    learner.start_run()
    assert not learner.due
    assert phase_times_s(learner, [2.0, 3.0]) == [2.0], "its capture clock began anew"
    assert trainer.phases[-1] == (2.0,)


def test_frames_are_kept_at_the_size_of_the_student() -> None:
    novelty = ScriptedNovelty(0.0)
    learner, _ = make_learner(novelty)
    learner.take(frames(0.0, 1.0, width=4 * WIDTH, height=4 * HEIGHT))
    assert novelty.judged == [(HEIGHT, WIDTH, 3)] * 2
    assert [sample.labels.shape for sample in learner.buffer.newest(2)] == [(HEIGHT, WIDTH)] * 2


def test_the_sampling_rate_follows_what_changes_between_the_labels_of_neighbours() -> None:
    still, moving = make_learner()[0], make_learner()[0]
    for number in range(200):
        still.take(frames(float(number)))
        moving.take(frames(float(number), label=number % 2))
    assert still.sampling_hz == still.least_sampling_hz < moving.sampling_hz


def test_labels_of_another_size_are_not_compared() -> None:
    learner, _ = make_learner()
    for number in range(30):
        size = 1 + number % 2
        learner.take(frames(float(number), label=number % 2, width=size * WIDTH, height=size * HEIGHT))
    assert learner.sampling_hz == make_learner()[0].sampling_hz, "nothing is known"


def test_the_pace_is_that_of_the_sampling_rate() -> None:
    learner, _ = make_learner(adaptive_pacing=True)
    batches = [float(number) for number in range(400)]
    found = phase_times_s(learner, batches)
    assert learner.update_interval_s > INTERVAL_S, "a scene that stands still needs updates more seldom"
    assert found[-1] - found[-2] > 1.5 * (found[2] - found[1])


def test_a_learner_goes_on_from_the_state_of_another() -> None:
    learner, _ = make_learner(adaptive_pacing=True)
    phase_times_s(learner, [float(number) for number in range(400)])
    other, trainer = make_learner(adaptive_pacing=True)
    other.load_state(learner.state())
    assert (other.sampling_hz, other.update_interval_s) == (learner.sampling_hz, learner.update_interval_s)
    assert other.sampling_hz != make_learner()[0].sampling_hz
    assert trainer.loaded == {"phases": np.array(len(cast(ScriptedTrainer, learner.trainer).phases))}
