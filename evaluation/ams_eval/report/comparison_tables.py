"""Tables of all schemes, as HTML."""

import html
import math
from collections.abc import Callable, Sequence

from ams_eval import metrics
from ams_eval.groups import Group
from ams_eval.report.parts import table
from ams_eval.result import number, points
from ams_eval.scores import WINDOW_S

_LONG_S = 300.0
"""Shorter recordings have nothing to say about the time after the first 250 s."""
_COLUMNS: tuple[tuple[str, str, Callable[[float], str], float], ...] = (
    ("mIoU teacher, %", "miou_window", lambda value: number(value, 1), 100),
    ("mIoU human, %", "human_miou_window", lambda value: number(value, 1), 100),
    ("gain, points", "gain", lambda value: number(value, 1), 100),
    ("up, kbit/s", "up_kbps", lambda value: number(value, 1), 1),
    ("on the wire", "up_wire_kbps", lambda value: number(value, 1), 1),
    ("down, kbit/s", "down_kbps", lambda value: number(value, 1), 1),
    ("on the wire", "down_wire_kbps", lambda value: number(value, 1), 1),
    ("model age, s", "model_age_mean_s", lambda value: number(value, 1), 1),
    ("frames labelled", "frames_labelled", lambda value: number(value, 0), 1),
    ("updates", "updates", lambda value: number(value, 0), 1),
)
"""Heading, field of Summary, how it is written, and what it is multiplied by first."""
_HIGHER_IS_BETTER = ("miou_window", "human_miou_window", "gain")


def main_table(groups: Sequence[Group], title: str) -> str:
    """Return the main numbers of each scheme as HTML under a heading, `title`, which is HTML."""
    columns = [column for column in _COLUMNS if not all(math.isnan(group.mean(column[1])) for group in groups)]
    rows = [
        [html.escape(group.scheme), *(_cell(group, groups, name, write, factor) for _, name, write, factor in columns)]
        for group in groups
    ]
    note = (
        "Gain is over no customisation, against the teacher. Rates are of payload over the whole recording, 1 kbit = 1000 bit, "
        "without the first model, which every device gets once; on the wire protobuf, HTTP/2 and TCP/IP are added."
    )
    heads = ["scheme", *(heading for heading, *_ in columns)]
    return f'<h2>{title}</h2><p>{note}</p><div class="card wide">{table(heads, rows)}</div>'


def _cell(group: Group, groups: Sequence[Group], name: str, write: Callable[[float], str], factor: float) -> str:
    value = group.mean(name)
    text = points(value) if name == "gain" else write(factor * value)
    if name in _HIGHER_IS_BETTER and not math.isnan(spread := group.deviation(name)):
        text += f" <small>±{write(factor * spread)}</small>"
    best = max((other.mean(name) for other in groups if not math.isnan(other.mean(name))), default=math.nan)
    return f"<b>{text}</b>" if name in _HIGHER_IS_BETTER and len(groups) > 1 and value == best else text


def aggregates_table(groups: Sequence[Group], settle_s: float) -> str:
    """Return the mIoU of each scheme in all three aggregates as HTML; "late" ones count frames from `settle_s` on."""
    long = any(row.duration_s >= _LONG_S for group in groups for row in group)
    human = not all(math.isnan(group.mean("human_miou_window")) for group in groups)
    prefixes = [("", "teacher"), *([("late_", f"teacher, from {settle_s:g} s")] if long else [])]
    prefixes += [("human_", "human"), *([("human_late_", f"human, from {settle_s:g} s")] if long else [])] if human else []
    kinds = (("miou_window", f"{WINDOW_S:g} s windows"), ("miou_summed", "summed"), ("miou_frame", "frames"))
    heads = ["mIoU, %", *(f"{told}: {kind}" for _, told in prefixes for _, kind in kinds)]
    rows = [
        [html.escape(group.scheme), *(number(100 * group.mean(f"{p}{field}"), 1) for p, _ in prefixes for field, _ in kinds)]
        for group in groups
    ]
    late = f" The authors of AMS leave out the first {metrics.SETTLE_S:g} s." if long else ""
    return (
        "<h2>Other ways to average</h2><p>The mean over frames of the mIoU of 10 s windows, the mIoU of the confusion "
        "summed over "
        f'all frames, and the mean of each frame by itself.{late}</p><div class="card wide">{table(heads, rows)}</div>'
    )
