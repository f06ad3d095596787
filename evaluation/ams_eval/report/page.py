"""The page: one HTML file with everything in it, for a browser without a network."""

import html
from pathlib import Path

import numpy as np

from ams_eval.judging import Moment
from ams_eval.report.charts import age_chart, miou_chart, rates_chart, sampling_chart
from ams_eval.report.parts import card, document, legend, table, tiles
from ams_eval.report.pictures import moment_pictures
from ams_eval.report.way import way_chart, way_legend, way_table
from ams_eval.result import DemoResult, Numbers, facts, number, percent, points
from ams_eval.scores import WINDOW_S, Comparison

_MODELS_KEY = (("adapted", "with adaptation"), ("without", "without"))


def write_report(result: DemoResult, numbers: Numbers, path: Path) -> None:
    """Write the report of a demo.

    Raises:
        OSError: it cannot be written.
    """
    path.write_text(render_report(result, numbers), encoding="utf-8")


def render_report(result: DemoResult, numbers: Numbers) -> str:
    """Return the report of a demo as an HTML document without any reference to the outside."""
    pictures = [(moment, moment_pictures(moment, result.classes)) for moment in result.judgement.moments]
    sections = (
        _header(result, numbers),
        _slide(pictures),
        _tiles(result, numbers),
        _over_time(result),
        _filmstrip(result, pictures),
        _per_class(result),
        _network(result),
        _updates(result, numbers),
        _table(result, numbers),
        _settings(result),
    )
    return document(f"Adaptive Model Streaming on {result.title}", sections)


def headline(numbers: Numbers) -> str:
    """Return what came out, in one sentence of HTML, whether adaptation helped or not."""
    without, adapted = (percent(each).replace(" ", "&nbsp;") for each in (numbers.teacher_without, numbers.teacher_adapted))
    gain = numbers.teacher_adapted - numbers.teacher_without
    if gain > 0:
        return f"Adaptation lifts the model from {without} to <b>{adapted}</b> mIoU"
    return f"Adaptation did not help here: {without} mIoU without it, <b>{adapted}</b> with it"


def _header(result: DemoResult, numbers: Numbers) -> str:
    scenes = f", through {', '.join(phase.name for phase in result.phases)}" if result.phases else ""
    return (
        f'<header><p class="over">Adaptive Model Streaming</p><h1>{headline(numbers)}</h1>'
        f'<p class="lead">{numbers.recording_s:.0f} s of {html.escape(result.title)}{html.escape(scenes)}. '
        "The edge ran the small model on every frame it could; the server saw a few of them through the uplink and "
        f"sent {numbers.updates} small updates back. Scores are against the teacher's labels on {numbers.scored_frames} frames "
        "spread evenly over the whole recording, those before the first update included.</p></header>"
    )


def _slide(pictures: list[tuple[Moment, dict[str, str]]]) -> str:
    if not pictures:
        return ""
    moment, images = max(pictures, key=lambda each: each[0].difference)
    return (
        f'<div class="slide"><img src="{images["without"]}" alt="labels without adaptation">'
        f'<img class="over" src="{images["adapted"]}" alt="labels with adaptation"><hr><em>without</em>'
        '<em class="right">with adaptation</em><input type="range" min="0" max="100" value="50" step="0.1" '
        "aria-label=\"compare\" oninput=\"this.parentNode.style.setProperty('--at', this.value + '%')\"></div>"
        f'<p class="caption">{moment.time_s:.1f} s, the moment of the largest difference: {percent(moment.without_miou)} '
        f"without, {percent(moment.adapted_miou)} with adaptation (mIoU against the teacher in this picture). "
        "Drag to compare.</p>"
    )


def _tiles(result: DemoResult, numbers: Numbers) -> str:
    up, down = result.budgets
    entries = [
        ("gain against the teacher", points(numbers.teacher_adapted - numbers.teacher_without), "points of mIoU"),
        ("uplink", number(numbers.uplink_kbps, 0), f"kbit/s of {up:g}" if up else "kbit/s"),
        ("downlink", number(numbers.downlink_kbps, 0), f"kbit/s of {down:g}" if down else "kbit/s"),
        ("edge", f"{numbers.edge_fps:.1f}", f"of {numbers.source_fps:.1f} frames/s"),
        ("model age", number(numbers.model_age_mean_s, 1), "s on average" if numbers.updates else "no update took effect"),
    ]
    if result.judgement.exact is not None:
        gain = points(numbers.exact_adapted - numbers.exact_without)
        entries.insert(1, ("gain against exact labels", gain, "points of mIoU"))
    return tiles(entries)


def _over_time(result: DemoResult) -> str:
    judgement = result.judgement
    charts = card("Against the teacher", legend(_MODELS_KEY), miou_chart(result, judgement.teacher, "the teacher"))
    if judgement.exact is not None:
        charts += card("Against the exact labels", legend(_MODELS_KEY), miou_chart(result, judgement.exact, "the exact labels"))
    return (
        f"<h2>Over time</h2><p>mIoU in a window of {WINDOW_S:g} s around each moment. Strokes at the bottom are updates taking "
        f"effect.</p>{charts}"
    )


def _filmstrip(result: DemoResult, pictures: list[tuple[Moment, dict[str, str]]]) -> str:
    colours = "".join(
        f'<li><i class="box" style="background:rgb{each.colour}"></i>{html.escape(each.name)}</li>'
        for each in result.classes.classes
    )
    figures = "".join(_figure(result, moment, images) for moment, images in pictures)
    return (
        "<h2>What the edge saw</h2><p>From each part of the recording, the scored frame in which the model with and the model "
        f'without adaptation differ most, whichever is better.</p><ul class="key">{colours}</ul>{figures}'
    )


def _figure(result: DemoResult, moment: Moment, images: dict[str, str]) -> str:
    phase = next((each.name for each in result.phases if each.start_s <= moment.time_s < each.end_s), "")
    names = (("camera", "camera"), ("teacher", "teacher"), ("without", "without"), ("adapted", "with adaptation"))
    strip = "".join(f'<div><img src="{images[key]}" alt="{name}" loading="lazy"><em>{name}</em></div>' for key, name in names)
    place = f"{moment.time_s:.1f} s" + (f", {html.escape(phase)}" if phase else "")
    scores = f"{percent(moment.without_miou)} → <b>{percent(moment.adapted_miou)}</b> mIoU, model version {moment.version}"
    return (
        f'<figure class="moment"><figcaption>{place}<span>{scores}</span></figcaption><div class="strip">{strip}</div></figure>'
    )


def _per_class(result: DemoResult) -> str:
    comparison = result.judgement.teacher
    without, adapted = comparison.without.class_iou(), comparison.adapted.class_iou()
    rows = "".join(
        _class_row(each.name, each.colour, float(before), float(after))
        for each, before, after in zip(result.classes.classes, without, adapted, strict=True)
        if not np.isnan(before + after)
    )
    return (
        "<h2>Class by class</h2><p>Intersection over union with the teacher over the whole recording.</p>"
        f'<div class="card">{legend(_MODELS_KEY)}<div class="classes">{rows}</div></div>{_phase_table(result)}'
    )


def _class_row(name: str, colour: tuple[int, int, int], without: float, adapted: float) -> str:
    bars = f'<i class="fill-adapted" style="width:{100 * adapted:.1f}%"></i>'
    bars += f'<i class="fill-without" style="width:{100 * without:.1f}%"></i>'
    return (
        f'<span><i class="swatch" style="background:rgb{colour}"></i>{html.escape(name)}</span>'
        f'<span class="bars">{bars}</span><span class="figure">{percent(adapted)}<br>{percent(without)}</span>'
    )


def _phase_table(result: DemoResult) -> str:
    if not result.phases:
        return ""
    rows = []
    for phase in result.phases:
        row = [html.escape(phase.name), *_phase_scores(result.judgement.teacher, phase.start_s, phase.end_s)]
        if result.judgement.exact is not None:
            row += _phase_scores(result.judgement.exact, phase.start_s, phase.end_s)
        rows.append(row)
    heads = ["mIoU by scene", "teacher: without", "with", "gain"]
    if result.judgement.exact is not None:
        heads += ["exact: without", "with", "gain"]
    return f'<div class="card wide">{table(heads, rows)}</div>'


def _phase_scores(comparison: Comparison, start_s: float, end_s: float) -> list[str]:
    without, adapted = (each.between(start_s, end_s).miou() for each in (comparison.without, comparison.adapted))
    return [percent(without), percent(adapted), points(adapted - without)]


def _network(result: DemoResult) -> str:
    rates = legend((("up", "uplink: sampled frames as H.264"), ("down", "downlink: updates of the weights")))
    ages = legend((("adapted", "age"), ("without", "interval")))
    return (
        "<h2>On the wire</h2><p>Means over the last two update intervals, counted by the edge while the video played. "
        "The first model came before it.</p>"
        f"{card('Rates beside the budgets', rates, rates_chart(result))}"
        f'<div class="pair">{card("Frames per second sent to the server", "", sampling_chart(result))}'
        f"{card('Model age and update interval', ages, age_chart(result))}</div>"
    )


def _updates(result: DemoResult, numbers: Numbers) -> str:
    if not result.log.swaps:
        return "<h2>Updates</h2><p>There were none.</p>"
    sizes_kb = [swap.payload_bytes / 1e3 for swap in result.log.swaps]
    changed = [swap.changed for swap in result.log.swaps]
    return (
        f"<h2>Updates</h2><p>From the capture of the newest frame to the switch to the model that has learnt from it: "
        f"{number(numbers.update_latency_median_s, 1)} s in the median, {number(numbers.update_latency_max_s, 1)} s at most. "
        f"An update changed {np.median(changed):,.0f} parameters in {np.median(sizes_kb):.1f} kB (median).</p>"
        f"{card('Latency of each update, by version', way_legend(result.log.swaps), way_chart(result.log.swaps))}"
        f'<div class="card wide">{way_table(result.log.swaps)}</div>'
    )


def _table(result: DemoResult, numbers: Numbers) -> str:
    scores = [_score_row("mIoU against the teacher", numbers.teacher_without, numbers.teacher_adapted)]
    means = numbers.teacher_without_frame_mean, numbers.teacher_adapted_frame_mean
    scores.append(_score_row("– mean over frames", *means))
    if result.judgement.exact is not None:
        scores.append(_score_row("mIoU against the exact labels", numbers.exact_without, numbers.exact_adapted))
        scores.append(["– the teacher itself", "", percent(numbers.exact_teacher), ""])
    agreement = table(["", "without", "with", "gain"], scores)
    rest = table(["", "measured", ""], [list(each) for each in facts(result.budgets, numbers)])
    cards = f'<div class="card">{agreement}</div><div class="card facts">{rest}</div>'
    return f'<h2>In numbers</h2><p></p><div class="pair">{cards}</div>'


def _score_row(name: str, without: float, adapted: float) -> list[str]:
    return [name, percent(without), percent(adapted), points(adapted - without)]


def _settings(result: DemoResult) -> str:
    commands = "".join(f"<code>{html.escape(command)}</code>" for command in result.commands)
    versions = ", ".join(f"{html.escape(name)} {html.escape(number)}" for name, number in result.versions.items())
    return f"<h2>As it was run</h2><p>Two processes on this machine, over loopback.</p>{commands}<footer>{versions}</footer>"
