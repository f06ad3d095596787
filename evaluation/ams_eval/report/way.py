"""What the ways of updates took, from the capture of the newest frame to the switch: as a chart and as a table."""

import math
from collections.abc import Sequence
from typing import TypeAlias

from ams_eval.metrics import LATENCY_PARTS, spread
from ams_eval.outcome import UpdateRecord
from ams_eval.report.chart import Chart, Span, span_above_zero
from ams_eval.report.parts import legend, table
from ams_eval.result import number
from ams_eval.run_log import Swap

Travelled: TypeAlias = UpdateRecord | Swap

NAMES = {
    "wait": "waiting for the batch to be cut",
    "encode": "encoding",
    "upload": "upload",
    "queue": "waiting at the server",
    "label": "labelling",
    "train": "training",
    "code": "coding",
    "download": "download",
    "build": "building and switching",
}
CHART_HEIGHT = 220
"""In pixels."""


def way_parts(update: Travelled) -> dict[str, float]:
    """Return the seconds of the parts of an update's way that took any, in their order; nothing where they are not known."""
    durations_s = {part: getattr(update, f"{part}_s") for part in LATENCY_PARTS}
    return {part: float(duration_s) for part, duration_s in durations_s.items() if duration_s}


def parts_seen(updates: Sequence[Travelled]) -> list[str]:
    """Return the parts that took time in any of the updates, in their order."""
    return [part for part in LATENCY_PARTS if any(part in way_parts(each) for each in updates)]


def way_legend(updates: Sequence[Travelled]) -> str:
    """Return the legend of `way_chart` as HTML."""
    return legend(((part, NAMES[part]) for part in parts_seen(updates)), box=True)


def way_chart(updates: Sequence[Travelled]) -> str:
    """Return what each update took, part by part, as SVG."""
    totals_s = [sum(way_parts(each).values()) for each in updates]
    last = max((each.version for each in updates), default=1)
    chart = Chart(
        title="latency of each update, in seconds",
        x=Span(0.4, last + 0.6),
        y=span_above_zero(totals_s),
        y_unit="s",
        x_unit="",
        height=CHART_HEIGHT,
    )
    for each in updates:
        top_s = 0.0
        for part, duration_s in way_parts(each).items():
            hint = f"version {each.version}: {NAMES[part]} {duration_s:.2f} s"
            chart.bar(each.version, 0.66, top_s, top_s + duration_s, f"fill-{part}", hint)
            top_s += duration_s
    return chart.svg()


def way_table(updates: Sequence[Travelled]) -> str:
    """Return mean, 95th percentile and share of each part over the updates whose parts are known, as an HTML table."""
    ways = [parts for each in updates if (parts := way_parts(each))]
    whole = spread(sum(parts.values()) for parts in ways)
    rows = []
    for part in parts_seen(updates):
        mean_s, p95_s = spread(parts.get(part, 0.0) for parts in ways)
        rows.append([NAMES[part], number(mean_s, 2), number(p95_s, 2), _share(mean_s / whole.mean)])
    rows.append(["<b>from capture to switch</b>", number(whole.mean, 2), number(whole.p95, 2), ""])
    return table(["", "mean, s", "95th percentile, s", "share"], rows)


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.0f} %"
