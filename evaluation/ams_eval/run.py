"""The subcommand `run`: every scheme on every recording with every seed, and reports of what came out."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg, SettingsConfigDict
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ams_common.clock import SystemClock
from ams_common.settings import CommandSettings, configure_logging, load_settings
from ams_edge.runtime_config import RuntimeConfig
from ams_eval.experiment import Laboratory
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.label_cache import LabelCacheConfig
from ams_eval.inputs.layouts import open_recordings
from ams_eval.inputs.recording import Recording
from ams_eval.outcome_files import write_moments, write_outcome
from ams_eval.references import References
from ams_eval.replay.latency import NetworkConfig
from ams_eval.reports import write_reports
from ams_eval.result_folder import RECORDINGS
from ams_eval.runner import Experiment, ExperimentConfig, ScoringConfig, Workshop, find_references, part_of, perform, plan
from ams_eval.schemes.registry import NamedScheme, parse_scheme
from ams_server.settings import AdaptationConfig


class RunSettings(
    AdaptationConfig, NetworkConfig, InputConfig, LabelCacheConfig, RuntimeConfig, ScoringConfig, CommandSettings
):
    """Show what adaptation would do for recordings, beside everything else that one might do."""

    model_config = SettingsConfigDict(cli_prog_name="ams-eval run")

    videos: CliPositionalArg[list[Path]]
    """Video files, folders of frames, or data sets."""
    schemes: list[str] = Field(default=["none", "ams"], min_length=1)
    """What to compare: none, one-time, tracking, jit, jit-full, ams, paper, authors_code, full, oracle or a file of your own,
    each with changed settings of the server if wanted, such as paper:selection=random:fraction=0.01."""
    seeds: int = Field(default=1, ge=1, le=100)
    """How many times, with different random numbers, beginning with those of --seed."""
    out: Path = Path("out/eval")
    """Folder for results and reports; what is finished there is not done again."""
    verbose: bool = False
    """Log details too."""


def run(arguments: Sequence[str]) -> int:
    """Run the experiments that the command line asks for; return the exit status.

    Raises:
        AmsError: what a person must mend, in one line; what was finished stays.
    """
    settings = load_settings(RunSettings, arguments)
    configure_logging(settings.verbose)
    if not settings.verbose:
        hush()
    schemes = [parse_scheme(text) for text in settings.schemes]
    recordings = [recording for path in settings.videos for recording in open_recordings(path, settings)]
    laboratory = Workshop(SystemClock()).laboratory(part_of(ExperimentConfig, settings))
    with _progress(Console(stderr=True)) as progress:
        runner = Runner(settings, laboratory, progress)
        for recording in recordings:
            runner.run(recording, schemes)
    write_reports(settings.out)
    Console().print(f"report: {settings.out / 'report.html'}")
    return 0


def hush() -> None:
    """Log of server and edge no more than warnings, since they run many times."""
    for name in ("ams_server", "ams_edge"):
        logging.getLogger(name).setLevel(logging.WARNING)


class Runner:
    """Runs what is not finished yet, one experiment after the other."""

    def __init__(self, settings: RunSettings, laboratory: Laboratory, progress: Progress) -> None:
        self._out = settings.out
        self._seeds = range(settings.seed, settings.seed + settings.seeds)
        self._config = part_of(ExperimentConfig, settings)
        self._laboratory = laboratory
        self._progress = progress

    def run(self, recording: Recording, schemes: Sequence[NamedScheme]) -> None:
        """Run `schemes` on `recording` with each seed.

        Raises:
            AmsError: the recording, the teacher or a scheme fails; what was finished stays.
        """
        planned = [plan(self._laboratory, self._config, recording, scheme, seed) for scheme in schemes for seed in self._seeds]
        wanted = [experiment for experiment in planned if not experiment.finished(self._out)]
        if not wanted:
            return
        references = self._references(recording)
        for experiment in wanted:
            self._run(experiment, references)

    def _references(self, recording: Recording) -> References:
        task = self._progress.add_task(f"{recording.name}: labels of the teacher", total=recording.frame_count)
        references = find_references(
            self._laboratory,
            self._config,
            recording,
            on_frame=lambda index: self._progress.update(task, completed=index + 1),
        )
        write_moments(references.moments, self._out / RECORDINGS / recording.name)
        return references

    def _run(self, experiment: Experiment, references: References) -> None:
        frames = experiment.recording.frame_count
        task = self._progress.add_task(experiment.title, total=frames)
        outcome = perform(
            self._laboratory,
            experiment,
            references,
            on_frame=lambda index: self._progress.update(task, completed=index + 1),
        )
        self._progress.update(task, completed=frames)
        write_outcome(outcome, experiment.folder(self._out))


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
