"""The subcommand `sweep`: cross products of settings over recordings and seeds, with all numbers in one database."""

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg, CliSuppress, SettingsConfigDict
from rich.console import Console

from ams_common.clock import SystemClock
from ams_common.errors import ConfigurationError
from ams_common.settings import CommandSettings, configure_logging, load_settings
from ams_eval.console import table_console
from ams_eval.outcome_files import OUTCOME_NAME, read_outcome
from ams_eval.processes import termination_as_exit
from ams_eval.reports import REPORT_NAME, write_reports
from ams_eval.result_folder import RUNS
from ams_eval.runner import ExperimentConfig, Workshop, given_of, hush, refuse_scheme
from ams_eval.sweeps.agenda import Agenda, Planned, plan_sweep
from ams_eval.sweeps.board import Board, sweep_progress
from ams_eval.sweeps.database import SweepDatabase
from ams_eval.sweeps.drawing import write_curves
from ams_eval.sweeps.jobs import ExperimentJob, LabelJob, make_worker
from ams_eval.sweeps.pool import Event, Failed, Finished, run_jobs
from ams_eval.sweeps.rows import Row
from ams_eval.sweeps.sweep_file import MOST_SEEDS, points, read_sweep
from ams_eval.sweeps.tables import CAPTION, draw_axes, draw_points
from ams_server.learners.config import Scheme

DATABASE_NAME = "sweep.sqlite"
MOST_REPORTED = 40
"""Runs that one HTML page can set side by side."""


class SweepSettings(ExperimentConfig, CommandSettings):
    """Run schemes with all combinations of settings on recordings, and keep the numbers in one SQLite file."""

    model_config = SettingsConfigDict(cli_prog_name="ams-eval sweep")

    sweep: CliPositionalArg[str]
    """A sweep file such as mine.toml, or one that comes with this product, such as ams_table3. The flags below hold for all of
    its experiments, and win over what it says of all."""
    videos: list[Path] = Field(default_factory=list)
    """Video files, folders of frames, or data sets; by default those that the file names."""
    seeds: int | None = Field(default=None, ge=1, le=MOST_SEEDS)
    """How many times, with different random numbers, beginning with those of --seed; by default as the file says."""
    workers: int = Field(default=0, ge=0, le=256)
    """Experiments at a time, each in a process of its own; 0 for as many as there are cores for --threads each, or one."""
    out: Path = Path("out/sweep")
    """Folder for results; what is finished there is not done again."""
    database: Path | None = None
    """SQLite file for the numbers; by default sweep.sqlite in --out."""
    verbose: bool = False
    """Log details too."""

    scheme: CliSuppress[Scheme] = "ams"
    """Stands in the schemes of the file."""

    @model_validator(mode="after")
    def _schemes_are_named(self) -> "SweepSettings":
        refuse_scheme(self)
        return self


def run(arguments: Sequence[str]) -> int:
    """Run the sweep that the command line asks for; return the exit status, 1 if an experiment failed.

    Raises:
        AmsError: what a person must mend, in one line; what was finished stays.
    """
    settings = load_settings(SweepSettings, arguments)
    configure_logging(settings.verbose)
    hush()
    planned, workers = _plan(settings)
    path = settings.database or settings.out / DATABASE_NAME
    with closing(SweepDatabase(path)) as database, termination_as_exit():
        missing = _missing(planned, database)
        failures = _run_missing(missing, database, min(workers, len(missing))) if missing else {}
        _tell(planned, database.runs(), settings.out)
        told = write_curves(planned, database.runs(), Path(settings.sweep).stem, settings.out)
    console = Console()
    for line in (told, f"numbers: {path}"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    for job, point in {each.job.name: (each.job, each.point) for each in planned}.values():
        if job.name in failures:
            told = f"failed: {job.recording}: {point.title}, seed {job.seed}: {failures[job.name]}"
            console.print(told, soft_wrap=True, highlight=False, markup=False)
    return 1 if failures else 0


def _plan(settings: SweepSettings) -> tuple[list[Planned], int]:
    """Return all experiments, and how many are run at a time."""
    sweep = read_sweep(settings.sweep)
    videos = settings.videos or sweep.videos
    if not videos:
        raise ConfigurationError(f"{sweep.source} names no videos: give some with --videos")
    found = points(sweep, given_of(ExperimentConfig, settings))
    threads = max(1, *(point.config.threads for point in found))
    workers = settings.workers or max(1, _cores() // threads)
    planned = plan_sweep(
        found,
        videos,
        settings.seeds or sweep.seeds,
        Workshop(SystemClock()),
        out=settings.out,
        threads=max(1, _cores() // workers),
    )
    return planned, workers


def _missing(planned: Sequence[Planned], database: SweepDatabase) -> dict[str, ExperimentJob]:
    """Return the experiments that are to be run, by name; those whose outcomes are on disk go into the database."""
    finished = database.finished()
    missing: dict[str, ExperimentJob] = {}
    for job in (each.job for each in planned):
        folder = job.out / RUNS / job.name
        if job.name in finished or job.name in missing:
            continue
        if (folder / OUTCOME_NAME).is_file():
            database.add(job.name, read_outcome(folder))
            finished.add(job.name)
        else:
            missing[job.name] = job
    return missing


def _run_missing(missing: dict[str, ExperimentJob], database: SweepDatabase, workers: int) -> dict[str, str]:
    """Run experiments and put what comes out into the database; return why some failed, by name."""
    agenda = Agenda(missing.values())
    failures: dict[str, str] = {}
    with (
        sweep_progress(Console(stderr=True)) as progress,
        closing(run_jobs(agenda.next_job, workers, make_worker)) as events,
    ):
        board = Board(progress, jobs=agenda.jobs, frames=agenda.frames)
        for event in events:
            board.show(event)
            for job, reason in _settle(event, agenda, database):
                failures[job.name] = reason
                database.fail(job.name, reason)
                if job is not event.job:
                    board.give_up(job)
    return failures


def _settle(event: Event[LabelJob], agenda: Agenda, database: SweepDatabase) -> list[tuple[ExperimentJob, str]]:
    """Take note of a job that has ended; return the experiments that failed with it, and why."""
    job = event.job
    if isinstance(event, Finished):
        if isinstance(job, ExperimentJob):
            database.add(job.name, read_outcome(job.out / RUNS / job.name), event.wall_s)
        else:
            agenda.labels_done(job)
    if not isinstance(event, Failed):
        return []
    if isinstance(job, ExperimentJob):
        return [(job, event.reason)]
    return [(given_up, f"no labels: {event.reason}") for given_up in agenda.labels_failed(job)]


def _tell(planned: Sequence[Planned], runs: Mapping[str, Row], out: Path) -> None:
    """Print the tables of a sweep, and write the reports where there are not too many runs for a page."""
    console = table_console()
    for table in (draw_points(planned, runs), *draw_axes(planned, runs)):
        console.print(table)
    console.print(CAPTION, style="dim", highlight=False)
    folders = len(list((out / RUNS).glob(f"*/{OUTCOME_NAME}")))
    if not 0 < folders <= MOST_REPORTED:
        return
    try:
        write_reports(out)
    except ConfigurationError as error:
        console.print(f"no report: {error}", soft_wrap=True, highlight=False, markup=False)
    else:
        console.print(f"report: {out / REPORT_NAME}", soft_wrap=True, highlight=False)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
