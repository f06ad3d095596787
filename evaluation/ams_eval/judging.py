"""Goes through a recording again, and compares what the edge showed with what it would have shown without adaptation.

The references are the teacher's labels of the original pictures, and exact labels where there are any. All label maps are read
in the student's classes.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np

from ams_common.classes import STREET7, ClassSet, UInt8Array
from ams_common.clock import SystemClock
from ams_common.errors import ConfigurationError, system_reason
from ams_common.iou import mean_iou
from ams_edge.camera import CameraConfig, open_camera
from ams_edge.frame import Frame
from ams_edge.inference import Model
from ams_edge.sinks import INDEX_NAME
from ams_eval.scores import Comparison, Score, ScoreBuilder, at_size_of, evenly_spaced
from ams_server.teachers.base import Teacher

SCORED_PER_SECOND = 2.0
MOST_SCORED = 400
MOMENTS = 8
PICTURE_WIDTH = 640
DECODE_TIMEOUT_S = 60.0

ExactLabels: TypeAlias = Callable[[int], UInt8Array]
"""Returns the exact labels, uint8 [H, W], of the frame with an index."""


class Shown(NamedTuple):
    """A line of the edge's index: a picture it has labelled."""

    file: Path
    frame_index: int
    capture_time_s: float
    version: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """One picture and what was seen in it; label maps uint8 [h, w] of the picture's size, in the student's classes."""

    time_s: float
    version: int
    picture: UInt8Array
    """uint8 RGB [h, w, 3], at most PICTURE_WIDTH pixels wide."""
    teacher: UInt8Array
    without: UInt8Array
    adapted: UInt8Array
    without_miou: float
    """Agreement with the teacher in this picture alone, 0..1."""
    adapted_miou: float

    @property
    def difference(self) -> float:
        """How far apart the two models are, in either direction."""
        return abs(self.adapted_miou - self.without_miou)


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """All scores of a run."""

    teacher: Comparison
    """Against the teacher's labels."""
    exact: Comparison | None
    """Against exact labels."""
    teacher_on_exact: Score | None
    """The teacher itself against exact labels."""
    moments: tuple[Moment, ...]
    """In each part of the recording the scored frame where the two models differ most."""
    shown: tuple[Shown, ...]
    """Every frame that the edge labelled."""
    source_frames: int
    """Frames of the recording up to its end."""
    duration_s: float
    """Capture time from the first frame to the end of the last one."""


def read_index(folder: Path) -> tuple[Shown, ...]:
    """Return the frames that the edge labelled, in order.

    Raises:
        ConfigurationError: there is no index, or it is empty.
    """
    try:
        with (folder / INDEX_NAME).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise ConfigurationError(f"the edge wrote no labels to {str(folder)!r}: {system_reason(error)}") from error
    if not rows:
        raise ConfigurationError(f"the edge wrote no labels to {str(folder)!r}")
    return tuple(
        Shown(folder / row["file"], int(row["frame_index"]), float(row["capture_time_s"]), int(row["version"])) for row in rows
    )


def street_labels(path: Path, classes: ClassSet) -> ExactLabels:
    """Return the labels that the drawn street wrote to `path`, read in `classes`."""
    with np.load(path) as archive:
        labels = np.asarray(archive["labels"], np.uint8)
    table = STREET7.lookup_into(classes)
    return lambda index: np.asarray(table[labels[index]], np.uint8)


def judge(video: Path, shown: Sequence[Shown], teacher: Teacher, start: Model, exact: ExactLabels | None) -> Judgement:
    """Label an even subset of the frames that the edge showed, and score them.

    Args:
        video: the recording that the edge played.
        shown: what it labelled.
        teacher: labels the original pictures.
        start: the model before any update.
        exact: exact labels, if there are any.

    Raises:
        AmsError: the video or the teacher fails.
    """
    judge_ = _Judge(teacher, start, exact)
    positions = evenly_spaced([each.capture_time_s for each in shown], per_second=SCORED_PER_SECOND, most=MOST_SCORED)
    chosen = {shown[position].frame_index: shown[position] for position in positions}
    moments: dict[int, Moment] = {}
    end_s, count = shown[-1].capture_time_s, 0
    last_time_s = 0.0
    for frame in _frames(video):
        count, last_time_s = frame.index + 1, frame.capture_time_s
        each = chosen.get(frame.index)
        if each is not None:
            part = min(MOMENTS - 1, int(MOMENTS * each.capture_time_s / max(end_s, 1e-6)))
            moment = judge_.score(frame, each)
            if part not in moments or moment.difference > moments[part].difference:
                moments[part] = moment
    duration_s = last_time_s * count / max(1, count - 1)
    return judge_.result(tuple(moments[part] for part in sorted(moments)), tuple(shown), count, duration_s)


class _Judge:
    def __init__(self, teacher: Teacher, start: Model, exact: ExactLabels | None) -> None:
        classes = start.manifest.classes
        self._teacher = teacher
        self._start = start
        self._exact = exact
        self._table = teacher.classes.lookup_into(classes)
        self._builders = [ScoreBuilder(len(classes)) for _ in range(5)]

    def score(self, frame: Frame, each: Shown) -> Moment:
        """Score one frame, and return what a report may show of it."""
        image, time_s = frame.image, each.capture_time_s
        manifest = self._start.manifest
        labels = np.asarray(self._table[self._teacher.label(image[None], [time_s])[0]], np.uint8)
        without = self._start.infer(frame.rgb(manifest.width, manifest.height))
        adapted = _read_labels(each.file)
        against_teacher, against_exact = self._builders[:2], self._builders[2:]
        matrices = [b.add(time_s, labels, p) for b, p in zip(against_teacher, (without, adapted), strict=True)]
        if self._exact is not None:
            truth = self._exact(frame.index)
            for builder, predicted in zip(against_exact, (without, adapted, labels), strict=True):
                builder.add(time_s, truth, predicted)
        width = min(PICTURE_WIDTH, frame.width)
        small = frame.rgb(width, round(width * frame.height / frame.width))
        return Moment(
            time_s=time_s,
            version=each.version,
            picture=small,
            teacher=at_size_of(small[..., 0], labels),
            without=at_size_of(small[..., 0], without),
            adapted=at_size_of(small[..., 0], adapted),
            without_miou=mean_iou(matrices[0]),
            adapted_miou=mean_iou(matrices[1]),
        )

    def result(self, moments: tuple[Moment, ...], shown: tuple[Shown, ...], source_frames: int, duration_s: float) -> Judgement:
        """Return all scores so far with the given facts."""
        scores = [builder.build() for builder in self._builders]
        known = self._exact is not None
        return Judgement(
            teacher=Comparison(without=scores[0], adapted=scores[1]),
            exact=Comparison(without=scores[2], adapted=scores[3]) if known else None,
            teacher_on_exact=scores[4] if known else None,
            moments=moments,
            shown=shown,
            source_frames=source_frames,
            duration_s=duration_s,
        )


def _frames(video: Path) -> Iterator[Frame]:
    """Yield every frame, numbered and timed as the edge saw it."""
    with open_camera(CameraConfig(source=str(video), fast=True), SystemClock()) as camera:
        while (frame := camera.read(DECODE_TIMEOUT_S)) is not None:
            yield frame


def _read_labels(path: Path) -> UInt8Array:
    labels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert labels is not None, f"the edge lists {path} without having written it"
    return np.asarray(labels, np.uint8)
