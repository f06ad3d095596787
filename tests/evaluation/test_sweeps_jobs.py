from dataclasses import replace
from pathlib import Path

import pytest
from tests.evaluation.tiny_film import settings_for, write_film
from tests.server.session_support import small_model

from ams_common.clock import SystemClock
from ams_common.errors import ConfigurationError
from ams_eval.runner import ExperimentConfig, Workshop
from ams_eval.sweeps.agenda import Agenda, plan_sweep
from ams_eval.sweeps.jobs import Bench, ExperimentJob, LabelJob, labelling_key
from ams_eval.sweeps.sweep_file import Point, parse_sweep, points


@pytest.fixture(autouse=True)
def _one_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ams_eval.experiment.starting_model", lambda config: small_model())


def jobs_of(folder: Path, text: str, names: tuple[str, ...] = ("film",)) -> list[ExperimentJob]:
    videos = [write_film(folder, name) for name in names]
    found: list[Point] = points(parse_sweep(text, "mine.toml"), settings_for(videos[0]))
    planned = plan_sweep(found, videos, 2, Workshop(SystemClock()), out=folder / "out", threads=3)
    return [each.job for each in planned]


def test_each_point_meets_each_recording_with_each_seed(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "schemes = ['none', 'ams']\nseed = 4", names=("film", "quay"))
    assert [(job.scheme, job.recording, job.seed, job.frames) for job in jobs] == [
        (scheme, recording, seed, 30) for scheme in ("none", "ams") for recording in ("film", "quay") for seed in (4, 5)
    ]
    assert jobs[0].name.startswith("film--none--s4--")
    assert len({job.name for job in jobs}) == len(jobs)


def test_threads_are_shared_out_but_make_no_other_experiment(tmp_path: Path) -> None:
    given, other = (jobs_of(tmp_path, "schemes = ['none']\nseed = 1")[0] for _ in range(2))
    assert given.config.threads == 1
    assert given.name == other.name
    video = write_film(tmp_path)
    free = {name: value for name, value in settings_for(video).items() if name != "threads"}
    found = points(parse_sweep("schemes = ['none']\nseed = 1", "mine.toml"), free)
    (shared,) = plan_sweep(found, [video], 1, Workshop(SystemClock()), out=tmp_path / "out", threads=3)
    assert (shared.job.config.threads, shared.job.name) == (3, given.name)


def test_labels_come_before_the_experiments_that_need_them(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "schemes = ['none']\naxes.scored_hz = [1.0, 2.0]", names=("film", "quay"))
    agenda = Agenda(jobs)
    assert (agenda.jobs, agenda.frames) == (8 + 4, (8 + 4) * 30)
    labels = [job for _ in range(4) if (job := agenda.next_job()) is not None]
    assert [(type(job), job.recording, job.config.scored_hz) for job in labels] == [
        (LabelJob, recording, rate) for rate in (1.0, 2.0) for recording in ("film", "quay")
    ]
    assert agenda.next_job() is None
    agenda.labels_done(labels[1])
    agenda.labels_done(labels[2])
    assert [agenda.next_job() for _ in range(5)] == [*jobs[2:4], *jobs[4:6], None]
    assert list(agenda.labels_failed(labels[3])) == jobs[6:8]
    agenda.labels_done(labels[0])
    assert [agenda.next_job() for _ in range(3)] == [*jobs[0:2], None]


def test_points_that_differ_in_training_alone_share_their_labels(tmp_path: Path) -> None:
    agenda = Agenda(jobs_of(tmp_path, "schemes = ['none', 'ams']\naxes.fraction = [0.1, 0.2]"))
    assert agenda.jobs == 8 + 1


@pytest.mark.parametrize("change", [{"student_width": 96}, {"scored_hz": 1.0}, {"classes": ["road"]}, {"start_s": 1.0}])
def test_what_changes_labels_is_labelled_anew(change: dict[str, object]) -> None:
    assert labelling_key(ExperimentConfig.model_validate(change)) != labelling_key(ExperimentConfig())


def test_a_bench_does_jobs_and_tells_how_far_it_is(tmp_path: Path) -> None:
    first, second = jobs_of(tmp_path, "schemes = ['none']\nscored_hz = 0")
    bench, told = Bench(), list[int]()
    label = LabelJob(config=first.config, source=first.source, recording="film", frames=30, out=first.out)
    bench.do(label, told.append)
    assert told == list(range(1, 31))
    assert (first.out / "recordings" / "film" / "moments.npz").is_file()
    assert not (first.out / "runs").exists()
    for job in (first, second):
        bench.do(job, told.append)
        assert (first.out / "runs" / job.name / "outcome.json").is_file()
    assert told == 3 * list(range(1, 31))


def test_a_recording_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    job = jobs_of(tmp_path, "schemes = ['none']")[0]
    with pytest.raises(ConfigurationError, match="has changed since the sweep began"):
        Bench().do(replace(job, name="film--none--s0--00000000"), lambda done: None)
