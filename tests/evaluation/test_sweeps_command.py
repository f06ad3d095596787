"""One small sweep by real processes, which all tests look at, and what later calls make of it."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.tiny_film import flags, settings_for, write_film
from tests.server.session_support import small_model

from ams_common.errors import ConfigurationError
from ams_eval import run
from ams_eval.outcome_files import read_outcome
from ams_eval.sweeps import command
from ams_eval.sweeps.jobs import ExperimentJob, LabelJob
from ams_eval.sweeps.pool import Event, Failed, Finished, Started

ROOT = Path(__file__).parents[2]
SWEEP = """
[[sweep]]
schemes = ["ams", "{scheme}"]
axes.fraction = [0.05, 0.3]
[[sweep]]
schemes = ["none"]
"""
BROKEN = "def label(stage):\n    raise ValueError('the lens\\nis dirty')\n    yield\n"


@dataclass(frozen=True)
class Made:
    """A finished sweep."""

    arguments: list[str]
    out: Path
    status: int
    shown: str

    @property
    def database(self) -> Path:
        return self.out / "sweep.sqlite"

    def query(self, text: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(text).fetchall()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("sweep")
    video = write_film(folder)
    (folder / "broken.py").write_text(BROKEN, encoding="utf-8")
    (folder / "mine.toml").write_text(SWEEP.format(scheme=folder / "broken.py"), encoding="utf-8")
    arguments = [str(folder / "mine.toml"), f"--videos={video}", "--workers=2", *flags(settings_for(video))]
    code = "import sys; from ams_eval.command import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "sweep", *arguments, f"--out={folder / 'out'}"],
        env={**os.environ, "COLUMNS": "150"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return Made(arguments, folder / "out", done.returncode, done.stdout)


@pytest.fixture
def made(original: Made, tmp_path: Path) -> Made:
    """Return a copy of the sweep."""
    shutil.copytree(original.out, tmp_path / "out")
    return Made([*original.arguments, f"--out={tmp_path / 'out'}"], tmp_path / "out", original.status, original.shown)


def test_what_failed_is_told_and_the_others_are_finished(original: Made) -> None:
    assert original.status == 1
    failed = [line for line in original.shown.splitlines() if line.startswith("failed: ")]
    assert [re.sub(r"/\S*/", "", line) for line in failed] == [
        f"failed: film: broken.py (fraction={fraction}), seed 0: scheme file 'broken.py' fails in line 2: "
        "ValueError: the lens is dirty"
        for fraction in (0.05, 0.3)
    ]
    assert original.query("SELECT scheme, frames FROM runs ORDER BY scheme") == [("ams", 12), ("ams", 12), ("none", 12)]
    reasons = {reason for (reason,) in original.query("SELECT reason FROM failures")}
    assert len(reasons) == 1
    assert reasons.pop().endswith("broken.py' fails in line 2: ValueError: the lens is dirty")
    assert (original.out / "report.html").is_file()
    assert f"numbers: {original.database}" in original.shown


def test_curves_are_drawn_as_a_page_and_as_pictures(original: Made) -> None:
    assert f"curves: {original.out / 'sweep.html'}" in original.shown
    page = (original.out / "sweep.html").read_text(encoding="utf-8")
    assert "<h1>mine</h1>" in page
    assert "film, against the teacher" in page
    assert "2 of 5 experiments are missing" in page
    picture = (original.out / "figures/down_kbps.svg").read_text(encoding="utf-8")
    ((small, small_kbps), (large, large_kbps)) = original.query(
        "SELECT 100 * miou_window, down_kbps FROM runs JOIN settings USING (run_id)"
        " WHERE settings.name = 'fraction' AND scheme = 'ams' ORDER BY value"
    )
    for value, miou, kbps in ((0.05, small, small_kbps), (0.3, large, large_kbps)):
        assert f"<title>ams, fraction={value}: {miou:.1f} % at {kbps:.3g} kbit/s, 1 seed</title>" in picture


def test_the_table_shows_each_combination(original: Made) -> None:
    rows = [line.split() for line in original.shown.splitlines() if line.strip().startswith(("ams", "none"))]
    assert [row[:2] for row in rows[:2]] == [["ams", "0.05"], ["ams", "0.3"]]
    assert rows[2][0] == "none"
    numbers = original.query(
        "SELECT round(100 * miou_window, 1), updates FROM runs JOIN settings USING (run_id)"
        " WHERE settings.name = 'fraction' AND scheme = 'ams' ORDER BY value"
    )
    assert [(float(row[2]), int(row[5])) for row in rows[:2]] == numbers
    assert [row[-1] for row in rows] == ["1", "1", "1"]


def test_an_experiment_is_that_of_the_command_run(original: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ams_eval.experiment.starting_model", lambda config: small_model())
    video = original.out.parent / "film.mp4"
    arguments = [str(video), *flags(settings_for(video)), "--fraction=0.3", "--schemes=ams", f"--out={tmp_path}"]
    assert run.run(arguments) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    for name in ("outcome.json", "frames.npz"):
        assert (folder / name).read_bytes() == (original.out / "runs" / folder.name / name).read_bytes()
    moments = "recordings/film/moments.npz"
    assert (tmp_path / moments).read_bytes() == (original.out / moments).read_bytes()


def queries() -> list[str]:
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    return re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_queries_of_the_page_find_something(original: Made) -> None:
    by_fraction, gains, busy = (original.query(each) for each in queries())
    assert [row[:3] for row in by_fraction] == [("ams", 0.05, 1), ("ams", 0.3, 1), ("none", 0.05, 1)]
    assert by_fraction[0][4] < by_fraction[1][4]
    ((recording, scheme, gain),) = gains
    ams = original.query("SELECT avg(miou_window) FROM runs WHERE scheme = 'ams'")[0][0]
    none = original.query("SELECT miou_window FROM runs WHERE scheme = 'none'")[0][0]
    assert (recording, scheme, gain) == ("film", "ams", pytest.approx(100 * (ams - none), abs=0.06))
    assert [row[1] for row in busy] == [0, 0]
    assert busy[0][2] > busy[1][2] > 0


def test_the_page_names_every_column_of_the_small_tables(original: Made) -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for (table,) in original.query("SELECT name FROM sqlite_master WHERE type = 'table'"):
        (row,) = re.findall(rf"^\| `{table}` \|.*$", page, re.MULTILINE)
        columns = {name for _, name, *_ in original.query(f"PRAGMA table_info({table})")}
        told = set(re.findall(r"`(\w+)`", row)) - {table}
        assert told <= columns if table == "runs" else columns <= told


# --- later calls


def pretend(*outcomes: str) -> tuple[list[LabelJob], Callable[..., Iterator[Event[LabelJob]]]]:
    """Return the jobs that are done, and what takes the place of run_jobs: "" lets a job finish, a text is why it fails."""
    jobs: list[LabelJob] = []

    def run_jobs(next_job: Callable[[], LabelJob | None], *_: object) -> Iterator[Event[LabelJob]]:
        reasons = iter(outcomes)
        while (job := next_job()) is not None:
            jobs.append(job)
            yield Started(worker=0, job=job)
            reason = next(reasons)
            yield Failed(worker=0, job=job, reason=reason) if reason else Finished(worker=0, job=job, wall_s=1.0)

    return jobs, run_jobs


def test_only_what_is_missing_is_run(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, fake = pretend("", "still dirty", "still dirty")
    monkeypatch.setattr(command, "run_jobs", fake)
    before = made.query("SELECT * FROM runs ORDER BY run_id")
    assert command.run(made.arguments) == 1
    assert [getattr(job, "scheme", "").rpartition("/")[2] for job in jobs] == ["", "broken.py", "broken.py"]
    assert made.query("SELECT * FROM runs ORDER BY run_id") == before
    assert made.query("SELECT DISTINCT reason FROM failures") == [("still dirty",)]


def test_labels_that_cannot_be_had_fail_all_that_needs_them(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, fake = pretend("the teacher is ill")
    monkeypatch.setattr(command, "run_jobs", fake)
    assert command.run(made.arguments) == 1
    assert len(jobs) == 1
    assert made.query("SELECT count(*), reason FROM failures") == [(2, "no labels: the teacher is ill")]


def test_a_lost_database_is_made_of_the_outcomes(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, fake = pretend("", "no", "no")
    monkeypatch.setattr(command, "run_jobs", fake)
    before = made.query("SELECT name, miou_window, down_kbps FROM runs ORDER BY run_id")
    made.database.unlink()
    command.run(made.arguments)
    assert len(jobs) == 3
    assert made.query("SELECT name, miou_window, down_kbps FROM runs ORDER BY run_id") == before
    assert made.query("SELECT DISTINCT wall_s FROM runs") == [(None,)]


def test_what_was_finished_is_kept_when_the_rest_is_broken_off(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.move(made.out / "runs", made.out / "done")
    made.database.unlink()
    jobs: list[LabelJob] = []

    def stop_early(next_job: Callable[[], LabelJob | None], *_: object) -> Iterator[Event[LabelJob]]:
        while (job := next_job()) is not None:
            jobs.append(job)
            yield Started(worker=0, job=job)
            if isinstance(job, ExperimentJob):
                if len(jobs) > 2:
                    raise KeyboardInterrupt
                shutil.copytree(made.out / "done" / job.name, made.out / "runs" / job.name)
            yield Finished(worker=0, job=job, wall_s=1.0)

    monkeypatch.setattr(command, "run_jobs", stop_early)
    with pytest.raises(KeyboardInterrupt):
        command.run(made.arguments)
    done = jobs[1]
    assert isinstance(done, ExperimentJob)
    assert made.query("SELECT name, wall_s FROM runs") == [(done.name, 1.0)]
    outcome = read_outcome(made.out / "runs" / done.name)
    assert made.query("SELECT frames_labelled FROM runs") == [(outcome.frames_labelled,)]


def test_too_many_runs_get_no_page(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run_jobs", pretend("", "no", "no")[1])
    monkeypatch.setattr(command, "MOST_REPORTED", 2)
    for name in ("report.html", "sweep.html"):
        (made.out / name).unlink()
    command.run(made.arguments)
    assert not (made.out / "report.html").exists()
    assert (made.out / "sweep.html").exists(), "curves hold any number of runs"


def test_processes_share_the_cores(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def threads_and_workers(*arguments: str) -> tuple[int, int]:
        seen: list[int] = []
        jobs, fake = pretend("", "no", "no")

        def counting(next_job: Callable[[], LabelJob | None], workers: int, make: object) -> Iterator[Event[LabelJob]]:
            seen.append(workers)
            return fake(next_job)

        monkeypatch.setattr(command, "run_jobs", counting)
        others = [each for each in made.arguments if not each.startswith(("--workers", "--threads"))]
        command.run([*others, *arguments])
        return jobs[0].config.threads, seen[0]

    monkeypatch.setattr(command, "_cores", lambda: 8)
    assert threads_and_workers() == (1, 2)  # no more than there are experiments
    assert threads_and_workers("--workers=1") == (8, 1)
    assert threads_and_workers("--threads=8") == (8, 1)


def test_a_sweep_without_videos_is_refused(made: Made) -> None:
    with pytest.raises(ConfigurationError, match=r"mine.toml names no videos: give some with --videos"):
        command.run([each for each in made.arguments if not each.startswith("--videos")])


def test_two_recordings_of_one_name_are_refused(made: Made, tmp_path: Path) -> None:
    video = write_film(tmp_path)
    with pytest.raises(ConfigurationError, match="two recordings are called 'film'"):
        command.run([*made.arguments, f"--videos={video}"])


def test_a_sweep_over_parts_of_a_recording_is_refused(made: Made, tmp_path: Path) -> None:
    sweep = tmp_path / "parts.toml"
    sweep.write_text('schemes = ["none"]\n[axes]\nstart_s = [0.0, 2.0]\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match="takes different frames of 'film', which cannot be compared"):
        command.run([str(sweep), *made.arguments[1:], "--out", str(tmp_path / "new")])


def test_other_frames_do_not_join_the_results_of_a_folder(made: Made) -> None:
    with pytest.raises(ConfigurationError, match="holds results on other frames of the name 'film': use another --out"):
        command.run([*made.arguments, "--duration-s", "2"])


def test_the_schemes_of_a_sweep_are_those_of_its_file(made: Made) -> None:
    with pytest.raises(ConfigurationError, match="scheme is a setting of ams-server: name what is to be compared"):
        command.run([*made.arguments, "--scheme", "jit"])
