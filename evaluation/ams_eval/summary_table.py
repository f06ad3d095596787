"""The main numbers of schemes as a table for a terminal."""

from collections.abc import Callable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from ams_eval.groups import by_scheme, describe_missing, describe_untaught
from ams_eval.result import number, points
from ams_eval.summary import Summary

_CAPTION = "mIoU: mean over windows of 10 s, as in the AMS paper; that of all frames together is `miou_summed` in summary.csv."


def draw_summary(rows: Sequence[Summary]) -> Table:
    """Return the main numbers of each scheme as a table for a terminal, means over recordings and seeds."""
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    groups = by_scheme(rows)
    table.caption = " ".join(filter(None, (_CAPTION, describe_missing(groups), describe_untaught(groups))))
    table.add_column("", overflow="fold", min_width=9)
    for heading, *_ in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for group in groups:
        table.add_row(escape(group.scheme), *(write(group.mean(name)) for _, name, write in _COLUMNS))
    return table


def _rate(kbps: float) -> str:
    return number(kbps, 0 if kbps >= 1000 else 1)


_COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("teacher\nmIoU %", "miou_window", lambda value: number(100 * value, 1)),
    ("human\nmIoU %", "human_miou_window", lambda value: number(100 * value, 1)),
    ("gain\npoints", "gain", points),
    ("up\nkbit/s", "up_kbps", _rate),
    ("up, on\nwire", "up_wire_kbps", _rate),
    ("down\nkbit/s", "down_kbps", _rate),
    ("down,\non wire", "down_wire_kbps", _rate),
    ("model\nage s", "model_age_mean_s", lambda value: number(value, 1)),
    ("frames\nlabelled", "frames_labelled", lambda value: number(value, 0)),
)
