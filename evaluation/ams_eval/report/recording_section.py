"""The schemes side by side on one recording, as HTML: over time, class by class, in pictures."""

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ams_eval import metrics
from ams_eval.groups import by_scheme
from ams_eval.outcome import Direction, Moments
from ams_eval.report.comparison_charts import Side, miou_chart, rates_chart
from ams_eval.report.comparison_tables import main_table
from ams_eval.report.filmstrip import choose_moments, filmstrip, moment_mious
from ams_eval.report.parts import card, legend
from ams_eval.report.run_charts import RATE_WINDOW_S
from ams_eval.result import number
from ams_eval.result_folder import Run, unique
from ams_eval.scores import WINDOW_S
from ams_eval.summary import Summary


def recording_section(
    name: str,
    runs: Sequence[Run],
    rows: Sequence[Summary],
    moments: Moments | None,
    style_of: Mapping[str, str],
    *,
    alone: bool,
) -> str:
    """Return what the schemes did on the recording called `name`, as HTML.

    Args:
        name: of the recording.
        runs: of all recordings.
        rows: their numbers.
        moments: what may be shown, if anything was kept.
        style_of: CSS class of each scheme.
        alone: whether there is no other recording, whose numbers are those of all.
    """
    mine = [run for run in runs if run.outcome.recording == name]
    labels = unique(run.label for run in mine)
    sides = [
        Side(name=each, style=style_of[each], outcomes=tuple(run.outcome for run in mine if run.label == each))
        for each in labels
    ]
    key = legend((side.style, html.escape(side.name)) for side in sides)
    charts = card("mIoU against the teacher", key, miou_chart(sides, human=False))
    if any(outcome.human is not None for side in sides for outcome in side.outcomes):
        charts += card("mIoU against human labels", key, miou_chart(sides, human=True))
    charts += _rates(sides, "up", "Uplink") + _rates(sides, "down", "Downlink")
    short = (
        "" if alone else main_table(by_scheme(row for row in rows if row.recording == name), f"{html.escape(name)} in short")
    )
    band = " Shaded is the range of the seeds." if any(len(side.outcomes) > 1 for side in sides) else ""
    return (
        f"{short}<h2>{html.escape(name)} over time</h2><p>mIoU in a window of {WINDOW_S:g} s around each moment; "
        f"strokes below are "
        f"updates taking effect, of the first seed, a row for each scheme in the order of the legend.{band} Rates of "
        f"payload are means over the last {RATE_WINDOW_S} s on a "
        f"logarithmic axis, of the first seed.</p>{charts}{_classes(name, sides)}{_pictures(name, sides, moments)}"
    )


def _rates(sides: Sequence[Side], direction: Direction, title: str) -> str:
    sending = [side for side in sides if metrics.running_traffic(side.outcomes[0], direction).payload_bytes]
    if not sending:
        return ""
    return card(title, legend((side.style, html.escape(side.name)) for side in sending), rates_chart(sending, direction))


def _classes(name: str, sides: Sequence[Side]) -> str:
    values = {side.name: np.array([outcome.teacher.class_iou() for outcome in side.outcomes]).mean(axis=0) for side in sides}
    parts = []
    for index, each in enumerate(sides[0].outcomes[0].classes):
        bars = "".join(_bar(side.style, float(values[side.name][index])) for side in sides)
        if not all(np.isnan(found[index]) for found in values.values()):
            parts.append(f'<span>{html.escape(each)}</span><span class="bars told">{bars}</span>')
    key = legend((side.style, html.escape(side.name)) for side in sides)
    return (
        f"<h2>{html.escape(name)} class by class</h2><p>Intersection over union with the teacher over the whole recording, per "
        f'cent.</p><div class="card">{key}<div class="classes schemes">{"".join(parts)}</div></div>'
    )


def _bar(style: str, value: float) -> str:
    width = 0.0 if math.isnan(value) else 100 * value
    return f'<span><i class="fill-{style}" style="width:{width:.1f}%"></i>{number(100 * value, 1)}</span>'


def _pictures(name: str, sides: Sequence[Side], moments: Moments | None) -> str:
    if moments is None or not len(moments.frames):
        return ""
    outcomes = {side.name: side.outcomes[0] for side in sides}
    mious = np.array([moment_mious(outcome, moments) for outcome in outcomes.values()])
    return (
        f"<h2>{html.escape(name)} in pictures</h2><p>From each part of the recording the kept frame in which the "
        f"schemes differ "
        "most, whichever is better. Numbers are mIoU against the teacher in that picture alone, of the first seed; "
        "the best one "
        f"is green.</p>{filmstrip(outcomes, moments, choose_moments(mious))}"
    )
