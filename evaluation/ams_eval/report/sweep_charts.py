"""The plots of a sweep: mIoU against what the schemes take, a line for each of its curves."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ams_eval.curves import Curve, Spot
from ams_eval.report.chart import WIDE, Chart, LogSpan, Span, log_span, span_above_zero
from ams_eval.report.run_charts import add_line

LEAST_RATIO = 1.2
"""A view shows something where a curve's largest value is so many times its smallest."""
_LEAST_KBPS = 0.1
"""Less is drawn as nothing."""
_LEAST_APART = 5.0
"""Points of mIoU."""
_HEIGHT = 340


class View(NamedTuple):
    """What mIoU is drawn against."""

    name: str
    """Of the number that the horizontal axis shows."""
    title: str
    unit: str
    logarithmic: bool


VIEWS = (
    View("down_kbps", "downlink", "kbit/s", logarithmic=True),
    View("up_kbps", "uplink", "kbit/s", logarithmic=True),
    View("model_age_mean_s", "model age", "s", logarithmic=False),
)
TEACHER, HUMAN = "miou_window", "human_miou_window"
"""Names of the mIoU against the teacher and against human labels."""
NUMBERS = (*(view.name for view in VIEWS), TEACHER, HUMAN)
"""What curves must know to be drawn."""


def shows_something(curves: Sequence[Curve], view: View) -> bool:
    """Tell whether some curve has different values of what `view` is against."""
    return any(_ratio(view, curve) >= LEAST_RATIO for curve in curves)


def view_chart(
    curves: Sequence[Curve],
    view: View,
    style_of: Mapping[str, str],
    *,
    miou: str = TEACHER,
    width: int = WIDE,
    key: bool = True,
) -> str:
    """Return mIoU against what `view` shows, as SVG; what has no place there is a line across.

    Points are means over the seeds, small points single seeds. With `key` the names of the lines are below.
    """
    placed = [curve for curve in curves if any(_placed(view, spot, miou) for spot in curve.spots)]
    levels = {curve.name: 100 * level for curve in curves if curve not in placed and (level := max(curve.means(miou))) > 0}
    chart = Chart(
        title=f"mIoU in per cent against {view.title} in {view.unit}",
        x=_axis(view, placed),
        y=miou_axis([100 * each[miou] for curve in placed for spot in curve.spots for each in spot.seeds], levels.values()),
        y_unit="%",
        x_unit=view.unit,
        height=_HEIGHT,
        width=width,
        keys=[(f"scheme {style_of[curve.name]}", curve.name) for curve in placed] if key else (),
    )
    for name, level in levels.items():
        if level >= chart.y.low:
            chart.level(level, name, f"scheme {style_of[name]}")
    if below := [f"{name} {level:.1f} %" for name, level in levels.items() if level < chart.y.low]:
        chart.note(f"below: {', '.join(below)}")
    for curve in placed:
        _draw(chart, curve, view, style_of[curve.name], miou)
    return chart.svg()


def _draw(chart: Chart, curve: Curve, view: View, style: str, miou: str) -> None:
    known = [spot for spot in curve.spots if _placed(view, spot, miou)]
    add_line(chart, [spot.mean(view.name) for spot in known], [100 * spot.mean(miou) for spot in known], f"scheme {style}")
    for spot in known:
        seeds = [Spot(value=spot.value, seeds=(each,)) for each in spot.seeds] if len(spot.seeds) > 1 else []
        for each in seeds:
            if _placed(view, each, miou):
                chart.speck(each.mean(view.name), 100 * each.mean(miou), style)
        name = f"{curve.name}, {spot.value}" if spot.value else curve.name
        x, y = spot.mean(view.name), 100 * spot.mean(miou)
        chart.mark(x, y, style, f"{name}: {y:.1f} % at {x:.3g} {view.unit}")


def _placed(view: View, spot: Spot, miou: str) -> bool:
    """Tell whether a spot has a place in the plot."""
    return spot.mean(view.name) > (_LEAST_KBPS if view.logarithmic else 0.0) and not math.isnan(spot.mean(miou))


def _axis(view: View, curves: Sequence[Curve]) -> Span | LogSpan:
    values = [each[view.name] for curve in curves for spot in curve.spots for each in spot.seeds]
    return log_span(values, least=_LEAST_KBPS) if view.logarithmic else span_above_zero(values)


def miou_axis(values: Iterable[float], levels: Iterable[float]) -> Span:
    """Return an axis around all `values` in per cent, and around those `levels` that are not far below them.

    NaN does not count. Far is further than the values are apart, or than a few points where they hardly are.
    """
    known = [value for value in values if not math.isnan(value)] or [0.0, 100.0]
    lowest = min(known) - max(_LEAST_APART, max(known) - min(known))
    known += [level for level in levels if level >= lowest]
    low, high = min(known), max(known)
    step = next((step for step in (2, 5, 10) if high - low <= 5 * step), 20)
    return Span(max(0.0, step * math.floor(low / step - 0.1)), min(100.0, step * math.ceil(high / step + 0.1)))


def _ratio(view: View, curve: Curve) -> float:
    known = [value for value in curve.means(view.name) if value > 0]
    return max(known) / min(known) if known else 0.0
