"""What happened over the time of one run, as tables of plain numbers: for CSV, JSON and the database of a sweep."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ams_eval import metrics
from ams_eval.outcome import ControlRecord, Outcome, UpdateRecord
from ams_eval.outcome_files import finite_or_none
from ams_eval.scores import Score

Row: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Series:
    """A table of a run."""

    columns: Mapping[str, type]
    """Name and type of each column; any value but a text may be None or NaN where it does not exist."""
    rows_of: Callable[[Outcome], list[Row]]
    """Returns the rows in the order of time."""


def _frames(outcome: Outcome) -> list[Row]:
    teacher, human = outcome.teacher, outcome.human
    by_people = dict(zip(human.times_s.tolist(), _mious(human), strict=True)) if human else {}
    columns = zip(
        teacher.times_s.tolist(), _mious(teacher), outcome.versions.tolist(), outcome.model_age_s.tolist(), strict=True
    )
    return [(time_s, *mious, *by_people.get(time_s, (None, None)), version, age_s) for time_s, mious, version, age_s in columns]


def _mious(score: Score) -> list[tuple[float, float]]:
    return list(zip(score.frame_miou().tolist(), score.windowed_miou().tolist(), strict=True))


def _transfers(outcome: Outcome) -> list[Row]:
    """Return second, direction, kind, payload and wire bytes of what was sent in each second."""
    sums: dict[tuple[int, str, str], list[int]] = {}
    for each in outcome.transfers:
        total = sums.setdefault((math.floor(each.time_s), each.direction, each.kind), [0, 0])
        total[0] += each.payload_bytes
        total[1] += each.wire_bytes
    return [(*key, payload, wire) for key, (payload, wire) in sorted(sums.items())]


def _classes(outcome: Outcome) -> list[Row]:
    teacher = outcome.teacher.class_iou()
    human = outcome.human.class_iou() if outcome.human else np.full(len(outcome.classes), np.nan)
    return list(zip(outcome.classes, teacher.tolist(), human.tolist(), strict=True))


def _effort(outcome: Outcome) -> list[Row]:
    effort = metrics.effort(outcome)
    return list(zip(effort.starts_s.tolist(), effort.steps.astype(int).tolist(), effort.change.tolist(), strict=True))


def _fields(record: type[Any]) -> dict[str, type]:
    return {field.name: field.type for field in dataclasses.fields(record) if isinstance(field.type, type)}


SERIES: Mapping[str, Series] = {
    "frames": Series(
        {
            "time_s": float,
            "teacher_miou": float,
            "teacher_miou_window": float,
            "human_miou": float,
            "human_miou_window": float,
            "version": int,
            "model_age_s": float,
        },
        _frames,
    ),
    "classes": Series({"class": str, "teacher_iou": float, "human_iou": float}, _classes),
    "updates": Series(_fields(UpdateRecord), lambda outcome: [dataclasses.astuple(each) for each in outcome.updates]),
    "controls": Series(_fields(ControlRecord), lambda outcome: [dataclasses.astuple(each) for each in outcome.controls]),
    "effort": Series({"start_s": float, "steps": int, "change": float}, _effort),
    "transfers": Series(
        {"second": int, "direction": str, "kind": str, "payload_bytes": int, "wire_bytes": int},
        _transfers,
    ),
}
"""Tables of a run by name; docs/evaluation.md describes them for their readers."""


def series_csv(series: Series, outcome: Outcome) -> str:
    """Return a table of a run as CSV with a heading; what does not exist is empty."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(series.columns)
    writer.writerows(["" if value is None else value for value in finite_or_none(row)] for row in series.rows_of(outcome))
    return target.getvalue()


def series_json(outcome: Outcome) -> str:
    """Return all tables of a run as JSON: by name a list of rows, each an object; null is what does not exist."""
    tables = {
        name: [dict(zip(series.columns, row, strict=True)) for row in series.rows_of(outcome)]
        for name, series in SERIES.items()
    }
    return json.dumps(finite_or_none(tables), indent=0) + "\n"
