"""One scheme on one recording with one seed: from settings to an outcome."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ams_common.clock import Clock
from ams_common.errors import ConfigurationError, system_reason
from ams_common.layout import DIGEST_BYTES
from ams_edge.frame_filter import FilterConfig
from ams_eval.inputs.recording import Recording
from ams_eval.outcome import Outcome, SettingValue
from ams_eval.profile import MODELS, SOURCE, Profile, ProfiledTeacher
from ams_eval.recorded_teacher import RecordedTeacher
from ams_eval.references import References
from ams_eval.replay.device import Shown
from ams_eval.replay.journal import Journal
from ams_eval.replay.latency import NetworkConfig, parse_latency
from ams_eval.replay.student_config import StudentRuntimeConfig
from ams_eval.schemes.base import Stage
from ams_eval.schemes.registry import NamedScheme
from ams_eval.scores import ScoreBuilder
from ams_server.settings import AdaptationConfig, ComputeConfig
from ams_server.starting_model import StartingModel, starting_model
from ams_server.students.config import StudentConfig
from ams_server.teachers.base import Teacher

_MODEL_FIELDS = (*StudentConfig.model_fields, "class_set", "classes")


class ModelShelf:
    """Starting models by the settings that make them: an export takes seconds, and schemes share them."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, ...], StartingModel] = {}

    def get(self, config: AdaptationConfig) -> StartingModel:
        """Return the model that every device starts from.

        Raises:
            ConfigurationError: an unknown student, class set or class, or a size the student cannot take.
            ModelError: the weights do not fit.
        """
        # A random start depends on the seed, pretrained weights do not.
        seed = None if config.student_weights is not None else config.seed
        key = (*(repr(getattr(config, name)) for name in _MODEL_FIELDS), repr(seed))
        if key not in self._models:
            self._models[key] = starting_model(config)
        return self._models[key]


@dataclass(frozen=True, kw_only=True, eq=False)
class Laboratory:
    """What all experiments of a command share."""

    teacher: Teacher
    """Labels frames, each time anew."""
    cached_teacher: Teacher
    """The same with a memory, for where the time that labelling takes does not matter."""
    given: Mapping[str, Any]
    """Settings of the server that the user gave, by name; the schemes add their own."""
    device: torch.device
    runtime: StudentRuntimeConfig
    network: NetworkConfig
    frame_filter: FilterConfig
    stopwatch: Clock
    profile: Profile
    models: ModelShelf = field(default_factory=ModelShelf)
    recorded: bool = False
    """Whether the labels that came with each recording are its teacher's, and `teacher` knows none."""

    def teacher_of(self, recording: Recording, *, measured: bool = False) -> Teacher:
        """Return what labels the frames of `recording`; with `measured` each time anew.

        Raises:
            ConfigurationError: its own labels are wanted, and none came with it.
            SourceError: it cannot be read.
        """
        if self.recorded:
            return ProfiledTeacher(RecordedTeacher(recording), self.profile)
        return self.teacher if measured else self.cached_teacher

    def model(self, config: AdaptationConfig) -> StartingModel:
        """Return the model that every device starts from, as ModelShelf does."""
        with self.profile.part(MODELS):
            return self.models.get(config)


def timed(recording: Recording, profile: Profile) -> Recording:
    """Return `recording` with the time of decoding its frames counted."""
    return replace(recording, frames=lambda: profile.each(SOURCE, recording.frames()))


def stage_for(laboratory: Laboratory, recording: Recording, references: References, config: AdaptationConfig) -> Stage:
    """Return the stage of one experiment.

    Raises:
        AmsError: a setting cannot be used.
    """
    measured = parse_latency(laboratory.network.latency).measured
    return Stage(
        recording=timed(recording, laboratory.profile),
        scored_frames=frozenset(references.frames),
        config=config,
        model=laboratory.model(config),
        teacher=laboratory.teacher_of(recording, measured=measured),
        device=laboratory.device,
        runtime=laboratory.runtime,
        network=laboratory.network,
        frame_filter=laboratory.frame_filter,
        stopwatch=laboratory.stopwatch,
        journal=Journal(),
        profile=laboratory.profile,
    )


class Judge:
    """Scores what a scheme shows, frame by frame."""

    def __init__(self, stage: Stage, references: References) -> None:
        self.stage = stage
        self._references = references
        self._classes = stage.model.manifest.classes
        self._teacher = ScoreBuilder(len(self._classes))
        self._human = ScoreBuilder(len(self._classes))
        self._order = list(references.frames)
        self._versions: list[int] = []
        self._ages_s: list[float] = []
        self._kept = dict.fromkeys(map(int, references.moments.frames))
        self._labels: list[np.ndarray[tuple[int, int], np.dtype[np.uint8]]] = []

    def add(self, shown: Shown) -> None:
        """Score one frame.

        Raises:
            ConfigurationError: it is not the next one that is to be scored, or its labels are none of the student's size.
        """
        self._check(shown)
        time_s = shown.frame.capture_time_s - self.stage.journal.starts_s
        reference = self._references.frames[shown.frame.index]
        self._teacher.add(time_s, reference.teacher, shown.labels)
        if reference.human is not None:
            self._human.add(time_s, reference.human, shown.labels)
        self._versions.append(shown.version)
        newest_s = shown.newest_capture_s
        self._ages_s.append(float("nan") if newest_s is None else shown.frame.capture_time_s - newest_s)
        if shown.frame.index in self._kept:
            self._labels.append(shown.labels)

    def _check(self, shown: Shown) -> None:
        """Refuse what a scheme of the user's own may get wrong."""
        wanted = next(iter(self._order[len(self._versions) :]), None)
        if shown.frame.index != wanted:
            raise ConfigurationError(
                f"the scheme shows frame {shown.frame.index} where frame {wanted} comes next: it must yield each frame "
                "for which stage.scores(frame) holds, once and in order"
            )
        labels, manifest = shown.labels, self.stage.model.manifest
        if labels.shape != (manifest.height, manifest.width) or labels.dtype != np.uint8:
            raise ConfigurationError(
                f"the scheme shows labels of {labels.dtype} {list(labels.shape)} for frame {shown.frame.index}: "
                f"they must be uint8 [{manifest.height}, {manifest.width}]"
            )

    def outcome(self, scheme: str, seed: int, settings: Mapping[str, SettingValue]) -> Outcome:
        """Return what came out, once all frames are scored; `settings` as `described`.

        Raises:
            ConfigurationError: the scheme did not show all frames that are to be scored.
        """
        if len(self._versions) < len(self._order):
            raise ConfigurationError(f"scheme {scheme!r} shows {len(self._versions)} of {len(self._order)} scored frames")
        stage, journal = self.stage, self.stage.journal
        human = self._human.build()
        return Outcome(
            recording=stage.recording.name,
            recording_digest=stage.recording.digest,
            scheme=scheme,
            seed=seed,
            settings=settings,
            classes=self._classes.names,
            teacher=self._teacher.build(),
            human=human if len(human.times_s) else None,
            transfers=tuple(sorted(journal.transfers, key=lambda each: each.time_s)),
            updates=tuple(journal.updates),
            controls=tuple(journal.controls),
            versions=np.array(self._versions, np.int64),
            model_age_s=np.array(self._ages_s, np.float64),
            frames_labelled=journal.frames_labelled,
            moment_frames=self._references.moments.frames,
            moment_labels=np.stack(self._labels),
        )


def described(laboratory: Laboratory, scheme: NamedScheme, config: AdaptationConfig) -> dict[str, SettingValue]:
    """Return everything but the seed that decides the outcome of a scheme, by the names of the flags."""
    settings: dict[str, SettingValue] = {"teacher_identity": laboratory.teacher.identity, **scheme.identity()}
    parts = (config, laboratory.network, laboratory.runtime)
    for name, value in ((name, getattr(part, name)) for part in parts for name in type(part).model_fields):
        if name not in ComputeConfig.model_fields and name != "seed":
            settings[name] = _plain(value)
    if config.student_weights is not None:
        settings["student_weights_digest"] = file_digest(config.student_weights)
    return settings


def file_digest(path: Path) -> str:
    """Return a digest of a file's content, in hexadecimal.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()
    except OSError as error:
        raise ConfigurationError(f"cannot read {str(path)!r}: {system_reason(error)}") from error


def _plain(value: Any) -> SettingValue:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Path):
        return value.name
    return ",".join(map(str, value))
