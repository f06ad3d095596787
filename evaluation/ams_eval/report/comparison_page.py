"""The report that sets all schemes side by side on each recording: one HTML file with everything in it."""

import html
import math
from collections.abc import Mapping, Sequence

from ams_eval import metrics
from ams_eval.gains import pooled_gains
from ams_eval.groups import Group, by_scheme, complete, describe_missing, describe_untaught, sharing_losses
from ams_eval.outcome import Moments
from ams_eval.report.comparison_charts import bandwidth_chart, gain_chart, styles
from ams_eval.report.comparison_tables import aggregates_table, main_table
from ams_eval.report.parts import card, document, legend, table
from ams_eval.report.published import AMS_PAPER, SHARES_BETTER, SOURCE
from ams_eval.report.recording_section import recording_section
from ams_eval.result import number, percent, points
from ams_eval.result_folder import NO_CUSTOMISATION, Run, differing_settings, unique
from ams_eval.scores import WINDOW_S
from ams_eval.summary import Summary

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
        main_table(groups, "In short"),
        _sharing(rows),
        _bandwidth(groups, style_of),
        _gains(runs, style_of),
        *(recording_section(each, runs, rows, moments.get(each), style_of, alone=len(recordings) == 1) for each in recordings),
        aggregates_table(groups, settle_s),
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
    texts = filter(None, (describe_missing(groups), describe_untaught(groups)))
    return "".join(f'<p class="warning">{html.escape(text)}</p>' for text in texts)


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
    pooled = pooled_gains(runs)
    if not pooled:
        return ""
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


def _sharing(rows: Sequence[Summary]) -> str:
    losses = sharing_losses(rows)
    if not losses:
        return ""
    cells = [
        [html.escape(each.scheme), str(each.devices), points(-each.loss), points(-each.human_loss), str(each.recordings)]
        for each in losses
    ]
    heads = ["scheme", "devices", "teacher, points", "human, points", "recordings"]
    return (
        "<h2>One server for several devices</h2><p>What mIoU becomes where devices wait for each other's labels and training, "
        "less that of a device with a server of its own; means over the recordings and seeds of both.</p>"
        f'<div class="card wide">{table(heads, cells)}</div>'
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
    return f'<h2>As it was run</h2><p>{where}</p><div class="card wide facts">{"".join(parts)}</div>'


def _setting(run: Run, name: str) -> str:
    value = run.outcome.settings.get(name)
    return "–" if value is None else html.escape(str(value))


def _bound(text: str) -> str:
    return text.replace(" ", "&nbsp;")
