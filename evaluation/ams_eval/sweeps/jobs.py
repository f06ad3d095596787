"""What the worker processes of a sweep do."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2

from ams_common.clock import SystemClock
from ams_common.errors import ConfigurationError
from ams_common.settings import configure_logging
from ams_eval.experiment import Laboratory
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.label_cache import LabelCacheConfig
from ams_eval.inputs.layouts import open_recordings
from ams_eval.inputs.recording import Recording
from ams_eval.outcome_files import write_moments, write_outcome
from ams_eval.references import References
from ams_eval.result_folder import RECORDINGS
from ams_eval.runner import ExperimentConfig, ScoringConfig, Workshop, find_references, hush, perform, plan
from ams_eval.schemes.registry import parse_scheme
from ams_server.settings import LabelConfig
from ams_server.teachers.config import TeacherConfig

_REPORTS = 100
"""Reports of the progress of one job."""
_LABELLING = (TeacherConfig, LabelConfig, InputConfig, ScoringConfig, LabelCacheConfig)


@dataclass(frozen=True, kw_only=True)
class LabelJob:
    """Label the scored frames of a recording, so that the teacher's labels are on disk when many processes need them."""

    config: ExperimentConfig
    source: Path
    """What was named on the command line or in the file; it may hold several recordings."""
    recording: str
    """Name of the recording."""
    frames: int
    """Number of its frames."""
    out: Path
    """Folder of results."""

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"{self.recording}: labels of the teacher"


@dataclass(frozen=True, kw_only=True)
class ExperimentJob(LabelJob):
    """Run an experiment and write its outcome."""

    scheme: str
    seed: int
    name: str
    """Of the experiment."""

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"{self.recording}: {self.scheme}, seed {self.seed}"


def labelling_key(config: ExperimentConfig) -> tuple[object, ...]:
    """Return what decides the labels of recordings: where it is equal, they are labelled once."""
    parts = [repr(getattr(config, name)) for part in _LABELLING for name in part.model_fields]
    return (*parts, config.student_width, config.student_height, config.device, config.precision)


class Bench:
    """Does jobs one after the other; keeps what the next one is likely to need."""

    def __init__(self) -> None:
        self._workshop = Workshop(SystemClock())
        self._recordings: tuple[object, list[Recording]] = None, []
        self._references: tuple[object, References] | None = None

    def do(self, job: LabelJob, report: Callable[[int], None]) -> None:
        """Do a job; `report` is called now and then with the number of frames that are done.

        Raises:
            AmsError: something cannot be used, or the recording, the teacher or a scheme fails.
        """
        laboratory = self._workshop.laboratory(job.config)
        recording = self._recording(job)
        step = max(1, recording.frame_count // _REPORTS)

        def on_frame(index: int) -> None:
            """Report every so many frames."""
            if (index + 1) % step == 0:
                report(index + 1)

        if not isinstance(job, ExperimentJob):
            references = self._find_references(job, laboratory, recording, on_frame)
            write_moments(references.moments, job.out / RECORDINGS / recording.name)
            return
        experiment = plan(laboratory, job.config, recording, parse_scheme(job.scheme), job.seed)
        if experiment.name != job.name:
            raise ConfigurationError(
                f"{job.source} or a file of its settings has changed since the sweep began: start it again"
            )
        references = self._find_references(job, laboratory, recording, lambda index: None)
        write_outcome(perform(laboratory, experiment, references, on_frame), experiment.folder(job.out))

    def _recording(self, job: LabelJob) -> Recording:
        key = (job.source, *(repr(getattr(job.config, name)) for name in InputConfig.model_fields))
        if self._recordings[0] != key:
            self._recordings = key, open_recordings(job.source, job.config)
        return next(each for each in self._recordings[1] if each.name == job.recording)

    def _find_references(
        self, job: LabelJob, laboratory: Laboratory, recording: Recording, on_frame: Callable[[int], None]
    ) -> References:
        key = (recording.digest, labelling_key(job.config))
        if self._references is None or self._references[0] != key:
            self._references = None
            self._references = key, find_references(laboratory, job.config, recording, on_frame)
        return self._references[1]


def make_worker() -> Callable[[LabelJob, Callable[[int], None]], None]:
    """Return what does the jobs in a worker process."""
    configure_logging(verbose=False)
    hush()
    cv2.setNumThreads(1)
    return Bench().do
