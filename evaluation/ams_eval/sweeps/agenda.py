"""All experiments of a sweep, and in which order they are done."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ams_common.errors import ConfigurationError
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.layouts import open_recordings
from ams_eval.inputs.recording import Recording
from ams_eval.result_folder import require_same_frames
from ams_eval.runner import Workshop, plan
from ams_eval.schemes.registry import NamedScheme, parse_scheme
from ams_eval.sweeps.jobs import ExperimentJob, LabelJob, labelling_key
from ams_eval.sweeps.sweep_file import Point


@dataclass(frozen=True, kw_only=True, eq=False)
class Planned:
    """An experiment, and the point of the sweep that asks for it; several points may ask for the same one."""

    point: Point
    job: ExperimentJob


def plan_sweep(
    points: Iterable[Point], sources: Sequence[Path], seeds: int, workshop: Workshop, *, out: Path, threads: int
) -> list[Planned]:
    """Return the experiments in which each point meets each recording of `sources` with each seed.

    The processes that do them compute with `threads` threads each where the sweep does not say otherwise.

    Raises:
        AmsError: a recording cannot be read, or a setting, a file or a model cannot be used.
    """
    library, planned = _Library(sources, out), []
    schemes: dict[str, NamedScheme] = {}
    for point in points:
        laboratory = workshop.laboratory(point.config)
        scheme = schemes.setdefault(point.scheme, parse_scheme(point.scheme))
        config = point.config if point.config.threads else point.config.model_copy(update={"threads": threads})
        for source, recording in library.open(point.config):
            for seed in range(point.config.seed, point.config.seed + seeds):
                job = ExperimentJob(
                    config=config,
                    source=source,
                    recording=recording.name,
                    frames=recording.frame_count,
                    out=out,
                    scheme=point.scheme,
                    seed=seed,
                    name=plan(laboratory, point.config, recording, scheme, seed).name,
                )
                planned.append(Planned(point=point, job=job))
    return planned


class _Library:
    """Recordings, opened once for all points with the same settings of them."""

    def __init__(self, sources: Sequence[Path], out: Path) -> None:
        self._sources = sources
        self._out = out
        self._digests: dict[str, str] = {}
        self._open: dict[str, list[tuple[Path, Recording]]] = {}

    def open(self, config: InputConfig) -> list[tuple[Path, Recording]]:
        """Return the recordings with where they come from; each set of inputs is opened once."""
        key = repr([getattr(config, name) for name in InputConfig.model_fields])
        if key not in self._open:
            found = [(source, each) for source in self._sources for each in open_recordings(source, config)]
            _require_names_once([recording.name for _, recording in found])
            for _, recording in found:
                self._require_same_frames(recording)
            self._open[key] = found
        return self._open[key]

    def _require_same_frames(self, recording: Recording) -> None:
        """Refuse other frames under a name that is taken: pictures and rows of tables are kept by it."""
        require_same_frames(recording, self._out)
        if self._digests.setdefault(recording.name, recording.digest) != recording.digest:
            raise ConfigurationError(
                f"this sweep takes different frames of {recording.name!r}, which cannot be compared: make a sweep of each "
                "part, with an --out of its own"
            )


def _require_names_once(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"two recordings are called {name!r}: rename one")


class Agenda:
    """Says what is to be done next: first the labels of a recording, then the experiments that need them."""

    def __init__(self, experiments: Iterable[ExperimentJob]) -> None:
        self._waiting: dict[object, deque[ExperimentJob]] = {}
        for job in experiments:
            self._waiting.setdefault(_labels_of(job), deque()).append(job)
        self._labels = deque(_label_job(jobs[0]) for jobs in self._waiting.values())
        self._labelled: set[object] = set()

    @property
    def jobs(self) -> int:
        """Number of jobs that are still to be done."""
        return len(self._labels) + sum(map(len, self._waiting.values()))

    @property
    def frames(self) -> int:
        """Frames of all of them together."""
        return sum(job.frames for job in chain(self._labels, *self._waiting.values()))

    def next_job(self) -> LabelJob | None:
        """Return what is to be done next; None where that has to wait for labels, or there is nothing."""
        if self._labels:
            return self._labels.popleft()
        ready = (jobs for key, jobs in self._waiting.items() if key in self._labelled and jobs)
        jobs = next(ready, None)
        return jobs.popleft() if jobs else None

    def labels_done(self, job: LabelJob) -> None:
        """Take note that the labels of a recording are there."""
        self._labelled.add(_labels_of(job))

    def labels_failed(self, job: LabelJob) -> Sequence[ExperimentJob]:
        """Take note that the labels of a recording cannot be had; return the experiments that are given up for that."""
        return self._waiting.pop(_labels_of(job))


def _labels_of(job: LabelJob) -> object:
    return job.source, job.recording, labelling_key(job.config)


def _label_job(job: ExperimentJob) -> LabelJob:
    return LabelJob(config=job.config, source=job.source, recording=job.recording, frames=job.frames, out=job.out)
