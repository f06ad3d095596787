"""What a sweep says in the end: its points, and what each value of an axis does on average."""

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from ams_eval.result import number
from ams_eval.result_folder import unique
from ams_eval.sweeps.agenda import Planned
from ams_eval.sweeps.rows import Row, mean

CAPTION = "mIoU in % (mean over frames of 10 s around them), rates in kbit/s, model age in s; means over recordings and seeds"
_COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("teacher", "miou_window", lambda share: number(100 * share, 1)),
    ("human", "human_miou_window", lambda share: number(100 * share, 1)),
    ("up", "up_kbps", lambda rate: number(rate, 0 if rate >= 100 else 1)),
    ("down", "down_kbps", lambda rate: number(rate, 0 if rate >= 100 else 1)),
    ("updates", "updates", lambda count: number(count, 0)),
    ("age", "model_age_mean_s", lambda age_s: number(age_s, 1)),
)
"""Heading, column of the database, and how it is told."""


def draw_points(planned: Sequence[Planned], runs: Mapping[str, Row]) -> Table:
    """Return a table of all points of a sweep, with what came out of those of its `runs`, by name, that are finished."""
    names = unique(name for each in planned for name in each.point.varied)
    return _table(["scheme", *names], _groups(planned, names), runs)


def draw_axes(planned: Sequence[Planned], runs: Mapping[str, Row]) -> list[Table]:
    """Return a table for each axis: what came out of each scheme with each of the values, all else averaged."""
    names = unique(name for each in planned for name in each.point.axes)
    if len(names) < 2:
        return []  # the points say all
    return [
        _table(["scheme", name], _groups([each for each in planned if name in each.point.varied], [name]), runs)
        for name in names
    ]


def _groups(planned: Sequence[Planned], names: Sequence[str]) -> dict[tuple[str, ...], list[str]]:
    """Return the experiments that have the same scheme and the same values of the settings `names`."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for each in planned:
        values = (str(each.point.varied.get(name, "")) for name in names)
        groups.setdefault((each.point.scheme, *values), []).append(each.job.name)
    return groups


def _table(heads: Sequence[str], groups: Mapping[tuple[str, ...], Sequence[str]], runs: Mapping[str, Row]) -> Table:
    found = {key: [runs[name] for name in unique(names) if name in runs] for key, names in groups.items()}
    people = any(row["human_frames"] for rows in found.values() for row in rows)
    columns = [column for column in _COLUMNS if people or column[0] != "human"]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for head in heads:
        table.add_column(head, overflow="fold")
    for head, _, _ in columns:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("runs", justify="right")
    for key, rows in found.items():
        table.add_row(*map(escape, key), *(cell(mean(rows, name)) for _, name, cell in columns), str(len(rows)))
    return table
