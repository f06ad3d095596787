"""The page of a sweep: its curves, first as means over all recordings, then on each of them."""

import html
from collections.abc import Mapping, Sequence

from ams_eval.report.chart import NARROW
from ams_eval.report.comparison_charts import styles
from ams_eval.report.parts import card, document, legend
from ams_eval.report.sweep_charts import VIEWS, Panel, View, drawn_names, shows_something, view_chart
from ams_eval.scores import WINDOW_S


def render_sweep(name: str, panels: Sequence[Panel], alone: Sequence[Panel], *, missing: str = "") -> str:
    """Return an HTML document without any reference to the outside.

    Args:
        name: of the sweep.
        panels: means over several recordings, or all there is of one.
        alone: the same on single recordings.
        missing: what is not finished, in words.
    """
    style_of = _styles([*panels, *alone])
    views = [view for view in VIEWS if any(shows_something(panel, view) for panel in panels)]
    sections = [_header(name, panels, missing), *(_view(view, panels, alone, style_of) for view in views)]
    return document(f"sweep {name}", sections)


def pictures(panel: Panel) -> dict[str, str]:
    """Return a plot against everything that the curves of a panel differ in, each with its key, by the name of the number."""
    style_of = _styles([panel])
    return {view.name: view_chart(panel, view, style_of, key=True) for view in VIEWS if shows_something(panel, view)}


def _styles(panels: Sequence[Panel]) -> dict[str, str]:
    """Return a CSS class for each curve: an unfinished sweep may have some on single recordings alone."""
    return styles(list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves)))


def _header(name: str, panels: Sequence[Panel], missing: str) -> str:
    seeds = [len(spot.seeds) for panel in panels for curve in panel.curves for spot in curve.spots]
    specks = " Small points are single seeds." if max(seeds) > 1 else ""
    warning = f'<p class="warning">{html.escape(missing)}</p>' if missing else ""
    return (
        f'<header><p class="over">Adaptive Model Streaming: a sweep</p><h1>{html.escape(name)}</h1>'
        f'<p class="lead">mIoU is the mean over the frames of the mIoU within the {WINDOW_S:g} s around them; a line joins the '
        f"values of one setting. Point at a mark to read it.{specks}</p>{warning}</header>"
    )


def _view(view: View, panels: Sequence[Panel], alone: Sequence[Panel], style_of: Mapping[str, str]) -> str:
    drawn = {name for panel in (*panels, *alone) for name in drawn_names(panel, view)}
    entries = [(style, html.escape(name)) for name, style in style_of.items() if name in drawn]
    cards = "".join(card(html.escape(panel.title), "", view_chart(panel, view, style_of)) for panel in panels if panel.curves)
    small = "".join(
        card(html.escape(panel.title), "", view_chart(panel, view, style_of, width=NARROW)) for panel in alone if panel.curves
    )
    pairs = f'<div class="pair">{small}</div>' if small else ""
    scale = " The axis is logarithmic." if view.logarithmic else ""
    lead = f"Up and to the left is better.{scale}"
    return f"<h2>mIoU against {view.title}</h2><p>{lead}</p>{legend(entries)}{cards}{pairs}"
