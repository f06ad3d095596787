import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.evaluation.demo_results import NO_LOG, demo_result, run_log
from tests.evaluation.html_checks import check_page, elements, parsed

from ams_eval.report.chart import (
    NARROW,
    WIDE,
    Chart,
    Dot,
    LogSpan,
    Span,
    log_span,
    log_ticks,
    mean_rates,
    nice_ticks,
    span_above_zero,
    thinned,
)
from ams_eval.report.charts import age_chart, miou_chart, rates_chart, sampling_chart
from ams_eval.report.page import headline, render_report, write_report
from ams_eval.report.pictures import moment_pictures
from ams_eval.report.way import way_chart
from ams_eval.result import DemoResult, count_numbers
from ams_eval.run_log import RunLog


def report(result: DemoResult) -> str:
    return render_report(result, count_numbers(result))


@pytest.mark.parametrize(
    "result",
    [demo_result(), demo_result(exact=False, phases=False), demo_result(log=NO_LOG)],
    ids=["street", "own video", "nothing happened"],
)
def test_the_page_is_well_formed_and_needs_nothing_else(result: DemoResult) -> None:
    document = report(result)
    check_page(document)


def test_text_from_outside_is_escaped() -> None:
    document = report(demo_result())
    assert "<drawn>" not in document
    text = parsed(document).text
    assert "a <drawn> street" in text
    assert "rain & fog" in text
    assert "a & b.mp4" in text


def test_the_page_says_the_main_numbers() -> None:
    text = parsed(report(demo_result())).text
    # 3/4 of two classes are right: IoU 6/10 each.
    assert "Adaptation lifts the model from 60.0\u00a0% to 100.0\u00a0% mIoU" in text
    assert "+40.0" in text
    assert "100 kbit/s" in text


def test_a_loss_is_not_told_as_a_gain() -> None:
    numbers = replace(count_numbers(demo_result()), teacher_adapted=0.5)
    assert headline(numbers).startswith("Adaptation did not help here: 60.0&nbsp;% mIoU without it")


def test_exact_labels_show_up_only_where_there_are_any() -> None:
    assert "exact labels" in report(demo_result())
    assert "exact labels" not in report(demo_result(exact=False))


def test_every_moment_has_four_pictures() -> None:
    result = demo_result()
    images = moment_pictures(result.judgement.moments[0], result.classes)
    assert list(images) == ["camera", "teacher", "without", "adapted"]
    assert images["teacher"] != images["without"]
    assert images["teacher"] == images["adapted"]
    document = report(result)
    assert document.count('class="moment"') == 2
    assert document.count("<img") == 2 * 4 + 2  # and the two that can be compared


def test_the_report_is_written_as_utf_8(tmp_path: Path) -> None:
    result = demo_result()
    write_report(result, count_numbers(result), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes().decode("utf-8") == report(result)


def test_miou_over_time_marks_updates_and_scenes() -> None:
    result = demo_result()
    svg = miou_chart(result, result.judgement.teacher, "the teacher")
    assert [text.text for text in elements(svg, "text", "phase")] == ["day", "rain & fog"]
    assert len(elements(svg, "path", "adapted")) == len(elements(svg, "path", "without")) == 1
    assert elements(svg, "path", "tick")[0].get("d", "").count("M") == 2


def test_rates_show_the_budgets_that_there_are() -> None:
    result = demo_result()
    assert len(elements(rates_chart(result), "path", "level")) == 2
    free = replace(result, budgets=result.budgets._replace(uplink_kbps=0.0))
    assert [each.text for each in elements(rates_chart(free), "text", "note")] == ["downlink budget 300"]


@pytest.mark.parametrize("log", [run_log(), NO_LOG], ids=["a run", "nothing"])
def test_all_charts_are_drawings(log: RunLog) -> None:
    result = replace(demo_result(), log=log)
    for svg in (sampling_chart(result), age_chart(result), way_chart(result.log.swaps), rates_chart(result)):
        assert int(ElementTree.fromstring(svg).get("viewBox", "").split()[2]) in (WIDE, NARROW)
        assert "nan" not in svg


@pytest.mark.parametrize(
    ("span", "about", "ticks"),
    [
        (Span(0, 100), 5, [0, 20, 40, 60, 80, 100]),
        (Span(0, 1), 4, [0, 0.5, 1]),
        (Span(0.4, 20.6), 7, [5, 10, 15, 20]),
        (Span(0, 224), 4, [0, 100, 200]),
    ],
)
def test_ticks_are_round_numbers(span: Span, about: int, ticks: list[float]) -> None:
    assert nice_ticks(span, about) == pytest.approx(ticks)


def test_an_axis_reaches_above_everything_known() -> None:
    assert span_above_zero([1.0, float("nan")], [5.0]).high == pytest.approx(5.6)
    assert span_above_zero([]) == Span(0, 1)


def test_mean_rates_are_those_of_the_totals() -> None:
    times = [float(index) for index in range(8)]
    rates = mean_rates(times, [3.0 * each for each in times], 2.0)
    assert rates[1:] == pytest.approx([3.0] * 7)
    assert rates[0] != rates[0]
    assert mean_rates([], [], 2.0) == []


def test_what_comes_once_a_period_makes_no_ripple() -> None:
    times = [float(index) for index in range(40)]
    rates = mean_rates(times, [10.0 * (index // 5) for index in range(40)], 5.0)
    assert rates[15:] == pytest.approx([2.0] * 25)


def test_a_gap_interrupts_a_line() -> None:
    chart = Chart(title="gap", x=Span(0, 3), y=Span(0, 1))
    chart.line([0, 1, 2, 3], [0.0, float("nan"), 1.0, 1.0], "up")
    (path,) = elements(chart.svg(), "path", "up")
    assert re.sub(r"[\d. ]+", "", path.get("d", "")) == "MML"


def test_what_lies_outside_of_an_axis_is_drawn_at_its_border() -> None:
    chart = Chart(title="high", x=Span(0, 1), y=Span(0, 1), height=100)
    chart.bar(0.5, 0.2, 0.0, 9.0, "fill-train", "a <hint>")
    (bar,) = elements(chart.svg(), "rect", "bar")
    assert float(bar.get("y", "")) + float(bar.get("height", "")) <= 100
    assert bar[0].text == "a <hint>"


def test_a_logarithmic_axis_keeps_ratios() -> None:
    span = LogSpan(10, 1000)
    assert [span.share(value) for value in (0, 10, 100, 1000)] == pytest.approx([0, 0, 0.5, 1])
    assert log_ticks(span, 8) == [10, 20, 50, 100, 200, 500, 1000]
    assert log_ticks(span, 4) == [10, 100, 1000]
    assert log_span([0.0, 60.0, 700.0], least=0.1) == LogSpan(50, 1000)
    assert log_span([], least=1.0) == LogSpan(0.5, 20)


def test_names_of_points_do_not_cover_each_other() -> None:
    chart = Chart(title="points", x=Span(0, 10), y=Span(0, 1))
    chart.dots([Dot(1, 0.5, "one", "s1"), Dot(1, 0.51, "two", "s2"), Dot(9, 0.1, "right", "s3")])
    names = {each.text: each for each in elements(chart.svg(), "text", "name")}
    assert abs(float(names["one"].get("y", "")) - float(names["two"].get("y", ""))) >= 15
    assert names["right"].get("text-anchor") == "end"
    assert len(elements(chart.svg(), "circle", "dot")) == 3


def test_a_name_moves_only_for_what_it_would_cover() -> None:
    chart = Chart(title="points", x=Span(0, 10), y=Span(0, 1))
    chart.dots([Dot(1, 0.5, "far", "s1"), Dot(5, 0.5, "away", "s2"), Dot(1.2, 0.45, "near", "s3")])
    names = {each.text: float(each.get("y", "")) for each in elements(chart.svg(), "text", "name")}
    points = [float(each.get("cy", "")) for each in elements(chart.svg(), "circle", "dot")]
    assert names["away"] == pytest.approx(points[0] + 4)
    assert names["near"] > points[2] + 4
    assert names["far"] > points[0] + 4


def test_texts_below_an_axis_do_not_cover_each_other() -> None:
    chart = Chart(title="rates", x=LogSpan(10, 50_000), y=Span(0, 1), x_unit="kbit/s")
    texts = [each.text or "" for each in elements(chart.svg(), "text") if float(each.get("y", "")) > 200]
    assert texts[-2:] == ["10000", "50000 kbit/s"]
    assert texts[0] == "10"


def test_the_unit_of_the_last_tick_is_not_cut_off() -> None:
    chart = Chart(title="unit", x=Span(0, 500), y=Span(0, 1), x_unit="kbit/s")
    (last,) = (each for each in elements(chart.svg(), "text") if each.text == "500 kbit/s")
    assert float(last.get("x", "")) <= WIDE - 35


def test_rows_of_strokes_stand_below_the_plot() -> None:
    chart = Chart(title="rows", x=Span(0, 10), y=Span(0, 1), height=200, tick_rows=2)
    chart.line([0, 10], [0.0, 0.0], "up")
    chart.ticks([1.0], "s1", 0)
    chart.ticks([2.0], "s2", 1)
    (line,) = elements(chart.svg(), "path", "up")
    first, second = elements(chart.svg(), "path", "tick")
    heights = [float(re.split("[ A-Za-z]", each.get("d", ""))[2]) for each in (line, first, second)]
    assert heights == sorted(set(heights))
    assert heights[-1] < 200 - 12 - 12


def test_more_points_than_pixels_are_not_drawn() -> None:
    assert len(range(5000)[thinned(5000)]) <= WIDE
    assert range(300)[thinned(300)] == range(300)
