"""The plots that set schemes side by side. A scheme has the same colour in all of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ams_eval import metrics
from ams_eval.groups import Group
from ams_eval.metrics import FloatArray
from ams_eval.outcome import Direction, Outcome
from ams_eval.report.chart import Chart, Dot, Span, log_span
from ams_eval.report.run_charts import TALL, add_line, budget_kbps, miou_span, rolling_kbps, time_chart
from ams_eval.result_folder import NO_CUSTOMISATION
from ams_eval.scores import Score

STYLES = 12
"""Colours of schemes in the style sheet."""
_LEAST_KBPS = 0.1
"""Less is drawn as nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """What one scheme did on one recording: an outcome for each seed."""

    name: str
    style: str
    """CSS class of its colour."""
    outcomes: tuple[Outcome, ...]


def styles(names: Sequence[str]) -> dict[str, str]:
    """Return a CSS class for each scheme: the first one for no customisation, the others in turn."""
    others = [name for name in names if name != NO_CUSTOMISATION]
    return {NO_CUSTOMISATION: "s0"} | {name: f"s{1 + index % (STYLES - 1)}" for index, name in enumerate(others)}


def miou_chart(sides: Sequence[Side], *, human: bool) -> str:
    """Return the mIoU of all schemes over time, means over seeds, and a row of updates for each scheme that has any, as SVG."""
    lines = {side.name: _windowed([outcome.human if human else outcome.teacher for outcome in side.outcomes]) for side in sides}
    updating = [side for side in sides if side.outcomes[0].updates]
    reference = "human labels" if human else "the teacher"
    chart = time_chart(
        sides[0].outcomes[0],
        f"mIoU against {reference} over time, in per cent",
        miou_span(values for _, each in lines.values() for values in each),
        "%",
        height=TALL + 10 * len(updating),
        tick_rows=len(updating),
    )
    for side in sides:
        times_s, values = lines[side.name]
        if len(values) > 1:
            chart.range(times_s.tolist(), (100 * values.min(axis=0)).tolist(), (100 * values.max(axis=0)).tolist(), side.style)
        if values.size:
            add_line(chart, times_s, 100 * values.mean(axis=0), f"scheme {side.style}")
    for row, side in enumerate(updating):
        chart.ticks((each.time_s for each in side.outcomes[0].updates), f"scheme {side.style}", row)
    return chart.svg()


def rates_chart(sides: Sequence[Side], direction: Direction) -> str:
    """Return the rates of all schemes in one direction over time on a logarithmic axis, and the budget, as SVG."""
    rates = {side.name: rolling_kbps(side.outcomes[0], direction) for side in sides}
    budget = max(budget_kbps(side.outcomes[0], direction) for side in sides)
    values = [float(value) for each in rates.values() for value in each] + [budget]
    title = f"{direction}link over time, in kbit/s"
    chart = time_chart(sides[0].outcomes[0], title, log_span(values, least=1.0), "kbit/s")
    if budget:
        chart.level(budget, f"budget {budget:g}", direction)
    for name, style in ((side.name, side.style) for side in sides):
        known = np.where(rates[name] > 0, rates[name], math.nan)
        add_line(chart, np.arange(len(known)) + 1.0, known, f"scheme {style}")
    return chart.svg()


def bandwidth_chart(groups: Sequence[Group], style_of: Mapping[str, str], *, human: bool) -> str:
    """Return mIoU against downlink bandwidth on a logarithmic axis, as SVG; schemes that receive nothing are lines across."""
    name = "human_miou_window" if human else "miou_window"
    rated = [group for group in groups if group.mean("down_kbps") > _LEAST_KBPS and not math.isnan(group.mean(name))]
    chart = Chart(
        title="mIoU against downlink bandwidth",
        x=log_span([row.down_kbps for group in rated for row in group], least=_LEAST_KBPS),
        y=miou_span([np.array([getattr(row, name) for group in groups for row in group])]),
        y_unit="%",
        x_unit="kbit/s",
        height=320,
    )
    for group in groups:
        if group not in rated and not math.isnan(group.mean(name)):
            chart.level(100 * group.mean(name), f"{group.scheme}, receives nothing", f"scheme {style_of[group.scheme]}")
    for group in rated:
        for row in group if len(group) > 1 else ():
            chart.speck(row.down_kbps, 100 * getattr(row, name), style_of[group.scheme])
    chart.dots([Dot(group.mean("down_kbps"), 100 * group.mean(name), group.scheme, style_of[group.scheme]) for group in rated])
    return chart.svg()


def gain_chart(gains: Mapping[str, FloatArray], style_of: Mapping[str, str]) -> str:
    """Return the share of frames that gain no more than so many points of mIoU over no customisation, as SVG."""
    known = np.concatenate([gain[~np.isnan(gain)] for gain in gains.values()])
    low = float(np.quantile(known, 0.002, method="lower")) if known.size else 0.0
    high = float(np.quantile(known, 0.998, method="higher")) if known.size else 0.0
    span = Span(100 * min(-0.02, low), 100 * max(0.02, high))
    chart = Chart(
        title="cumulative distribution of the gain per frame, share of frames in per cent",
        x=span,
        y=Span(0, 100),
        y_unit="%",
        x_unit="points",
        height=TALL,
    )
    chart.upright(0.0, "zero")
    for name, gain in gains.items():
        values, shares = metrics.cumulative(gain)
        seen = (100 * values >= span.low) & (100 * values <= span.high)
        add_line(chart, 100 * values[seen], 100 * shares[seen], f"scheme {style_of[name]}")
    return chart.svg()


def _windowed(scores: Sequence[Score | None]) -> tuple[FloatArray, FloatArray]:
    """Return times, float64 [F], and mIoU, float64 [seeds, F], of the seeds that were scored on the frames of the first one."""
    known = [score for score in scores if score is not None and len(score.times_s)]
    if not known:
        return np.zeros(0), np.zeros((0, 0))
    times_s = known[0].times_s
    return times_s, np.array([each.windowed_miou() for each in known if np.array_equal(each.times_s, times_s)])
