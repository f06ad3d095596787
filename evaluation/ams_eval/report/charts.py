"""The plots of the report."""

import math

from ams_eval.report.chart import NARROW, WIDE, Chart, Span, mean_rates, span_above_zero
from ams_eval.result import DemoResult
from ams_eval.scores import Comparison

TALL, MEDIUM, LOW = 260, 220, 170
"""Heights of plots, in pixels."""


def miou_chart(result: DemoResult, comparison: Comparison, reference: str) -> str:
    """Return mIoU over time with and without adaptation, as SVG."""
    times_s = comparison.adapted.times_s.tolist()
    without, adapted = (100 * each.windowed_miou() for each in (comparison.without, comparison.adapted))
    chart = _over_time(result, f"mIoU against {reference} over time, in per cent", Span(0, 100), "%", TALL)
    chart.gain(times_s, without.tolist(), adapted.tolist())
    chart.ticks(result.log.swap_capture_s(swap) for swap in result.log.swaps)
    chart.line(times_s, without.tolist(), "without")
    chart.line(times_s, adapted.tolist(), "adapted")
    return chart.svg()


def rates_chart(result: DemoResult) -> str:
    """Return uplink and downlink over time beside the budgets, as SVG."""
    seconds, budgets = result.log.seconds, result.budgets
    times_s = [each.capture_time_s for each in seconds]
    period_s = result.log.intervals_s[0][1] if result.log.intervals_s else 1.0
    up = mean_rates(times_s, [8e-3 * each.uplink_bytes for each in seconds], period_s)
    down = mean_rates(times_s, [8e-3 * each.downlink_bytes for each in seconds], period_s)
    chart = _over_time(result, "rates over time, in kbit/s", span_above_zero(up, down, budgets), "kbit/s", MEDIUM)
    for budget, name, style in ((budgets.uplink_kbps, "uplink", "up"), (budgets.downlink_kbps, "downlink", "down")):
        if budget:
            chart.level(budget, f"{name} budget {budget:g}", style)
    chart.line(times_s, up, "up")
    chart.line(times_s, down, "down")
    return chart.svg()


def sampling_chart(result: DemoResult) -> str:
    """Return the sampling rate over time, as SVG."""
    times_s = [each.capture_time_s for each in result.log.seconds]
    rates_hz = [each.sampling_hz for each in result.log.seconds]
    chart = _over_time(result, "sampling rate over time, in frames per second", span_above_zero(rates_hz), "Hz", LOW, NARROW)
    chart.line(times_s, rates_hz, "sampling")
    return chart.svg()


def age_chart(result: DemoResult) -> str:
    """Return model age and update interval over time, as SVG."""
    seconds = result.log.seconds
    ages_s = [math.nan if each.model_age_s is None else each.model_age_s for each in seconds]
    swaps = {swap.version: result.log.swap_capture_s(swap) for swap in result.log.swaps}
    intervals = [(swaps[version], interval_s) for version, interval_s in result.log.intervals_s if version in swaps]
    values = [interval_s for _, interval_s in intervals]
    chart = _over_time(
        result, "model age and update interval over time, in seconds", span_above_zero(ages_s, values), "s", LOW, NARROW
    )
    chart.line([each.capture_time_s for each in seconds], ages_s, "age")
    chart.line([time_s for time_s, _ in intervals], values, "interval")
    return chart.svg()


def _over_time(result: DemoResult, title: str, y: Span, unit: str, height: int, width: int = WIDE) -> Chart:
    chart = Chart(title=title, x=Span(0, result.judgement.duration_s), y=y, y_unit=unit, height=height, width=width)
    for index, phase in enumerate(result.phases):
        chart.band(phase.start_s, phase.end_s, phase.name, shaded=index % 2 == 1)
    return chart
