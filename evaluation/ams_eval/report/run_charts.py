"""The plots of one outcome."""

import math
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from ams_eval import metrics
from ams_eval.metrics import FloatArray
from ams_eval.outcome import Direction, Outcome, UpdateRecord
from ams_eval.report.chart import NARROW, WIDE, Chart, LogSpan, Span, span_above_zero, thinned
from ams_eval.scores import Score

TALL, MEDIUM, LOW = 260, 220, 170
"""Heights of plots, in pixels."""
RATE_WINDOW_S = 10
"""Rates over time are means over this time before each second."""


def time_chart(
    outcome: Outcome, title: str, y: Span | LogSpan, unit: str, *, height: int = MEDIUM, width: int = WIDE, tick_rows: int = 0
) -> Chart:
    """Return an empty plot over the time of the recording."""
    end_s = metrics.duration_s(outcome)
    x = Span(0.0, 1.0 if math.isnan(end_s) else end_s)
    return Chart(title=title, x=x, y=y, y_unit=unit, height=height, width=width, tick_rows=tick_rows)


def add_line(chart: Chart, xs: npt.ArrayLike, ys: npt.ArrayLike, style: str) -> None:
    """Draw a line with as many of its points as can be seen."""
    at, values = np.asarray(xs, np.float64), np.asarray(ys, np.float64)
    chosen = thinned(len(at))
    chart.line(at[chosen].tolist(), values[chosen].tolist(), style)


def miou_span(scores: Iterable[FloatArray]) -> Span:
    """Return an axis in per cent around all known values, in whole tens."""
    values = np.concatenate([np.zeros(0), *scores])
    values = values[~np.isnan(values)]
    if not values.size:
        return Span(0, 100)
    return Span(max(0.0, math.floor(values.min() * 10 - 0.1) * 10.0), min(100.0, math.ceil(values.max() * 10 + 0.1) * 10.0))


def run_miou_chart(outcome: Outcome, base: Outcome | None) -> str:
    """Return mIoU over time against teacher and people, and that of no customisation, as SVG."""
    scores: list[tuple[Score | None, str]] = [
        (base.teacher if base else None, "without"),
        (outcome.human, "human"),
        (outcome.teacher, "adapted"),
    ]
    lines = [(score.times_s, score.windowed_miou(), style) for score, style in scores if score is not None]
    span = miou_span(values for _, values, _ in lines)
    chart = time_chart(outcome, "mIoU over time, in per cent", span, "%", height=TALL, tick_rows=1)
    chart.ticks(each.time_s for each in outcome.updates)
    for times_s, values, style in lines:
        add_line(chart, times_s, 100 * values, style)
    return chart.svg()


def rolling_kbps(outcome: Outcome, direction: Direction) -> FloatArray:
    """Return the mean rate in kbit/s over the last RATE_WINDOW_S of each second, or over what there was, float64 [S]."""
    sums = np.concatenate([[0.0], np.cumsum(metrics.kbit_per_second(outcome, direction))])
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - RATE_WINDOW_S)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts), np.float64)


def budget_kbps(outcome: Outcome, direction: Direction) -> float:
    """Return the budget in kbit/s that the settings name; 0 for none."""
    value = outcome.settings.get(f"{direction}link_kbps")
    return float(value) if isinstance(value, (int, float)) else 0.0


def run_rates_chart(outcome: Outcome) -> str:
    """Return both rates over time beside the budgets, as SVG."""
    up, down = rolling_kbps(outcome, "up"), rolling_kbps(outcome, "down")
    budgets = budget_kbps(outcome, "up"), budget_kbps(outcome, "down")
    chart = time_chart(outcome, "rates over time, in kbit/s", span_above_zero(up, down, budgets), "kbit/s")
    for budget, name, style in zip(budgets, ("uplink", "downlink"), ("up", "down"), strict=True):
        if budget:
            chart.level(budget, f"{name} budget {budget:g}", style)
    for rates, style in ((up, "up"), (down, "down")):
        add_line(chart, np.arange(len(rates)) + 1.0, rates, style)
    return chart.svg()


def sampling_chart(outcome: Outcome) -> str:
    """Return the sampling rate over time, as SVG."""
    rates_hz, _ = metrics.steering(outcome)
    chart = _small(outcome, "sampling rate over time, in frames per second", [rates_hz], "Hz")
    add_line(chart, outcome.teacher.times_s, rates_hz, "sampling")
    return chart.svg()


def age_chart(outcome: Outcome) -> str:
    """Return model age and update interval over time, as SVG."""
    _, intervals_s = metrics.steering(outcome)
    chart = _small(outcome, "model age and update interval over time, in seconds", [outcome.model_age_s, intervals_s], "s")
    add_line(chart, outcome.teacher.times_s, outcome.model_age_s, "age")
    add_line(chart, outcome.teacher.times_s, intervals_s, "interval")
    return chart.svg()


def update_chart(outcome: Outcome, title: str, unit: str, value: Callable[[UpdateRecord], float], style: str) -> str:
    """Return a number of each update over time, as SVG."""
    values = [value(each) for each in outcome.updates]
    chart = _small(outcome, title, [values], unit)
    add_line(chart, [each.time_s for each in outcome.updates], values, style)
    return chart.svg()


def effort_chart(outcome: Outcome) -> str:
    """Return the adaptation effort by windows, as SVG: how much the model had to change."""
    found = metrics.effort(outcome)
    chart = _small(outcome, "change of the weights by windows of 30 s", [found.change], "‖Δw‖")
    for start_s, steps, change in zip(found.starts_s, found.steps, found.change, strict=True):
        end_s = min(start_s + metrics.EFFORT_WINDOW_S, chart.x.high)
        hint = f"{start_s:.0f} to {end_s:.0f} s: {steps:.0f} steps, change {change:.3g}"
        chart.bar((start_s + end_s) / 2, 0.86 * (end_s - start_s), 0.0, float(change), "fill-train", hint)
    return chart.svg()


def _small(outcome: Outcome, title: str, series: Iterable[Iterable[float]], unit: str) -> Chart:
    return time_chart(outcome, title, span_above_zero(*series), unit, height=LOW, width=NARROW)
