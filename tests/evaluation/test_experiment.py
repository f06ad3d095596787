import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.evaluation.replays import RATE_HZ, config, recording, stage, truth
from tests.server.session_support import HEIGHT, WIDTH, ColourTeacher, small_model

from ams_common.clock import ManualClock
from ams_common.errors import ConfigurationError
from ams_common.messages import FrameBatch
from ams_edge import encoder
from ams_edge.frame_filter import FilterConfig
from ams_edge.sampler import Sample
from ams_eval.experiment import Judge, Laboratory, ModelShelf, described, file_digest, stage_for
from ams_eval.outcome import TrafficKind, Transfer
from ams_eval.profile import Profile
from ams_eval.references import References, label_references
from ams_eval.replay.device import Shown
from ams_eval.replay.latency import NetworkConfig
from ams_eval.replay.student_config import StudentRuntimeConfig
from ams_eval.schemes import adaptation, no_customisation
from ams_eval.schemes.base import Stage
from ams_eval.schemes.registry import parse_scheme
from ams_server.edge_session import EdgeSession
from ams_server.settings import AdaptationConfig
from ams_server.starting_model import StartingModel

SECONDS = 4


def references(scored_hz: float = 2.0) -> References:
    classes = small_model().manifest.classes
    return label_references(recording(SECONDS), ColourTeacher(), classes, (WIDTH, HEIGHT), scored_hz)


def judged() -> tuple[Stage, Judge, list[Shown]]:
    scored = references()
    on = dataclasses.replace(stage(seconds=SECONDS), scored_frames=frozenset(scored.frames))
    return on, Judge(on, scored), list(no_customisation.label(on))


def laboratory(**network: str) -> Laboratory:
    clock = ManualClock()
    return Laboratory(
        teacher=ColourTeacher(),
        cached_teacher=ColourTeacher(),
        given={},
        device=torch.device("cpu"),
        runtime=StudentRuntimeConfig(),
        network=NetworkConfig.model_validate(network),
        frame_filter=FilterConfig(),
        stopwatch=clock,
        profile=Profile(clock),
    )


def test_frames_are_scored_against_the_teacher() -> None:
    _, judge, shown = judged()
    for each in shown:
        judge.add(each)
    outcome = judge.outcome("none", 3, {"steps": 2})
    assert (outcome.recording, outcome.scheme, outcome.seed) == ("film", "none", 3)
    assert outcome.classes == ("road", "sky")
    assert outcome.teacher.times_s.tolist() == [each.frame.capture_time_s for each in shown]
    assert outcome.human is None
    for each, matrix in zip(shown, outcome.teacher.matrices, strict=True):
        right = int((each.labels == truth(each.frame.index)).sum())
        assert int(matrix.trace()) == right
        assert int(matrix.sum()) == WIDTH * HEIGHT
    assert outcome.versions.tolist() == [0] * len(shown)
    assert np.isnan(outcome.model_age_s).all()
    assert outcome.moment_labels.shape == (len(outcome.moment_frames), HEIGHT, WIDTH)


def test_a_model_is_as_old_as_what_it_learnt_from() -> None:
    _, judge, shown = judged()
    judge.add(dataclasses.replace(shown[0], version=1, newest_capture_s=-2.0))
    for each in shown[1:]:
        judge.add(dataclasses.replace(each, version=2, newest_capture_s=0.25))
    outcome = judge.outcome("ams", 0, {})
    assert outcome.model_age_s[0] == 2.0
    assert outcome.model_age_s[1:] == pytest.approx([each.frame.capture_time_s - 0.25 for each in shown[1:]])
    assert outcome.versions.tolist() == [1] + [2] * (len(shown) - 1)


def test_transfers_are_in_the_order_of_time() -> None:
    on, judge, shown = judged()
    for time_s in (3.0, 1.0, 2.0):
        on.journal.transfer(time_s, "up", "frames", 10, 20)
    for each in shown:
        judge.add(each)
    assert [each.time_s for each in judge.outcome("none", 0, {}).transfers] == [1.0, 2.0, 3.0]


def test_a_scheme_that_shows_what_it_should_not_is_refused_in_one_line() -> None:
    _, judge, shown = judged()
    with pytest.raises(ConfigurationError, match=r"shows frame 3 where frame 0 comes next: .* once and in order"):
        judge.add(shown[1])
    judge.add(shown[0])
    with pytest.raises(ConfigurationError, match=r"shows frame 0 where frame 3 comes next"):
        judge.add(shown[0])
    with pytest.raises(ConfigurationError, match=r"labels of uint8 \[32, 63\] for frame 3: they must be uint8 \[32, 64\]"):
        judge.add(dataclasses.replace(shown[1], labels=shown[1].labels[:, 1:]))
    with pytest.raises(ConfigurationError, match="labels of int64"):
        judge.add(dataclasses.replace(shown[1], labels=shown[1].labels.astype(np.int64)))
    with pytest.raises(ConfigurationError, match="scheme 'mine' shows 1 of 8 scored frames"):
        judge.outcome("mine", 0, {})
    for each in shown[1:]:
        judge.add(each)
    with pytest.raises(ConfigurationError, match="where frame None comes next"):
        judge.add(shown[0])


def test_schemes_share_a_starting_model_unless_it_depends_on_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[AdaptationConfig] = []

    def make(settings: AdaptationConfig) -> StartingModel:
        made.append(settings)
        return small_model()

    monkeypatch.setattr("ams_eval.experiment.starting_model", make)
    shelf = ModelShelf()
    shelf.get(config(steps=1))
    shelf.get(config(steps=2, selection="full"))
    assert len(made) == 1
    shelf.get(config(seed=1))
    shelf.get(config(student_width=96))
    assert len(made) == 3
    for seed in (0, 1):
        shelf.get(config(seed=seed, student_weights=Path("weights.safetensors")))
    assert len(made) == 4


def test_a_stage_has_the_cached_teacher_unless_time_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ams_eval.experiment.starting_model", lambda settings: small_model())
    scored = references()
    for latency, cached in (("none", True), ("label=1", True), ("measured", False)):
        shared = laboratory(latency=latency)
        made = stage_for(shared, recording(SECONDS), scored, config())
        assert made.teacher is (shared.cached_teacher if cached else shared.teacher)
        assert made.scored_frames == frozenset(scored.frames)
    assert stage_for(shared, recording(SECONDS), scored, config()).journal is not made.journal


def test_settings_tell_apart_what_differs_and_nothing_else(tmp_path: Path) -> None:
    none = parse_scheme("none")
    same = described(laboratory(), none, config())
    assert same == described(laboratory(), none, config(seed=9, device="cpu", threads=7))
    assert same["teacher_identity"] == "colours"
    assert (same["steps"], same["link"], same["classes"]) == (15, "", "road,sky")
    assert same != described(laboratory(link="80kbit"), none, config())
    assert same != described(laboratory(), none, config(steps=16))
    weights = tmp_path / "weights.safetensors"
    digests = []
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        digests.append(described(laboratory(), none, config(student_weights=weights))["student_weights_digest"])
    assert digests == [digests[0], file_digest(weights)]
    assert digests[0] != digests[1]
    with pytest.raises(ConfigurationError, match=r"cannot read .*nowhere"):
        file_digest(tmp_path / "nowhere")


@pytest.mark.parametrize(("given", "held"), [((200, 5), (40, 5)), ((0, 5), (0, 5)), ((100, 50), (100, 50))])
def test_budgets_are_held_to_each_other_as_in_the_product(given: tuple[float, float], held: tuple[float, float]) -> None:
    budget = stage(network=NetworkConfig(uplink_kbps=given[0], downlink_kbps=given[1])).budget
    assert (budget.uplink_bps, budget.downlink_bps) == (1000 * held[0], 1000 * held[1])


def sent(on: Stage, kind: TrafficKind) -> list[Transfer]:
    return [each for each in on.journal.transfers if each.kind == kind]


def test_accounted_bytes_are_those_that_the_codecs_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides' own coding is listened to, before anything counts it."""
    on = stage(seconds=20, steps=2)
    made: dict[str, list[int]] = {"frames": [], "update": []}
    encode = encoder.BatchEncoder.encode

    def encode_batch(self: encoder.BatchEncoder, samples: Sequence[Sample], target_bytes: int, video_codec: str) -> FrameBatch:
        batch = encode(self, samples, target_bytes, video_codec)
        made["frames"].append(sum(len(data) for _, data in batch.packets))
        return batch

    monkeypatch.setattr(encoder.BatchEncoder, "encode", encode_batch)
    session = Stage.session

    def listening(*arguments: Any, **named: Any) -> EdgeSession:
        made_session = session(*arguments, **named)
        code = made_session.codec.encode

        def encode_update(*parts: Any) -> bytes:
            payload = code(*parts)
            made["update"].append(len(payload))
            return payload

        monkeypatch.setattr(made_session.codec, "encode", encode_update)
        return made_session

    monkeypatch.setattr(Stage, "session", listening)
    for _ in adaptation.label(on):
        pass
    assert [each.payload_bytes for each in sent(on, "frames")] == made["frames"]
    assert [each.payload_bytes for each in sent(on, "update")] == made["update"]
    assert len(made["update"]) >= 4
    assert len(made["frames"]) >= RATE_HZ - 1
