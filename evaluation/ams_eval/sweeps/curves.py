"""The curves of a sweep: they run along the last axis of each of its blocks."""

from collections.abc import Iterable, Mapping, Sequence

from ams_eval.curves import Curve, Spot
from ams_eval.result_folder import unique
from ams_eval.sweeps.agenda import Planned
from ams_eval.sweeps.rows import Row, mean
from ams_eval.sweeps.sweep_file import Point


def curves_of(planned: Sequence[Planned], runs: Mapping[str, Row], columns: Iterable[str]) -> list[Curve]:
    """Return what came out of a sweep, or of those of its experiments that are `planned`.

    Args:
        planned: the experiments.
        runs: those that are finished, by name.
        columns: the numbers that curves tell of.

    A seed counts where it met every recording, and a point where such a seed did: means over other recordings cannot be
    compared.
    """
    recordings, columns = {each.job.recording for each in planned}, tuple(columns)
    names = _names([each.point for each in planned])
    curves: dict[str, dict[str, list[Planned]]] = {}
    for each in planned:
        curves.setdefault(names[_key(each.point)], {}).setdefault(_value(each.point), []).append(each)
    found = []
    for name, points in curves.items():
        spots = (Spot(value=value, seeds=_seeds(each, runs, recordings, columns)) for value, each in points.items())
        known = tuple(spot for spot in spots if spot.seeds)
        if known:
            found.append(Curve(name=name, spots=known))
    return found


def _axis(point: Point) -> str:
    return point.axes[-1] if point.axes else ""


def _value(point: Point) -> str:
    return str(point.varied[_axis(point)]) if point.axes else ""


def _title(point: Point) -> str:
    """Return what all points of a curve have in common, for people."""
    changes = (f"{name}={value}" for name, value in point.varied.items() if name != _axis(point))
    return ", ".join((point.scheme, *changes))


def _key(point: Point) -> tuple[str, str]:
    return _title(point), _axis(point)


def _names(points: Iterable[Point]) -> dict[tuple[str, str], str]:
    """Return the name of each curve, which tells the axis too where another curve has all else in common."""
    keys = list(dict.fromkeys(map(_key, points)))
    titles = [title for title, _ in keys]
    return {(title, axis): f"{title}, by {axis}" if axis and titles.count(title) > 1 else title for title, axis in keys}


def _seeds(
    planned: Sequence[Planned], runs: Mapping[str, Row], recordings: set[str], columns: tuple[str, ...]
) -> tuple[dict[str, float], ...]:
    """Return the numbers of each seed that met every one of the `recordings`."""
    rows = [runs[name] for name in unique(each.job.name for each in planned) if name in runs]
    by_seed = [[row for row in rows if row["seed"] == seed] for seed in sorted({row["seed"] for row in rows})]
    whole = [each for each in by_seed if {row["recording"] for row in each} == recordings]
    return tuple({column: mean(each, column) for column in columns} for each in whole)
