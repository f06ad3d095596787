"""The curves of a sweep: they run along the last axis of each of its blocks."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from ams_eval import metrics
from ams_eval.curves import Curve, Spot
from ams_eval.sweeps.agenda import Planned
from ams_eval.sweeps.rows import Row
from ams_eval.sweeps.sweep_file import Point


def curves_of(
    planned: Sequence[Planned], runs: Mapping[str, Row], columns: Iterable[str], recordings: Sequence[str]
) -> list[Curve]:
    """Return what came out of a sweep on some of its recordings.

    Args:
        planned: its experiments.
        runs: those that are finished, by name.
        columns: the numbers that curves tell of.
        recordings: those that the means are over. A seed counts where it met all of them, and a point where such a seed did:
            means over other recordings cannot be compared.
    """
    columns = tuple(columns)
    lines = _merged(_lines([each for each in planned if each.job.recording in recordings]))
    titles = [line.title for line in lines]
    found = []
    for line in lines:
        name = f"{line.title}, by {line.axis}" if line.axis and titles.count(line.title) > 1 else line.title
        values = sorted(line.points, key=float) if all(map(_is_number, line.points)) else list(line.points)
        spots = (Spot(value=value, seeds=_seeds(line.points[value], runs, recordings, columns)) for value in values)
        known = tuple(spot for spot in spots if spot.seeds)
        if known:
            found.append(Curve(name=name, axis=line.axis, spots=known))
    return found


class _Line(NamedTuple):
    """The experiments of one curve."""

    scheme: str
    title: str
    axis: str
    points: dict[str, set[str]]
    """Their names, by the value on the axis."""


def _lines(planned: Sequence[Planned]) -> list[_Line]:
    lines: dict[tuple[str, str], _Line] = {}
    for each in planned:
        point = each.point
        key = _title(point), _axis(point)
        line = lines.setdefault(key, _Line(point.scheme, *key, {}))
        line.points.setdefault(_value(point), set()).add(each.job.name)
    return list(lines.values())


def _merged(lines: Iterable[_Line]) -> list[_Line]:
    """Return each line once; a scheme to which nothing that differs means anything has one point, the same on all its lines."""
    found: list[_Line] = []
    met: list[set[str]] = []
    for line in lines:
        names = set().union(*line.points.values())
        if all(each == names for each in line.points.values()):
            if names in met:
                continue
            met.append(names)
            if len(line.points) > 1:
                line = _Line(line.scheme, line.scheme, "", {"": names})
        found.append(line)
    return found


def _axis(point: Point) -> str:
    return point.axes[-1] if point.axes else ""


def _value(point: Point) -> str:
    return _told(point.varied[_axis(point)]) if point.axes else ""


def _title(point: Point) -> str:
    """Return what all points of a curve have in common, for people."""
    changes = (f"{name}={_told(value)}" for name, value in point.varied.items() if name != _axis(point))
    return ", ".join((point.scheme, *changes))


def _told(value: Any) -> str:
    """Return a value for people: of a file its name is enough."""
    return PurePath(value).name if isinstance(value, str) else str(value)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _seeds(
    names: Iterable[str], runs: Mapping[str, Row], recordings: Sequence[str], columns: tuple[str, ...]
) -> tuple[dict[str, float], ...]:
    """Return the numbers of each seed that met every one of the `recordings`."""
    rows = [runs[name] for name in sorted(names) if name in runs]
    by_seed = [[row for row in rows if row["seed"] == seed] for seed in sorted({row["seed"] for row in rows})]
    whole = [each for each in by_seed if {row["recording"] for row in each} == set(recordings)]
    return tuple({column: _mean(each, column) for column in columns} for each in whole)


def _mean(rows: Sequence[Row], column: str) -> float:
    """Return the mean of a number over the recordings of one seed; NaN where one of them does not have it."""
    values = [math.nan if row[column] is None else float(row[column]) for row in rows]
    return math.nan if any(map(math.isnan, values)) else metrics.spread(values).mean
