"""The subcommand `run`: every scheme on every recording with every seed, and reports of what came out."""

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import Field
from pydantic_settings import CliPositionalArg, SettingsConfigDict
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ams_common.clock import Clock, SystemClock
from ams_common.settings import CommandSettings, PartConfig, configure_logging, load_settings
from ams_edge.runtime_config import RuntimeConfig
from ams_eval.experiment import Judge, Laboratory, described, stage_for
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.label_cache import LabelCacheConfig, cached_teacher
from ams_eval.inputs.layouts import open_recordings
from ams_eval.inputs.recording import Recording
from ams_eval.outcome import SettingValue
from ams_eval.outcome_files import OUTCOME_NAME, write_moments, write_outcome
from ams_eval.profile import Profile, ProfiledTeacher
from ams_eval.references import References, label_references
from ams_eval.replay.latency import NetworkConfig
from ams_eval.reports import write_reports
from ams_eval.result_folder import RECORDINGS, RUNS
from ams_eval.schemes.registry import NamedScheme, parse_scheme
from ams_server.backend import student_classes
from ams_server.daemon import check_teachable, choose_device
from ams_server.settings import AdaptationConfig
from ams_server.teachers.factory import create_teacher
from ams_server.trainer import compute_dtype

PartT = TypeVar("PartT", bound=PartConfig)
_UNSAFE = re.compile(r"[^A-Za-z0-9._=-]+")


class RunSettings(AdaptationConfig, NetworkConfig, InputConfig, LabelCacheConfig, RuntimeConfig, CommandSettings):
    """Show what adaptation would do for recordings, beside everything else that one might do."""

    model_config = SettingsConfigDict(cli_prog_name="ams-eval run")

    videos: CliPositionalArg[list[Path]]
    """Video files, folders of frames, or data sets."""
    schemes: list[str] = Field(default=["none", "ams"], min_length=1)
    """What to compare: none, one-time, ams, paper, authors_code, full or a file of your own, each with changed settings of the
    server if wanted, such as paper:selection=random:fraction=0.01."""
    seeds: int = Field(default=1, ge=1, le=100)
    """How many times, with different random numbers, beginning with those of --seed."""
    scored_hz: float = Field(default=2.0, ge=0, le=1000)
    """Frames a second that are scored, evenly spread; 0 for all."""
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
        logging.getLogger("ams_server").setLevel(logging.WARNING)
        logging.getLogger("ams_edge").setLevel(logging.WARNING)
    schemes = [parse_scheme(text) for text in settings.schemes]
    recordings = [recording for path in settings.videos for recording in open_recordings(path, settings)]
    laboratory = make_laboratory(settings, SystemClock())
    with _progress(Console(stderr=True)) as progress:
        runner = Runner(settings, laboratory, progress)
        for recording in recordings:
            runner.run(recording, schemes)
    write_reports(settings.out)
    Console().print(f"report: {settings.out / 'report.html'}")
    return 0


def make_laboratory(settings: RunSettings, clock: Clock) -> Laboratory:
    """Return what all experiments share.

    Raises:
        AmsError: a setting, a file or a model cannot be used.
    """
    device = choose_device(settings.device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    dtype = compute_dtype(settings.precision, device)
    teacher = create_teacher(settings, device, None if dtype == torch.float32 else dtype)
    check_teachable(teacher.classes, student_classes(settings))
    profile = Profile(clock)
    given = {name: getattr(settings, name) for name in AdaptationConfig.model_fields if name in settings.model_fields_set}
    return Laboratory(
        teacher=ProfiledTeacher(teacher, profile),
        cached_teacher=ProfiledTeacher(cached_teacher(teacher, settings), profile),
        given=given,
        device=device,
        runtime=_part(RuntimeConfig, settings),
        network=_part(NetworkConfig, settings),
        stopwatch=clock,
        profile=profile,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """A scheme on a recording with a seed, and where its outcome goes."""

    recording: Recording
    scheme: NamedScheme
    seed: int
    config: AdaptationConfig
    settings: Mapping[str, SettingValue]
    """All that decides the outcome."""
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether the outcome is there."""
        return (self.folder / OUTCOME_NAME).is_file()


class Runner:
    """Runs what is not finished yet, one experiment after the other."""

    def __init__(self, settings: RunSettings, laboratory: Laboratory, progress: Progress) -> None:
        self._settings = settings
        self._laboratory = laboratory
        self._progress = progress

    def run(self, recording: Recording, schemes: Sequence[NamedScheme]) -> None:
        """Run `schemes` on `recording` with each seed.

        Raises:
            AmsError: the recording, the teacher or a scheme fails; what was finished stays.
        """
        seeds = range(self._settings.seed, self._settings.seed + self._settings.seeds)
        experiments = [self._experiment(recording, scheme, seed) for scheme in schemes for seed in seeds]
        open_experiments = [experiment for experiment in experiments if not experiment.finished]
        if not open_experiments:
            return
        references = self._references(recording)
        for experiment in open_experiments:
            self._run(experiment, references)

    def _experiment(self, recording: Recording, scheme: NamedScheme, seed: int) -> Experiment:
        config = scheme.config(self._laboratory.given, seed)
        settings = {**described(self._laboratory, scheme, config), "scored_hz": self._settings.scored_hz}
        key = json.dumps([recording.digest, settings], sort_keys=True).encode()
        digest = hashlib.blake2b(key, digest_size=4).hexdigest()
        name = f"{recording.name}--{_UNSAFE.sub('-', scheme.name)[:60]}--s{seed}--{digest}"
        folder = self._settings.out / RUNS / name
        return Experiment(recording=recording, scheme=scheme, seed=seed, config=config, settings=settings, folder=folder)

    def _references(self, recording: Recording) -> References:
        manifest = self._laboratory.models.get(
            parse_scheme("none").config(self._laboratory.given, self._settings.seed)
        ).manifest
        task = self._progress.add_task(f"{recording.name}: labels of the teacher", total=recording.frame_count)
        references = label_references(
            recording,
            self._laboratory.cached_teacher,
            manifest.classes,
            (manifest.width, manifest.height),
            self._settings.scored_hz,
            on_frame=lambda index: self._progress.update(task, completed=index + 1),
        )
        write_moments(references.moments, self._settings.out / RECORDINGS / recording.name)
        return references

    def _run(self, experiment: Experiment, references: References) -> None:
        stage = stage_for(self._laboratory, experiment.recording, references, experiment.config)
        judge = Judge(stage, references)
        what = f"{experiment.recording.name}: {experiment.scheme.name}, seed {experiment.seed}"
        task = self._progress.add_task(what, total=experiment.recording.frame_count)
        for shown in experiment.scheme.label(stage):
            judge.add(shown)
            self._progress.update(task, completed=shown.frame.index + 1)
        self._progress.update(task, completed=experiment.recording.frame_count)
        outcome = judge.outcome(experiment.scheme.name, experiment.seed, experiment.settings)
        write_outcome(outcome, experiment.folder)


def _part(part: type[PartT], settings: CommandSettings) -> PartT:
    """Return the fields of one part of `settings`."""
    return part(**{name: getattr(settings, name) for name in part.model_fields})


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
