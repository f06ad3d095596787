"""The subcommand `local`: teacher and student on one machine, the setting of the just-in-time paper, at several thresholds."""

import copy
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import Field, field_validator, model_validator
from pydantic_settings import CliPositionalArg, CliSuppress, SettingsConfigDict
from rich.console import Console
from rich.progress import Progress

from ams_common.clock import Clock, SystemClock
from ams_common.settings import CommandSettings, configure_logging, load_settings
from ams_eval.console import table_console
from ams_eval.experiment import Laboratory, described
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.label_cache import LabelCacheConfig
from ams_eval.inputs.layouts import open_recordings
from ams_eval.inputs.recording import Recording
from ams_eval.local_loop import Attempt, Course, OnFrame, distil, rehearse, run_unchanged
from ams_eval.local_report import LocalRow, draw_local, published_line, row_of, why_slower, write_results
from ams_eval.outcome import SettingValue
from ams_eval.recorded_teacher import RECORDED
from ams_eval.references import FrameLabeller, PackedReferences
from ams_eval.run import frame_progress, require_names_once
from ams_eval.runner import ExperimentConfig, Workshop, hush, part_of
from ams_eval.schemes.registry import parse_scheme
from ams_server.daemon import choose_device
from ams_server.flat_model import FlatModel
from ams_server.learners.config import Scheme
from ams_server.learners.factory import create_learner
from ams_server.learners.just_in_time import JustInTimeLearner
from ams_server.settings import AdaptationConfig
from ams_server.training_config import Selection

_log = logging.getLogger(__name__)


class LocalSettings(AdaptationConfig, InputConfig, LabelCacheConfig, CommandSettings):
    """Distil a teacher into a student just in time, both on this machine, and tell what time that saves."""

    model_config = SettingsConfigDict(cli_prog_name="ams-eval local")

    videos: CliPositionalArg[list[Path]]
    """Video files, folders of frames, or data sets."""
    thresholds: list[float] = Field(default=[0.7, 0.8, 0.9], min_length=1)
    """mIoU with the teacher from which on a frame counts as learnt, what --jit-accuracy is elsewhere: one run for each."""
    out: Path = Path("out/local")
    """Folder for local.json and local.csv."""
    verbose: bool = False
    """Log details too."""

    scheme: CliSuppress[Scheme] = "jit"
    """Just-in-time distillation alone."""
    selection: Selection = "full"
    """How the parameters that a frame changes are chosen: all of them, as nothing is sent."""

    @field_validator("thresholds")
    @classmethod
    def _thresholds_can_be_reached(cls, thresholds: list[float]) -> list[float]:
        for threshold in thresholds:
            if not 0 < threshold <= 1:
                raise ValueError(f"{threshold:g} is not above 0 and at most 1")
        return thresholds

    @model_validator(mode="after")
    def _distils_at_thresholds(self) -> "LocalSettings":
        if self.scheme != "jit":
            raise ValueError(f"scheme={self.scheme} is for devices at a server: use ams-eval run")
        if "jit_accuracy" in self.model_fields_set:
            raise ValueError(f"jit_accuracy={self.jit_accuracy:g} is given: write --thresholds {self.jit_accuracy:g} instead")
        return self


def run(arguments: Sequence[str]) -> int:
    """Distil on the recordings that the command line asks for; return the exit status.

    Raises:
        AmsError: what a person must mend, in one line; the numbers of finished recordings stay.
    """
    settings = load_settings(LocalSettings, arguments)
    configure_logging(settings.verbose)
    if not settings.verbose:
        hush()
    recordings = [recording for path in settings.videos for recording in open_recordings(path, settings)]
    require_names_once(recordings)
    console = table_console()
    with frame_progress(Console(stderr=True)) as progress:
        rows = distil_recordings(settings, recordings, SystemClock(), progress)
    for recording in recordings:
        console.print(draw_local(recording.name, [row for row in rows if row.recording == recording.name]))
    if remark := why_slower(rows, machine(choose_device(settings.device))):
        console.print(remark, highlight=False)
    console.print(published_line(), style="dim", highlight=False)
    console.print(f"numbers: {settings.out}", soft_wrap=True)
    return 0


def distil_recordings(
    settings: LocalSettings, recordings: Sequence[Recording], clock: Clock, progress: Progress
) -> list[LocalRow]:
    """Return the rows of all recordings, and write them after each; times are those of `clock`.

    Raises:
        AmsError: a recording, the teacher or the student fails, or a file cannot be written.
    """
    laboratory = Workshop(clock).laboratory(part_of(ExperimentConfig, settings))
    if settings.teacher == RECORDED or settings.teacher.startswith("labels:"):
        _log.warning("labels made before cost the teacher no time: read no speed-up from them")
    rows: list[LocalRow] = []
    for recording in recordings:
        rows += _Distillation(settings, laboratory, recording, progress).rows()
        write_results(rows, _settings_of(settings, laboratory), machine(laboratory.device), settings.out)
    return rows


class _Distillation:
    """All passes through one recording."""

    def __init__(self, settings: LocalSettings, laboratory: Laboratory, recording: Recording, progress: Progress) -> None:
        self._config = adaptation_of(settings)
        self._thresholds = settings.thresholds
        self._laboratory = laboratory
        self._recording = recording
        self._progress = progress
        self._manifest = laboratory.model(self._config).manifest
        self._size = self._manifest.width, self._manifest.height

    def rows(self) -> list[LocalRow]:
        """Return the numbers of the student without learning, and of each threshold."""
        course = Course(
            recording=self._recording,
            references=self._references(),
            teacher=self._laboratory.teacher_of(self._recording, measured=True),
            classes=self._manifest.classes,
            size=self._size,
            clock=self._laboratory.stopwatch,
        )
        rehearse(course, self._learner(jit_accuracy=1.0, jit_max_updates=1))
        rows = [self._row(math.nan, run_unchanged(course, self._learner(), self._bar("no learning")))]
        for threshold in self._thresholds:
            learner = self._learner(jit_accuracy=threshold)
            rows.append(self._row(threshold, distil(course, learner, self._bar(f"threshold {threshold:g}"))))
        return rows

    def _references(self) -> PackedReferences:
        teacher = self._laboratory.teacher_of(self._recording)
        labeller = FrameLabeller(self._recording, teacher, self._manifest.classes, self._size)
        references, on_frame = PackedReferences(self._size), self._bar("labels of the teacher")
        for frame in self._recording.frames():
            references.append(labeller.reference(frame))
            on_frame(frame.index)
        return references

    def _learner(self, **changes: float) -> JustInTimeLearner:
        flat = FlatModel(
            copy.deepcopy(self._laboratory.model(self._config).module), self._manifest.layout, self._laboratory.device
        )
        learner = create_learner(self._config.model_copy(update=changes), flat, self._manifest)
        assert isinstance(learner, JustInTimeLearner)
        return learner

    def _row(self, threshold: float, attempt: Attempt) -> LocalRow:
        if attempt.undone:
            _log.warning(
                "%s at threshold %g: learning %d of %d frames failed and was undone; try a lower --jit-learning-rate",
                *(self._recording.name, threshold, attempt.undone, attempt.labelled),
            )
        return row_of(self._recording.name, threshold, self._manifest.classes, attempt)

    def _bar(self, what: str) -> OnFrame:
        task = self._progress.add_task(f"{self._recording.name}: {what}", total=self._recording.frame_count)
        return lambda index: self._progress.update(task, completed=index + 1)


def adaptation_of(settings: LocalSettings) -> AdaptationConfig:
    """Return what the learner and the student are made of."""
    return AdaptationConfig(**settings.model_dump(include=set(AdaptationConfig.model_fields)))


def machine(device: torch.device) -> str:
    """Return what the times belong to: the name of the GPU, or the CPU and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, threads: {torch.get_num_threads()}"


def _settings_of(settings: LocalSettings, laboratory: Laboratory) -> dict[str, SettingValue]:
    """Return what decides the labels, by the names of the flags."""
    config = adaptation_of(settings)
    told = AdaptationConfig.model_fields.keys() | {"teacher_identity", "student_weights_digest"}
    found = described(laboratory, parse_scheme("jit-full"), config)
    return {name: value for name, value in found.items() if name in told and name != "jit_accuracy"} | {"seed": config.seed}
