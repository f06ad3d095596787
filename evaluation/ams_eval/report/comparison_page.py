"""The report that sets all schemes side by side on each recording: one HTML file with everything in it."""

import html
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ams_eval import metrics
from ams_eval.metrics import FloatArray
from ams_eval.outcome import Direction, Moments
from ams_eval.report.comparison_charts import Side, bandwidth_chart, gain_chart, miou_chart, rates_chart, styles
from ams_eval.report.filmstrip import choose_moments, filmstrip, moment_mious
from ams_eval.report.parts import card, document, legend, table
from ams_eval.report.published import AMS_PAPER, SHARES_BETTER, SOURCE
from ams_eval.report.run_charts import RATE_WINDOW_S
from ams_eval.result import number, percent, points
from ams_eval.result_folder import NO_CUSTOMISATION, Run, base_of, differing_settings, unique
from ams_eval.scores import WINDOW_S
from ams_eval.summary import Group, Summary, by_scheme, complete, describe_missing

_LONG_S = 300.0
"""Shorter recordings have nothing to say about the time after the first 250 s."""
_REFERENCE_SETTINGS = {"teacher_identity", "classes", "class_set", "scored_hz", "student_width", "student_height"}
"""Settings that decide what labels are compared with; the student's size does because the reference has it too."""


def render_comparison(
    runs: Sequence[Run], rows: Sequence[Summary], moments: Mapping[str, Moments], *, settle_s: float = metrics.SETTLE_S
) -> str:
    """Return the comparison of all runs as an HTML document without any reference to the outside.

    Args:
        runs: as `result_folder.read_runs` orders them.
        rows: their numbers.
        moments: what may be shown, by recording.
        settle_s: the time from which on "late" numbers count.
    """
    groups = by_scheme(rows)
    style_of = styles([group.scheme for group in groups])
    recordings = unique(run.outcome.recording for run in runs)
    sections = [
        _header(groups, recordings, rows),
        _warning(runs),
        _missing(groups),
        _main_table(groups, "In short"),
        _bandwidth(groups, style_of),
        _gains(runs, style_of),
        *(_recording(each, runs, rows, moments.get(each), style_of, alone=len(recordings) == 1) for each in recordings),
        _aggregates(groups, settle_s),
        _published(),
        _settings(runs),
    ]
    return document(f"{len(groups)} schemes on {', '.join(recordings)}", sections)


def headline(groups: Sequence[Group]) -> str:
    """Return what came out, in one sentence of HTML, whether anything helped or not."""
    base = next((group for group in groups if group.scheme == NO_CUSTOMISATION), None)
    others = [group for group in complete(groups) or groups if group is not base and not math.isnan(group.mean("miou_window"))]
    if not others:
        return "No scheme to compare yet"
    best = max(others, key=lambda group: group.mean("miou_window"))
    name, value = html.escape(best.scheme), _bound(percent(best.mean("miou_window")))
    if base is None:
        return f"{name} comes closest to the teacher: <b>{value}</b> mIoU"
    start = _bound(percent(base.mean("miou_window")))
    if best.mean("miou_window") <= base.mean("miou_window"):
        return f"Nothing beats no customisation here: {start} mIoU without, <b>{value}</b> with {name}"
    return f"{name} comes closest to the teacher: <b>{value}</b> mIoU, {start} without customisation"


def _header(groups: Sequence[Group], recordings: Sequence[str], rows: Sequence[Summary]) -> str:
    seconds = {row.recording: row.duration_s for row in rows}
    played = ", ".join(f"{html.escape(name)} ({number(seconds[name], 0)} s)" for name in recordings)
    seeds = max(group.seeds() for group in groups)
    repeated = f" Up to {seeds} seeds; numbers are means over them, ± is their standard deviation." if seeds > 1 else ""
    return (
        f'<header><p class="over">Adaptive Model Streaming: schemes side by side</p><h1>{headline(groups)}</h1>'
        f'<p class="lead">{len(groups)} schemes on {played}. Unless another aggregate is named, mIoU is the mean over the '
        f"frames of the mIoU within the {WINDOW_S:g} s around them, against the teacher's labels of the original pictures or, "
        f"where it says so, against human labels.{repeated}</p></header>"
    )


def _warning(runs: Sequence[Run]) -> str:
    names = sorted(differing_settings(run.outcome for run in runs) & _REFERENCE_SETTINGS)
    if not names:
        return ""
    return (
        '<p class="warning">These runs do not all have the same reference: they differ in '
        f"{html.escape(', '.join(names))}. Their mIoU cannot be compared as if they had.</p>"
    )


def _missing(groups: Sequence[Group]) -> str:
    text = describe_missing(groups)
    return f'<p class="warning">{html.escape(text)}</p>' if text else ""


_COLUMNS: tuple[tuple[str, str, Callable[[float], str], float], ...] = (
    ("mIoU teacher, %", "miou_window", lambda value: number(value, 1), 100),
    ("mIoU human, %", "human_miou_window", lambda value: number(value, 1), 100),
    ("gain, points", "gain", lambda value: number(value, 1), 100),
    ("up, kbit/s", "up_kbps", lambda value: number(value, 1), 1),
    ("down, kbit/s", "down_kbps", lambda value: number(value, 1), 1),
    ("model age, s", "model_age_mean_s", lambda value: number(value, 1), 1),
    ("frames labelled", "frames_labelled", lambda value: number(value, 0), 1),
    ("updates", "updates", lambda value: number(value, 0), 1),
)
"""Heading, field of Summary, how it is written, and what it is multiplied by first."""
_HIGHER_IS_BETTER = ("miou_window", "human_miou_window", "gain")


def _main_table(groups: Sequence[Group], title: str) -> str:
    columns = [column for column in _COLUMNS if not all(math.isnan(group.mean(column[1])) for group in groups)]
    rows = [
        [html.escape(group.scheme), *(_cell(group, groups, name, write, factor) for _, name, write, factor in columns)]
        for group in groups
    ]
    note = (
        "Gain is over no customisation, against the teacher. Rates are of payload over the whole recording, 1 kbit = 1000 bit, "
        "without the first model, which every device gets once."
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


def _bandwidth(groups: Sequence[Group], style_of: Mapping[str, str]) -> str:
    if all(group.mean("down_kbps") <= 0 for group in groups):
        return ""
    specks = " Small points are single runs." if any(len(group) > 1 for group in groups) else ""
    charts = card("Against the teacher", "", bandwidth_chart(groups, style_of, human=False))
    if not all(math.isnan(group.mean("human_miou_window")) for group in groups):
        charts += card("Against human labels", "", bandwidth_chart(groups, style_of, human=True))
    return (
        "<h2>What a kilobit buys</h2><p>mIoU against downlink bandwidth, means over the recordings; the axis of the "
        "bandwidth is "
        f"logarithmic. Up and to the left is better.{specks}</p>{charts}"
    )


def _gains(runs: Sequence[Run], style_of: Mapping[str, str]) -> str:
    gains: dict[str, list[FloatArray]] = {}
    for run in runs:
        base = base_of(run, runs)
        if base is not None and run.label != NO_CUSTOMISATION:
            gains.setdefault(run.label, []).append(metrics.frame_gain(run.outcome, base.outcome))
    if not gains:
        return ""
    pooled = {name: np.concatenate(each) for name, each in gains.items()}
    entries = [
        (style_of[name], f"{html.escape(name)}, better in {percent(metrics.share_better(gain))} of frames")
        for name, gain in pooled.items()
    ]
    published = ", ".join(f"{name} {100 * share:.0f} %" for name, share in SHARES_BETTER.items())
    return (
        "<h2>Gain frame by frame</h2><p>Share of the frames, over all recordings and seeds, whose mIoU against the "
        "teacher gains "
        "no more than so many points over no customisation. A line further to the right is better; left of the dashed line a "
        f"frame loses. Published shares of better frames, on other videos: {published}.</p>"
        f"{card('Cumulative gain', legend(entries), gain_chart(pooled, style_of))}"
    )


def _recording(
    name: str,
    runs: Sequence[Run],
    rows: Sequence[Summary],
    moments: Moments | None,
    style_of: Mapping[str, str],
    *,
    alone: bool,
) -> str:
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
        "" if alone else _main_table(by_scheme(row for row in rows if row.recording == name), f"{html.escape(name)} in short")
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


def _aggregates(groups: Sequence[Group], settle_s: float) -> str:
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


def _published() -> str:
    heads = [
        "mIoU, %",
        "no customisation",
        "one-time",
        "remote + tracking",
        "just-in-time",
        "AMS",
        "AMS up / down",
        "JIT up / down",
    ]
    rows = [
        [
            row.dataset,
            *(f"{value:.2f}" for value in row[1:6]),
            f"{row.ams_up_kbps} / {row.ams_down_kbps}",
            f"{row.just_in_time_up_kbps} / {row.just_in_time_down_kbps}",
        ]
        for row in AMS_PAPER
    ]
    return (
        "<h2>For orientation: the published figures</h2><p>Other videos, classes, networks and teachers than above, "
        "without any "
        "latency, so only the distances between schemes may be compared. Means of 10 s windows against the teacher; rates in "
        f'Kbit/s of 1024 bit.</p><div class="card wide">{table(heads, rows)}</div><p class="caption">{SOURCE}</p>'
    )


def _settings(runs: Sequence[Run]) -> str:
    differing = differing_settings(run.outcome for run in runs)
    names = sorted({name for run in runs for name in run.outcome.settings})
    shared = [[html.escape(name), _setting(runs[0], name)] for name in names if name not in differing]
    first = {run.label: run for run in reversed(runs)}
    labels = unique(run.label for run in runs)
    own = [[html.escape(name), *(_setting(first[label], name) for label in labels)] for name in sorted(differing)]
    parts = [f"<details><summary>what all runs share</summary>{table(['setting', 'value'], shared)}</details>"]
    if own:
        heads = ["setting", *map(html.escape, labels)]
        parts.insert(0, f"<details open><summary>what differs</summary>{table(heads, own)}</details>")
    where = "Each run has a report of its own in the folder <b>runs</b>; all numbers are in summary.csv and summary.json."
    return f'<h2>As it was run</h2><p>{where}</p><div class="card wide">{"".join(parts)}</div>'


def _setting(run: Run, name: str) -> str:
    value = run.outcome.settings.get(name)
    return "–" if value is None else html.escape(str(value))


def _bound(text: str) -> str:
    return text.replace(" ", "&nbsp;")
