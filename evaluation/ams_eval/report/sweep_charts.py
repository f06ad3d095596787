"""The plots of a sweep: mIoU against what the schemes take, a line for each of its curves."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ams_eval.curves import Curve, Spot
from ams_eval.report.chart import LETTER_PIXELS, WIDE, Chart, LogSpan, Span, log_span, span_above_zero
from ams_eval.report.run_charts import add_line

LEAST_RATIO = 1.2
"""A view shows something where the largest value is so many times the smallest."""
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


class Panel(NamedTuple):
    """What one plot shows."""

    title: str
    """The recordings and what their labels are compared with."""
    curves: Sequence[Curve]
    miou: str = TEACHER


def shows_something(panel: Panel, view: View) -> bool:
    """Tell whether the spots of a panel differ in what `view` is against."""
    known = [spot.mean(view.name) for _, spot in _placed(panel, view)]
    return bool(known) and max(known) >= LEAST_RATIO * min(known)


def drawn_names(panel: Panel, view: View) -> list[str]:
    """Return the names of the curves that have a line or a mark."""
    return list(dict.fromkeys(curve.name for curve, _ in _placed(panel, view)))


def view_chart(panel: Panel, view: View, style_of: Mapping[str, str], *, width: int = WIDE, key: bool = False) -> str:
    """Return mIoU against what `view` shows, as SVG; what has no place there is a line across.

    Points are means over the seeds, small points single seeds. With `key` the names of the lines are below.
    """
    placed = _placed(panel, view)
    names = drawn_names(panel, view)
    levels = _levels(panel, placed)
    chart = Chart(
        title=f"mIoU in per cent against {view.title} in {view.unit}: {panel.title}",
        x=_axis(view, [each[view.name] for _, spot in placed for each in spot.seeds]),
        y=miou_axis([100 * each[panel.miou] for _, spot in placed for each in spot.seeds], levels.values()),
        y_unit="%",
        x_unit=view.unit,
        height=_HEIGHT,
        width=width,
        keys=[(f"scheme {style_of[name]}", name) for name in names] if key else (),
    )
    for name, level in levels.items():
        if level >= chart.y.low:
            chart.level(level, name, "scheme s0")
    _note_below(chart, {name: level for name, level in levels.items() if level < chart.y.low})
    for name in names:
        _draw(chart, [(curve, spot) for curve, spot in placed if curve.name == name], view, style_of[name], panel.miou)
    return chart.svg()


def _placed(panel: Panel, view: View) -> list[tuple[Curve, Spot]]:
    """Return the spots that have a place in the plot."""
    least = _LEAST_KBPS if view.logarithmic else 0.0
    spots = [(curve, spot) for curve in panel.curves for spot in curve.spots]
    return [each for each in spots if each[1].mean(view.name) > least and not math.isnan(each[1].mean(panel.miou))]


def _levels(panel: Panel, placed: Sequence[tuple[Curve, Spot]]) -> dict[str, float]:
    """Return the mIoU in per cent of the spots that have none, by what tells them apart."""
    drawn = [spot for _, spot in placed]
    others = [(curve, spot) for curve in panel.curves for spot in curve.spots if spot not in drawn]
    known = {curve.title(spot): 100 * spot.mean(panel.miou) for curve, spot in others}
    return {name: level for name, level in known.items() if not math.isnan(level)}


def _note_below(chart: Chart, levels: Mapping[str, float]) -> None:
    if not levels:
        return
    text = "below: " + ", ".join(f"{name} {level:.1f} %" for name, level in levels.items())
    if LETTER_PIXELS * len(text) > 0.8 * chart.width:
        text = f"below: {len(levels)} with {min(levels.values()):.1f} to {max(levels.values()):.1f} %"
    chart.note(text)


def _draw(chart: Chart, spots: Sequence[tuple[Curve, Spot]], view: View, style: str, miou: str) -> None:
    places = [(spot.mean(view.name), 100 * spot.mean(miou)) for _, spot in spots]
    add_line(chart, [x for x, _ in places], [y for _, y in places], f"scheme {style}")
    for (curve, spot), (x, y) in zip(spots, places, strict=True):
        for each in spot.seeds if len(spot.seeds) > 1 else ():
            if not math.isnan(each[view.name] + each[miou]):
                chart.speck(each[view.name], 100 * each[miou], style)
        seeds = f"{len(spot.seeds)} seeds" if len(spot.seeds) > 1 else "1 seed"
        chart.mark(x, y, style, f"{curve.title(spot)}: {y:.1f} % at {x:.3g} {view.unit}, {seeds}")


def _axis(view: View, values: Sequence[float]) -> Span | LogSpan:
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
