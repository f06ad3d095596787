"""Runs experiments: a scheme on a recording with a seed, whatever command asks for it."""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, Field

from ams_common.clock import Clock
from ams_common.settings import PartConfig
from ams_edge.frame_filter import FilterConfig
from ams_eval.experiment import Judge, Laboratory, ModelShelf, described, stage_for, timed
from ams_eval.fleet import Fleet
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.label_cache import LabelCacheConfig, cached_teacher
from ams_eval.inputs.recording import Recording
from ams_eval.outcome import Outcome, SettingValue
from ams_eval.outcome_files import OUTCOME_NAME
from ams_eval.overlay_writer import OverlayWriter, View
from ams_eval.profile import Profile, ProfiledTeacher
from ams_eval.recorded_teacher import RECORDED, UnknownTeacher
from ams_eval.references import References, label_references
from ams_eval.replay.latency import NetworkConfig
from ams_eval.replay.student_config import StudentRuntimeConfig
from ams_eval.result_folder import RUNS
from ams_eval.schemes.registry import NamedScheme, parse_scheme
from ams_server.daemon import check_teachable, choose_device
from ams_server.settings import AdaptationConfig
from ams_server.starting_model import student_classes
from ams_server.teachers.base import Teacher
from ams_server.teachers.config import TeacherConfig
from ams_server.teachers.factory import create_teacher
from ams_server.trainer import compute_dtype

PartT = TypeVar("PartT", bound=PartConfig)
_UNSAFE = re.compile(r"[^A-Za-z0-9._=-]+")


class ScoringConfig(PartConfig):
    """What is scored."""

    scored_hz: float = Field(default=2.0, ge=0, le=1000)
    """Frames a second that are scored, evenly spread; 0 for all."""


class ExperimentConfig(
    AdaptationConfig, NetworkConfig, FilterConfig, InputConfig, LabelCacheConfig, StudentRuntimeConfig, ScoringConfig
):
    """All settings of an experiment."""


def part_of(part: type[PartT], settings: BaseModel) -> PartT:
    """Return the fields of one part of `settings`; those that were given count as given."""
    return part(**given_of(part, settings))


def given_of(part: type[PartConfig], settings: BaseModel) -> dict[str, Any]:
    """Return by name those fields of one part of `settings` that a user gave."""
    return {name: getattr(settings, name) for name in part.model_fields if name in settings.model_fields_set}


def refuse_scheme(settings: BaseModel) -> None:
    """Refuse the server's setting `scheme` where several schemes are compared; raise ValueError if a user gave it."""
    if "scheme" in settings.model_fields_set:
        raise ValueError("scheme is a setting of ams-server: name what is to be compared with schemes, such as none,ams,jit")


class Workshop:
    """Makes laboratories, which share their starting models and the latest teacher: both take seconds to make."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._models = ModelShelf()
        self._teacher: Teacher | None = None
        self._teacher_key = ""

    def laboratory(self, config: ExperimentConfig) -> Laboratory:
        """Return what all experiments with `config` share.

        Raises:
            AmsError: a setting, a file or a model cannot be used.
        """
        device = choose_device(config.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        teacher, profile = self._find_teacher(config, device), Profile(self._clock)
        check_teachable(teacher.classes, student_classes(config))
        return Laboratory(
            teacher=ProfiledTeacher(teacher, profile),
            cached_teacher=ProfiledTeacher(cached_teacher(teacher, config), profile),
            given=given_of(AdaptationConfig, config),
            device=device,
            runtime=part_of(StudentRuntimeConfig, config),
            network=part_of(NetworkConfig, config),
            frame_filter=part_of(FilterConfig, config),
            stopwatch=self._clock,
            profile=profile,
            models=self._models,
            recorded=config.teacher == RECORDED,
        )

    def _find_teacher(self, config: ExperimentConfig, device: torch.device) -> Teacher:
        dtype = compute_dtype(config.precision, device)
        key = repr((part_of(TeacherConfig, config), device, dtype))
        if config.teacher == RECORDED:
            return UnknownTeacher(config)
        if self._teacher is None or key != self._teacher_key:
            self._teacher = None  # a second large network may not fit
            self._teacher = create_teacher(config, device, None if dtype == torch.float32 else dtype)
            self._teacher_key = key
        return self._teacher


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """A scheme on a recording with a seed."""

    recording: Recording
    scheme: NamedScheme
    seed: int
    config: AdaptationConfig
    settings: Mapping[str, SettingValue]
    """All that decides the outcome."""
    name: str
    """Of the folder of its outcome: recording, scheme, seed, and a digest of all the rest."""

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"{self.recording.name}: {self.scheme.name}, seed {self.seed}"

    def folder(self, out: Path) -> Path:
        """Return where its outcome belongs in a folder of results."""
        return out / RUNS / self.name

    def finished(self, out: Path) -> bool:
        """Tell whether its outcome is there."""
        return (self.folder(out) / OUTCOME_NAME).is_file()


def plan(laboratory: Laboratory, config: ExperimentConfig, recording: Recording, scheme: NamedScheme, seed: int) -> Experiment:
    """Return the experiment in which `scheme` meets `recording` with `seed`.

    Raises:
        AmsError: a setting or a file of the scheme cannot be used, or the server would refuse the budgets.
    """
    adaptation = scheme.config(laboratory.given, seed)
    scheme.require_served(adaptation, laboratory.network)
    settings = {**described(laboratory, scheme, adaptation), "scored_hz": config.scored_hz}
    human = "" if recording.human is None else recording.human.digest
    teacher = [recording.teacher.digest] if laboratory.recorded and recording.teacher is not None else []
    key = json.dumps([recording.digest, human, settings, *teacher], sort_keys=True).encode()
    digest = hashlib.blake2b(key, digest_size=4).hexdigest()
    name = f"{recording.name}--{_UNSAFE.sub('-', scheme.name)[:60]}--s{seed}--{digest}"
    return Experiment(recording=recording, scheme=scheme, seed=seed, config=adaptation, settings=settings, name=name)


def find_references(
    laboratory: Laboratory,
    config: ExperimentConfig,
    recording: Recording,
    on_frame: Callable[[int], None] = lambda index: None,
) -> References:
    """Return what the frames of a recording should be labelled as; `on_frame` is called with the index of each that is done.

    Raises:
        AmsError: the recording or the teacher fails, or people's labels cannot be read.
    """
    manifest = laboratory.model(parse_scheme("none").config(laboratory.given, config.seed)).manifest
    size = (manifest.width, manifest.height)
    return label_references(
        timed(recording, laboratory.profile),
        laboratory.teacher_of(recording),
        manifest.classes,
        size,
        config.scored_hz,
        on_frame,
    )


def perform(
    laboratory: Laboratory,
    experiment: Experiment,
    references: References,
    on_frame: Callable[[int], None] = lambda index: None,
    overlay: Path | None = None,
) -> Outcome:
    """Run an experiment; `on_frame` is called with the index of each frame that is scored.

    With `overlay`, an .mp4 file, the scored frames are filmed with the labels of the teacher and of the scheme.

    Raises:
        AmsError: the recording, the teacher or the scheme fails, or the film cannot be written.
    """
    stage = stage_for(laboratory, experiment.recording, references, experiment.config)
    judge = Judge(stage, references)
    with ExitStack() as stack:
        film = stack.enter_context(OverlayWriter(overlay, stage.model.manifest.classes)) if overlay else None
        for shown in experiment.scheme.run(stage):
            judge.add(shown)
            on_frame(shown.frame.index)
            if film is not None:
                labels = references.frames[shown.frame.index].teacher
                film.write(shown, [View("teacher", labels), View(experiment.scheme.name, shown.labels)])
    return judge.outcome(experiment.scheme.name, experiment.seed, experiment.settings)


def perform_together(
    laboratory: Laboratory,
    experiments: Sequence[Experiment],
    references: Sequence[References],
    on_frame: Callable[[], None] = lambda: None,
) -> tuple[float, list[Outcome]]:
    """Run experiments of one scheme on devices that share a server.

    Returns the share of the time that its accelerator worked, 0..1, and the outcomes.

    Raises:
        AmsError: a recording, the teacher or the scheme fails.
    """
    judges = [
        Judge(stage_for(laboratory, experiment.recording, reference, experiment.config), reference)
        for experiment, reference in zip(experiments, references, strict=True)
    ]
    fleet = Fleet([judge.stage for judge in judges])
    for index, shown in fleet.label():
        judges[index].add(shown)
        on_frame()
    outcomes = [
        judge.outcome(experiment.scheme.name, experiment.seed, experiment.settings)
        for judge, experiment in zip(judges, experiments, strict=True)
    ]
    return fleet.busy_share, outcomes


def hush() -> None:
    """Log of server and edge no more than warnings, since they run many times."""
    for name in ("ams_server", "ams_edge"):
        logging.getLogger(name).setLevel(logging.WARNING)
