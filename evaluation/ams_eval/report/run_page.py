"""The report of one run: one HTML file with everything in it."""

import html
import math

import numpy as np

from ams_eval import metrics
from ams_eval.groups import TOO_SHORT
from ams_eval.metrics import EFFORT_WINDOW_S
from ams_eval.outcome import Moments, Outcome
from ams_eval.report.filmstrip import choose_moments, filmstrip, moment_mious
from ams_eval.report.parts import card, document, legend, table, tiles
from ams_eval.report.run_charts import (
    RATE_WINDOW_S,
    age_chart,
    effort_chart,
    run_miou_chart,
    run_rates_chart,
    sampling_chart,
    update_chart,
)
from ams_eval.report.way import parts_seen, way_chart, way_legend, way_table
from ams_eval.result import number, percent, points
from ams_eval.result_folder import NO_CUSTOMISATION, Run
from ams_eval.scores import WINDOW_S
from ams_eval.summary import Summary


def render_run(run: Run, summary: Summary, base: Run | None, moments: Moments | None) -> str:
    """Return the report of one run as an HTML document without any reference to the outside.

    Args:
        run: what is reported.
        summary: its numbers.
        base: the run without customisation on the same frames, if there is one.
        moments: what may be shown of the recording, if anything was kept.
    """
    other = base.outcome if base and run.outcome.scheme != NO_CUSTOMISATION else None
    sections = (
        _header(run, summary),
        _tiles(run.outcome, summary),
        _over_time(run.outcome, other),
        _pictures(run, base if other else None, moments),
        _per_class(run.outcome, other),
        _network(run.outcome, summary),
        _steering(run.outcome),
        _updates(run.outcome, summary),
        _settings(run),
    )
    return document(f"{run.label} on {run.outcome.recording}", sections)


def _header(run: Run, summary: Summary) -> str:
    return (
        f'<header><p class="over">Adaptive Model Streaming</p><h1>{html.escape(run.label)} on '
        f"{html.escape(run.outcome.recording)}: <b>{percent(summary.miou_window).replace(' ', '&nbsp;')}</b> mIoU</h1>"
        f'<p class="lead">{number(summary.duration_s, 0)} s, {summary.frames} frames scored against the teacher\'s labels '
        f"of the original pictures{_human_frames(summary)}. Unless another aggregate is named, mIoU is the mean over "
        f"the frames "
        f"of the mIoU within the {WINDOW_S:g} s around them. Seed {run.outcome.seed}.</p></header>"
    )


def _human_frames(summary: Summary) -> str:
    return f" and {summary.human_frames} against human labels" if summary.human_frames else ""


def _tiles(outcome: Outcome, summary: Summary) -> str:
    entries = [("against the teacher", percent(summary.miou_window), "mIoU")]
    if outcome.human is not None:
        entries.append(("against human labels", percent(summary.human_miou_window), "mIoU"))
    if not math.isnan(summary.gain) and outcome.scheme != NO_CUSTOMISATION:
        entries.append(("over no customisation", points(summary.gain), "points of mIoU"))
    entries += [
        ("uplink", number(summary.up_kbps, 1), "kbit/s of payload"),
        ("downlink", number(summary.down_kbps, 1), "kbit/s of payload"),
        ("labelled", str(summary.frames_labelled), "frames by the teacher"),
    ]
    return tiles(entries)


def _over_time(outcome: Outcome, base: Outcome | None) -> str:
    entries = [("adapted", "against the teacher")]
    if outcome.human is not None:
        entries.append(("human", "against human labels"))
    if base is not None:
        entries.append(("without", "no customisation, against the teacher"))
    strokes = " Strokes below are updates taking effect." if outcome.updates else ""
    return (
        f"<h2>Over time</h2><p>mIoU in a window of {WINDOW_S:g} s around each moment.{strokes}</p>"
        f"{card('mIoU', legend(entries), run_miou_chart(outcome, base))}{_aggregates(outcome)}"
    )


def _aggregates(outcome: Outcome) -> str:
    scores = (("teacher", outcome.teacher), ("human labels", outcome.human))
    found = [(name, metrics.quality(score)) for name, score in scores if score is not None]
    heads = ["mIoU against", f"mean of {WINDOW_S:g} s windows", "of the summed confusion", "mean over frames", "frames"]
    rows = [[name, percent(q.window_mean), percent(q.summed), percent(q.frame_mean), str(q.frames)] for name, q in found]
    return f'<div class="card wide">{table(heads, rows)}</div>'


def _pictures(run: Run, base: Run | None, moments: Moments | None) -> str:
    if moments is None or not len(moments.frames):
        return ""
    outcomes = {each.label: each.outcome for each in (base, run) if each is not None}
    mious = np.array([moment_mious(outcome, moments) for outcome in outcomes.values()])
    told = "differs most from no customisation" if base else "is furthest from the teacher"
    return (
        f"<h2>What it shows</h2><p>From each part of the recording the kept frame in which the scheme {told}; "
        "the numbers are mIoU against the teacher in that picture alone.</p>"
        f"{filmstrip(outcomes, moments, choose_moments(mious))}"
    )


def _per_class(outcome: Outcome, base: Outcome | None) -> str:
    columns = [("", outcome.teacher.class_iou())]
    if outcome.human is not None:
        columns.append(("against human labels", outcome.human.class_iou()))
    if base is not None:
        columns.append(("no customisation", base.teacher.class_iou()))
    heads = ["class", "against the teacher", *(name for name, _ in columns[1:])]
    rows = [
        [html.escape(name), *(percent(float(values[index])) for _, values in columns)]
        for index, name in enumerate(outcome.classes)
    ]
    lead = "<h2>Class by class</h2><p>Intersection over union over the whole recording.</p>"
    return f'{lead}<div class="card wide">{table(heads, rows)}</div>'


def _network(outcome: Outcome, summary: Summary) -> str:
    sizes, duration_s = metrics.traffic(outcome), metrics.duration_s(outcome)
    if not sizes:
        return "<h2>On the wire</h2><p>Nothing is sent.</p>"
    rows = [
        [
            f"{direction}: {'first model' if kind == 'model' else kind}",
            f"{size.payload_bytes / 1e3:,.1f}",
            f"{size.wire_bytes / 1e3:,.1f}",
            number(metrics.kbps(size.payload_bytes, duration_s), 2),
            number(metrics.kbps(size.wire_bytes, duration_s), 2),
            number(metrics.paper_kbps(size.payload_bytes, duration_s), 2),
        ]
        for (direction, kind), size in sorted(sizes.items())
    ]
    heads = ["", "payload kB", "on the wire kB", "kbit/s", "on the wire kbit/s", "Kbit/s of 1024 bit"]
    key = legend((("up", "uplink"), ("down", "downlink")))
    return (
        "<h2>On the wire</h2><p>Payload is video, coded weights and labels alone; the wire adds the framing of protobuf, "
        f"HTTP/2 and TCP/IP. Rates are means over the {number(summary.duration_s, 0)} s of the recording; the plot shows means "
        f"over the last {RATE_WINDOW_S} s and leaves the first model out.</p>"
        f'{card("Rates of payload", key, run_rates_chart(outcome))}<div class="card wide">{table(heads, rows)}</div>'
    )


def _steering(outcome: Outcome) -> str:
    charts = []
    if outcome.controls:
        charts.append(card("Frames per second sent to the server", "", sampling_chart(outcome)))
    if outcome.updates:
        ages = legend((("age", "age"), ("interval", "update interval")) if outcome.controls else (("age", "age"),))
        charts += [
            card("Model age", ages, age_chart(outcome)),
            card("Training loss", "", update_chart(outcome, "training loss of each update", "", lambda each: each.loss, "up")),
            card(
                "Share of the mask that the update before had too",
                "",
                update_chart(outcome, "mask overlap of each update", "%", lambda each: 100 * each.mask_overlap, "down"),
            ),
            card(f"Effort: change of the weights by {EFFORT_WINDOW_S:.0f} s", "", effort_chart(outcome)),
        ]
    if not charts:
        return ""
    return (
        "<h2>How it adapted</h2><p>Model age is the time since the newest frame that the running model has learnt from. Effort "
        f'is large where the scene changes.</p><div class="pair">{"".join(charts)}</div>'
    )


def _updates(outcome: Outcome, summary: Summary) -> str:
    if not outcome.updates:
        return f"<h2>Updates</h2><p>No update took effect: {TOO_SHORT}.</p>" if outcome.controls else ""
    changed = [each.changed for each in outcome.updates]
    sizes_kb = [each.payload_bytes / 1e3 for each in outcome.updates]
    lead = (
        f"{len(changed)} updates. From the capture of the newest frame to the switch to the model that has learnt from it: "
        f"{number(summary.latency_mean_s, 1)} s on average, {number(summary.latency_p95_s, 1)} s at the 95th percentile. An "
        f"update changed {np.median(changed):,.0f} parameters in {np.median(sizes_kb):,.1f} kB (median)."
    )
    if not parts_seen(outcome.updates):
        return f"<h2>Updates</h2><p>{lead} This run does not model how long anything takes.</p>"
    chart = card("Latency of each update, by version", way_legend(outcome.updates), way_chart(outcome.updates))
    return f'<h2>Updates</h2><p>{lead}</p>{chart}<div class="card wide">{way_table(outcome.updates)}</div>'


def _settings(run: Run) -> str:
    rows = [
        [html.escape(name), html.escape("–" if value is None else str(value))] for name, value in run.outcome.settings.items()
    ]
    return (
        f"<h2>As it was run</h2><p>Recording {html.escape(run.outcome.recording)}, "
        f"{html.escape(run.outcome.recording_digest)}; seed {run.outcome.seed}.</p><div "
        f'class="card wide facts"><details><summary>all settings</summary>'
        f"{table(['setting', 'value'], sorted(rows))}</details></div>"
    )
