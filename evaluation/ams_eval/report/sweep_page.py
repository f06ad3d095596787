"""The page of a sweep: its curves, first as means over all recordings, then on each of them."""

import html
import math
from collections.abc import Mapping, Sequence

from ams_eval.curves import Curve
from ams_eval.report.chart import NARROW
from ams_eval.report.comparison_charts import styles
from ams_eval.report.parts import card, document
from ams_eval.report.sweep_charts import HUMAN, TEACHER, VIEWS, View, shows_something, view_chart
from ams_eval.scores import WINDOW_S


def render_sweep(name: str, curves: Sequence[Curve], by_recording: Mapping[str, Sequence[Curve]]) -> str:
    """Return an HTML document without any reference to the outside.

    Args:
        name: of the sweep.
        curves: means over the recordings; at least one.
        by_recording: the same for each recording alone.
    """
    style_of, views = styles(_names(curves, by_recording)), views_of(curves)
    sections = [_header(name, curves, by_recording), *(_view(view, curves, by_recording, style_of) for view in views)]
    return document(f"sweep {name}", sections)


def views_of(curves: Sequence[Curve]) -> list[View]:
    """Return what these curves are worth drawing against."""
    return [view for view in VIEWS if shows_something(curves, view)]


def pictures(curves: Sequence[Curve]) -> dict[str, str]:
    """Return the plots of `render_sweep` against the teacher, means over the recordings, by a name for each."""
    style_of = styles(_names(curves, {}))
    return {view.name: view_chart(curves, view, style_of) for view in views_of(curves)}


def _names(curves: Sequence[Curve], by_recording: Mapping[str, Sequence[Curve]]) -> list[str]:
    """Return the names of all curves: an unfinished sweep may have some on single recordings alone."""
    return list(dict.fromkeys(curve.name for each in (curves, *by_recording.values()) for curve in each))


def _header(name: str, curves: Sequence[Curve], by_recording: Mapping[str, Sequence[Curve]]) -> str:
    names, seeds = _names(curves, by_recording), max(len(spot.seeds) for curve in curves for spot in curve.spots)
    played, counted = ", ".join(map(html.escape, by_recording)), f"{seeds} seeds" if seeds > 1 else "one seed"
    specks = " Small points are single seeds." if seeds > 1 else ""
    return (
        f'<header><p class="over">Adaptive Model Streaming: a sweep</p><h1>{html.escape(name)}</h1>'
        f'<p class="lead">{len(names)} curves on {played}, {counted}. mIoU is the mean over the frames of the mIoU within the '
        f"{WINDOW_S:g} s around them; a line joins the values of one setting. Point at a mark to read it.{specks}</p></header>"
    )


def _view(view: View, curves: Sequence[Curve], by_recording: Mapping[str, Sequence[Curve]], style_of: Mapping[str, str]) -> str:
    titles = {"Against the teacher": TEACHER, "Against human labels": HUMAN}
    cards = "".join(
        card(title + _aggregate(by_recording, miou), "", view_chart(curves, view, style_of, miou=miou))
        for title, miou in titles.items()
        if _known(curves, miou)
    )
    if len(by_recording) > 1:
        alone = (
            card(html.escape(name), "", view_chart(each, view, style_of, width=NARROW, key=False))
            for name, each in by_recording.items()
            if each
        )
        cards += f'<div class="pair">{"".join(alone)}</div>'
    scale = " The axis is logarithmic." if view.logarithmic else ""
    return f"<h2>mIoU against {view.title}</h2><p>Up and to the left is better.{scale}</p>{cards}"


def _aggregate(by_recording: Mapping[str, Sequence[Curve]], miou: str) -> str:
    """Return what the title of a plot tells of the recordings that its means are of."""
    count = sum(_known(curves, miou) for curves in by_recording.values())
    return f", mean of {count} recordings" if count > 1 else ""


def _known(curves: Sequence[Curve], miou: str) -> bool:
    return any(not math.isnan(value) for curve in curves for value in curve.means(miou))
