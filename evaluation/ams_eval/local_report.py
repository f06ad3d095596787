"""The numbers of just-in-time distillation on one machine: as a table, as CSV and as JSON."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from ams_common.classes import ClassSet
from ams_eval.files import write_atomically
from ams_eval.local_loop import Attempt
from ams_eval.outcome import SettingValue
from ams_eval.outcome_files import finite_or_none
from ams_eval.report.published import JUST_IN_TIME_PAPER, JUST_IN_TIME_SOURCE
from ams_eval.result import number
from ams_eval.scores import Score
from ams_eval.summary_files import write_csv
from ams_server.learners.just_in_time import foreground_miou

JSON_NAME, CSV_NAME = "local.json", "local.csv"


@dataclass(frozen=True, kw_only=True)
class LocalRow:
    """One threshold on one recording. mIoU leaves the background out; it and shares are 0..1, NaN is what does not exist."""

    recording: str
    threshold: float
    """mIoU from which on a frame counts as learnt; NaN for the student without learning."""
    frames: int
    miou_frame: float
    """Mean over the frames of their mIoU with the teacher's labels."""
    miou_summed: float
    """mIoU with the teacher's labels, of the confusion summed over all frames."""
    human_frames: int
    """Frames with human or exact labels."""
    human_miou_frame: float
    human_miou_summed: float
    labelled: int
    """Frames that the teacher labelled."""
    labelled_share: float
    steps: int
    """Optimiser steps."""
    undone: int
    """Frames whose learning failed and was undone."""
    speed_up: float
    """Time of the teacher on every frame over the time of teacher, training and student together."""
    teacher_ms: float
    """A frame that the teacher labels."""
    student_ms: float
    """A frame that the student labels."""
    step_ms: float
    """All of training by the number of steps: the comparisons with the teacher that surround them are in it."""
    teacher_s: float
    training_s: float
    student_s: float


def row_of(recording: str, threshold: float, classes: ClassSet, attempt: Attempt) -> LocalRow:
    """Return the numbers of a pass through `recording`; `threshold` is NaN for the student without learning."""
    working_s = attempt.teacher_s + attempt.training_s + attempt.student_s
    teacher_frame_s = _ratio(attempt.teacher_s, attempt.labelled)
    miou_frame, miou_summed = _mious(attempt.teacher, classes)
    human_miou_frame, human_miou_summed = _mious(attempt.human, classes)
    return LocalRow(
        recording=recording,
        threshold=threshold,
        frames=attempt.frames,
        miou_frame=miou_frame,
        miou_summed=miou_summed,
        human_frames=len(attempt.human.times_s),
        human_miou_frame=human_miou_frame,
        human_miou_summed=human_miou_summed,
        labelled=attempt.labelled,
        labelled_share=_ratio(attempt.labelled, attempt.frames),
        steps=attempt.steps,
        undone=attempt.undone,
        speed_up=_ratio(teacher_frame_s * attempt.frames, working_s),
        teacher_ms=1e3 * teacher_frame_s,
        student_ms=1e3 * _ratio(attempt.student_s, attempt.frames),
        step_ms=1e3 * _ratio(attempt.training_s, attempt.steps),
        teacher_s=attempt.teacher_s,
        training_s=attempt.training_s,
        student_s=attempt.student_s,
    )


def write_results(rows: Sequence[LocalRow], settings: Mapping[str, SettingValue], machine: str, out: Path) -> None:
    """Write local.json and local.csv into a folder.

    Raises:
        ConfigurationError: they cannot be written.
    """
    document = {
        "machine": machine,
        "settings": settings,
        "rows": [dataclasses.asdict(row) for row in rows],
        "remark": why_slower(rows, machine),
        "published": {"source": JUST_IN_TIME_SOURCE, "rows": [row._asdict() for row in JUST_IN_TIME_PAPER]},
    }
    write_atomically(out / JSON_NAME, (json.dumps(finite_or_none(document), indent=1) + "\n").encode())
    write_atomically(out / CSV_NAME, write_csv(rows, LocalRow).encode())


def draw_local(recording: str, rows: Sequence[LocalRow]) -> Table:
    """Return the rows of one recording as a table for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, title=recording, title_justify="left")
    columns = [each for each in _COLUMNS if "human" not in each[0] or rows[0].human_frames]
    table.add_column("threshold", no_wrap=True)
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        name = "none" if math.isnan(row.threshold) else f"{row.threshold:g}"
        table.add_row(name, *(write(row) for _, write in columns))
    return table


def why_slower(rows: Sequence[LocalRow], machine: str) -> str:
    """Return why learning takes longer than the teacher on every frame, of the slowest threshold; empty where none does."""
    row = min((row for row in rows if row.speed_up < 1), key=lambda row: row.speed_up, default=None)
    if row is None:
        return ""
    learning_ms = 1e3 * _ratio(row.training_s, row.labelled)
    return (
        f"a speed-up below 1 says that the teacher on every frame takes less time on this machine ({machine}). At threshold "
        f"{row.threshold:g}, {100 * row.labelled_share:.0f} % of the frames are labelled and learnt, and learning one takes "
        f"{learning_ms:.0f} ms ({_ratio(row.steps, row.labelled):.1f} steps of {row.step_ms:.0f} ms) where the teacher takes "
        f"{row.teacher_ms:.0f} ms. Time is saved where the teacher is large, a step is cheap (a GPU, a small student, a larger "
        "--loss-stride), and the stride may grow: many frames a second, or a threshold that the student reaches"
    )


def published_line() -> str:
    """Return the published figures in one line."""
    rows = "; ".join(
        f"{row.threshold:g}: {row.miou:g} %, {row.speed_up:g} times, {row.labelled:g} % labelled" for row in JUST_IN_TIME_PAPER
    )
    return f"published for JITNet on Long Video Streams, with Mask R-CNN on a V100: {rows}"


_COLUMNS: tuple[tuple[str, Callable[[LocalRow], str]], ...] = (
    ("mIoU %\nframes", lambda row: number(100 * row.miou_frame, 1)),
    ("mIoU %\nsummed", lambda row: number(100 * row.miou_summed, 1)),
    ("human\nmIoU %", lambda row: number(100 * row.human_miou_frame, 1)),
    ("label-\nled %", lambda row: number(100 * row.labelled_share, 1)),
    ("\nsteps", lambda row: str(row.steps)),
    ("speed-\nup", lambda row: number(row.speed_up, 2)),
    ("teacher\nms", lambda row: number(row.teacher_ms, 1)),
    ("student\nms", lambda row: number(row.student_ms, 1)),
    ("step\nms", lambda row: number(row.step_ms, 1)),
)


def _mious(score: Score, classes: ClassSet) -> tuple[float, float]:
    """Return the mean over the frames of their mIoU, and the mIoU of all frames together."""
    known = [value for value in (foreground_miou(matrix, classes) for matrix in score.matrices) if not math.isnan(value)]
    return _ratio(math.fsum(known), len(known)), foreground_miou(score.matrices.sum(axis=0), classes)


def _ratio(value: float, by: float) -> float:
    return value / by if by else math.nan
