"""The subcommand `run`: every scheme on every recording with every seed, and reports of what came out."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg, CliSuppress, SettingsConfigDict
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ams_common.clock import SystemClock
from ams_common.errors import ConfigurationError, system_reason
from ams_common.settings import CommandSettings, configure_logging, load_settings
from ams_eval.console import table_console
from ams_eval.experiment import Laboratory
from ams_eval.groups import shared_name, sharing_losses
from ams_eval.inputs.layouts import open_recordings
from ams_eval.inputs.recording import Recording
from ams_eval.outcome_files import write_moments, write_outcome
from ams_eval.references import References
from ams_eval.reports import REPORT_NAME, write_reports
from ams_eval.result import points
from ams_eval.result_folder import RECORDINGS, require_same_frames
from ams_eval.runner import (
    Experiment,
    ExperimentConfig,
    Workshop,
    find_references,
    hush,
    part_of,
    perform,
    perform_together,
    plan,
    refuse_scheme,
)
from ams_eval.schemes.registry import NamedScheme, parse_scheme
from ams_eval.summary_table import draw_summary
from ams_server.learners.config import Scheme

OVERLAY_NAME = "overlay.mp4"

_log = logging.getLogger(__name__)


class RunSettings(ExperimentConfig, CommandSettings):
    """Show what adaptation would do for recordings, beside everything else that one might do."""

    model_config = SettingsConfigDict(cli_prog_name="ams-eval run")

    videos: CliPositionalArg[list[Path]]
    """Video files, folders of frames, or data sets."""
    schemes: list[str] = Field(default=["none", "ams"], min_length=1)
    """What to compare: none, one-time, tracking, jit, jit-full, ams, paper, authors_code, full, oracle or a file of your own,
    each with changed settings of the server if wanted, such as paper:selection=random:fraction=0.01."""
    seeds: int = Field(default=1, ge=1, le=100)
    """How many times, with different random numbers, beginning with those of --seed."""
    devices: int = Field(default=1, ge=1, le=1000)
    """Devices that share the server's accelerator, each with a recording; 1 for a server of its own. Needs --latency."""
    overlay_video: bool = False
    """Film what each scheme showed beside what the teacher says, into overlay.mp4 beside its outcome."""
    out: Path = Path("out/eval")
    """Folder for results and reports; what is finished there is not done again."""
    verbose: bool = False
    """Log details too."""

    scheme: CliSuppress[Scheme] = "ams"
    """Stands in each of --schemes."""

    @model_validator(mode="after")
    def _schemes_are_named(self) -> "RunSettings":
        refuse_scheme(self)
        return self


def run(arguments: Sequence[str]) -> int:
    """Run the experiments that the command line asks for; return the exit status.

    Raises:
        AmsError: what a person must mend, in one line; what was finished stays.
    """
    settings = load_settings(RunSettings, arguments)
    configure_logging(settings.verbose)
    if not settings.verbose:
        hush()
    _make_folder(settings.out)
    schemes = [parse_scheme(text) for text in settings.schemes]
    recordings = [recording for path in settings.videos for recording in open_recordings(path, settings)]
    require_names_once(recordings)
    for recording in recordings:
        require_same_frames(recording, settings.out)
    if settings.devices > 1 and settings.latency == "none":
        raise ConfigurationError("--devices wait for each other only where work takes time: give --latency measured or costs")
    laboratory = Workshop(SystemClock()).laboratory(part_of(ExperimentConfig, settings))
    with frame_progress(Console(stderr=True)) as progress:
        Runner(settings, laboratory, progress).run(recordings, schemes)
    rows = write_reports(settings.out)
    console = table_console()
    console.print(draw_summary(rows))
    for each in sharing_losses(rows):
        told = f"{each.scheme}, {each.devices} devices at one server: {points(-each.loss)} points of mIoU against one alone"
        console.print(told, highlight=False, markup=False)
    console.print(f"time: {laboratory.profile.describe()}")
    console.print(f"report: {settings.out / REPORT_NAME}", soft_wrap=True)
    return 0


def _make_folder(out: Path) -> None:
    """Make the folder of results before hours of work find that it cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make the folder {str(out)!r} of --out: {system_reason(error)}") from error


class Runner:
    """Runs what is not finished yet, one experiment after the other."""

    def __init__(self, settings: RunSettings, laboratory: Laboratory, progress: Progress) -> None:
        self._settings = settings
        self._config = part_of(ExperimentConfig, settings)
        self._laboratory = laboratory
        self._progress = progress
        self._found: dict[str, References] = {}

    def run(self, recordings: Sequence[Recording], schemes: Sequence[NamedScheme]) -> None:
        """Run `schemes` on each recording with each seed, and then on several devices at once if that is wanted.

        Raises:
            AmsError: a recording, the teacher or a scheme fails; what was finished stays.
        """
        seeds = range(self._settings.seed, self._settings.seed + self._settings.seeds)
        for recording in recordings:
            for experiment in [self._plan(recording, scheme, seed) for scheme in schemes for seed in seeds]:
                if not experiment.finished(self._settings.out):
                    self._run(experiment)
        for scheme in schemes:
            if self._settings.devices > 1 and scheme.shares_server:
                self._run_fleet(recordings, scheme)

    def _plan(self, recording: Recording, scheme: NamedScheme, seed: int) -> Experiment:
        return plan(self._laboratory, self._config, recording, scheme, seed)

    def _run(self, experiment: Experiment) -> None:
        frames, folder = experiment.recording.frame_count, experiment.folder(self._settings.out)
        references = self._references(experiment.recording)
        task = self._progress.add_task(experiment.title, total=frames)
        outcome = perform(
            self._laboratory,
            experiment,
            references,
            on_frame=lambda index: self._progress.update(task, completed=index + 1),
            overlay=folder / OVERLAY_NAME if self._settings.overlay_video else None,
        )
        self._progress.update(task, completed=frames)
        write_outcome(outcome, folder)

    def _run_fleet(self, recordings: Sequence[Recording], scheme: NamedScheme) -> None:
        """Let all devices run `scheme` at once; each counts as a seed of its own."""
        devices = self._settings.devices
        together = replace(scheme, name=shared_name(scheme.name, devices))
        experiments = [
            self._plan(recordings[index % len(recordings)], together, self._settings.seed + index) for index in range(devices)
        ]
        if all(experiment.finished(self._settings.out) for experiment in experiments):
            return
        references = [self._references(experiment.recording) for experiment in experiments]
        task = self._progress.add_task(together.name, total=sum(experiment.recording.frame_count for experiment in experiments))
        busy_share, outcomes = perform_together(
            self._laboratory, experiments, references, on_frame=lambda: self._progress.advance(task)
        )
        _log.info("%s: the accelerator worked %.0f %% of the time", together.name, 100 * busy_share)
        for experiment, outcome in zip(experiments, outcomes, strict=True):
            write_outcome(outcome, experiment.folder(self._settings.out))

    def _references(self, recording: Recording) -> References:
        if recording.name in self._found:
            return self._found[recording.name]
        task = self._progress.add_task(f"{recording.name}: labels of the teacher", total=recording.frame_count)
        references = find_references(
            self._laboratory,
            self._config,
            recording,
            on_frame=lambda index: self._progress.update(task, completed=index + 1),
        )
        write_moments(references.moments, self._settings.out / RECORDINGS / recording.name)
        self._found[recording.name] = references
        return references


def require_names_once(recordings: Sequence[Recording]) -> None:
    """Refuse different frames under one name: references, pictures and rows of tables are kept by it.

    Raises:
        ConfigurationError: there are some.
    """
    digests: dict[str, str] = {}
    for recording in recordings:
        if digests.setdefault(recording.name, recording.digest) != recording.digest:
            raise ConfigurationError(f"two recordings are called {recording.name!r}: rename one")


def frame_progress(console: Console) -> Progress:
    """Return bars that tell how many frames are done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
