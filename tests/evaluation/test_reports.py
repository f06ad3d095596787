import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.html_checks import check_page, elements, parsed
from tests.evaluation.outcomes import CLASSES, HEIGHT, WIDTH, moments, outcome

from ams_common.classes import CITYSCAPES19
from ams_common.errors import ConfigurationError
from ams_eval.groups import by_scheme
from ams_eval.outcome import Outcome
from ams_eval.outcome_files import OUTCOME_NAME, write_moments, write_outcome
from ams_eval.report.comparison_charts import STYLES, Side, bandwidth_chart, gain_chart, miou_chart, rates_chart, styles
from ams_eval.report.comparison_page import headline, render_comparison
from ams_eval.report.filmstrip import choose_moments, class_set_of, filmstrip, moment_mious
from ams_eval.report.parts import CHART_CSS
from ams_eval.report.run_charts import miou_span, rolling_kbps, run_rates_chart
from ams_eval.report.run_page import render_run
from ams_eval.report.way import way_chart
from ams_eval.reports import write_reports
from ams_eval.result_folder import Run
from ams_eval.summary import summarise


def runs_of(*outcomes: Outcome) -> list[Run]:
    return [Run(folder=Path(), outcome=each, label=each.scheme) for each in outcomes]


SEVERAL = runs_of(
    outcome("none"),
    outcome("ams", settings={"uplink_kbps": 30.0, "downlink_kbps": 10}),
    outcome("ams", seed=1, share=0.8),
    outcome("<b>&co", share=0.7),
)


def comparison(runs: list[Run]) -> str:
    return render_comparison(runs, summarise(runs), {"quay": moments()})


def run_page(run: Run, base: Run | None) -> str:
    return render_run(run, summarise([run] + ([base] if base else []))[0], base, moments())


# --- whole pages


@pytest.mark.parametrize(
    "runs",
    [
        SEVERAL,
        SEVERAL[:1],
        SEVERAL[1:2],
        runs_of(outcome("none", human=False), outcome("ams", human=False)),
        runs_of(outcome("none"), outcome("none", recording="bay", frames=1), outcome("ams", recording="bay", frames=1)),
    ],
    ids=["several", "none alone", "no base", "no people", "one frame"],
)
def test_a_comparison_is_well_formed_and_needs_nothing_else(runs: list[Run]) -> None:
    check_page(comparison(runs))


@pytest.mark.parametrize("scheme", ["none", "ams"])
@pytest.mark.parametrize("human", [True, False])
def test_the_page_of_a_run_is_well_formed_and_needs_nothing_else(scheme: str, human: bool) -> None:
    (run,) = runs_of(outcome(scheme, human=human))
    for base in (None, SEVERAL[0]):
        text = check_page(run_page(run, base)).text
        assert ("against human labels" in text) == human
    bare = replace(run.outcome, transfers=(), updates=(), controls=(), frames_labelled=0)
    without = render_run(replace(run, outcome=bare), summarise(runs_of(bare))[0], None, None)
    assert "Nothing is sent" in check_page(without, pictures=False).text


def test_names_from_outside_are_escaped() -> None:
    document = comparison(SEVERAL)
    assert "<b>&co" not in document
    assert "<b>&co" in parsed(document).text


def test_the_comparison_names_every_scheme_and_the_best_numbers() -> None:
    document = comparison(SEVERAL)
    text = parsed(document).text
    ams = next(group for group in by_scheme(summarise(SEVERAL)) if group.scheme == "ams")
    assert f"ams comes closest to the teacher: {100 * ams.mean('miou_window'):.1f}\u00a0% mIoU" in text
    assert f"{100 * ams.mean('miou_window'):.1f} ±{100 * ams.deviation('miou_window'):.1f}" in text
    assert "Outdoor Scenes" in text
    assert "better in" in text


def test_a_loss_is_not_told_as_a_gain() -> None:
    worse = by_scheme(summarise(runs_of(outcome("none"), outcome("ams", share=0.4))))
    assert headline(worse).startswith("Nothing beats no customisation here")
    assert headline(worse[:1]) == "No scheme to compare yet"
    assert "without" not in headline(worse[1:])


def test_runs_with_different_references_are_warned_of() -> None:
    other = outcome("ams", settings={"teacher_identity": "another"})
    assert "differ in teacher_identity" in parsed(comparison(runs_of(outcome("none"), other))).text
    assert "do not all have the same reference" not in comparison(SEVERAL)


def test_a_scheme_that_lacks_a_recording_is_warned_of_and_never_the_best() -> None:
    runs = runs_of(*(outcome(scheme, recording=each) for scheme in ("none", "ams") for each in ("quay", "bay")))
    runs += runs_of(outcome("oracle", share=1.0))
    text = parsed(comparison(runs)).text
    assert "Of 2 recordings, oracle on 1: means over different recordings cannot be compared." in text
    assert "ams comes closest to the teacher" in text
    assert "cannot be compared" not in comparison(runs[:-1])


def test_the_time_after_the_start_shows_only_where_there_is_any() -> None:
    long = runs_of(outcome("none", frames=700), outcome("ams", frames=700))
    assert "from 250 s" in comparison(long)
    assert "from 250 s" not in comparison(SEVERAL)


def test_a_run_without_modelled_latency_says_so() -> None:
    quick = [replace(each, encode_s=0, label_s=0, train_s=0, download_s=0) for each in outcome().updates]
    (run,) = runs_of(replace(outcome(), updates=tuple(quick)))
    assert "does not model how long" in run_page(run, None)
    assert "does not model how long" not in run_page(SEVERAL[1], None)


def test_pages_say_where_nothing_was_learnt() -> None:
    untaught = runs_of(replace(outcome("ams"), updates=()))
    for page in (comparison(untaught), run_page(untaught[0], None)):
        assert "No update took effect" in page
    learnt, without = runs_of(outcome("ams"), outcome("none"))
    for page in (comparison([learnt, without]), run_page(learnt, None), run_page(without, None)):
        assert "No update took effect" not in page


# --- plots


def sides() -> list[Side]:
    return [
        Side(name="none", style="s0", outcomes=(SEVERAL[0].outcome,)),
        Side(name="ams", style="s1", outcomes=(SEVERAL[1].outcome, SEVERAL[2].outcome)),
    ]


def test_schemes_keep_their_colours() -> None:
    assert styles(["none", "a", "b"]) == {"none": "s0", "a": "s1", "b": "s2"}
    many = set(styles([str(each) for each in range(30)]).values())
    assert many == {f"s{each}" for each in range(STYLES)}
    css = CHART_CSS.read_text(encoding="utf-8")
    assert all(css.count(f"--{style}: #") == 2 and f".fill-{style} {{" in css for style in many), (
        "in the light and the dark dress"
    )


def test_miou_over_time_has_a_line_a_range_and_a_row_of_updates() -> None:
    svg = miou_chart(sides(), human=False)
    assert len(elements(svg, "path", "scheme")) == 2 + 1
    assert len(elements(svg, "polygon", "range")) == 1
    (strokes,) = elements(svg, "path", "tick")
    assert strokes.get("d", "").count("M") == 3


def test_rates_stand_beside_the_budget() -> None:
    assert [each.text for each in elements(rates_chart(sides()[1:], "up"), "text", "note")] == ["budget 30"]
    assert [each.text for each in elements(run_rates_chart(SEVERAL[1].outcome), "text", "note")] == [
        "uplink budget 30",
        "downlink budget 10",
    ]


def test_rates_are_means_over_the_last_seconds() -> None:
    down = rolling_kbps(outcome(), "down")  # 32 kbit leave at 4.9, 9.9 and 14.9 s
    assert down[:4].tolist() == [0.0] * 4
    assert down[[4, 8, 9, 13, 14]].tolist() == pytest.approx([32 / 5, 32 / 9, 6.4, 6.4, 6.4])
    assert down[-1] == pytest.approx(3.2)


def test_who_receives_nothing_is_a_line_across() -> None:
    svg = bandwidth_chart(by_scheme(summarise(SEVERAL)), styles(["none", "ams", "<b>&co"]), human=False)
    assert [each.text for each in elements(svg, "text", "note")] == ["none, receives nothing"]
    assert {each.text for each in elements(svg, "text", "name")} == {"ams", "<b>&co"}
    assert len(elements(svg, "circle", "speck")) == 2


def test_the_gain_of_no_frame_is_an_empty_plot() -> None:
    assert elements(gain_chart({"ams": np.array([np.nan])}, {"ams": "s1"}), "path", "scheme")[0].get("d") == ""


def test_an_axis_of_per_cent_is_in_tens() -> None:
    assert miou_span([np.array([0.42, np.nan, 0.78])]) == (40, 80)
    assert miou_span([np.array([0.0, 1.0])]) == (0, 100)
    assert miou_span([]) == (0, 100)


def test_the_parts_of_a_latency_are_stacked() -> None:
    svg = way_chart(outcome().updates)
    assert [len(elements(svg, "rect", f"fill-{part}")) for part in ("encode", "train", "wait")] == [3, 3, 0]


# --- pictures


def test_colours_are_those_of_the_class_set() -> None:
    named = class_set_of(outcome(settings={"class_set": "cityscapes19"}))
    colours = {each.name: each.colour for each in CITYSCAPES19.classes}
    assert [(each.name, each.colour) for each in named.classes] == [(name, colours[name]) for name in CLASSES]
    own = class_set_of(replace(outcome(), classes=("water", "boat", "quay")))
    assert len({each.colour for each in own.classes}) == 3


def test_moments_are_scored_against_the_teacher() -> None:
    right = replace(outcome(), moment_labels=moments().teacher)
    assert moment_mious(right, moments()).tolist() == [1.0] * 3
    fewer = replace(right, moment_frames=right.moment_frames[1:], moment_labels=right.moment_labels[1:])
    assert np.isnan(moment_mious(fewer, moments())).tolist() == [True, False, False]


def test_the_moments_chosen_are_those_of_the_largest_difference_in_each_part() -> None:
    mious = np.array([[0.5, 0.9, 0.5, 0.5], [0.5, 0.2, np.nan, 0.6]])
    assert choose_moments(mious, most=2) == [1, 3]
    assert choose_moments(mious[:1], most=2) == [0, 2]
    assert choose_moments(mious, most=9) == [0, 1, 2, 3]
    assert choose_moments(mious[:, :0]) == []


def test_a_moment_shows_picture_references_and_schemes() -> None:
    kept = moments()
    assert kept.human is not None
    kept.human[0] = 255
    page = parsed(filmstrip({"none": SEVERAL[0].outcome, "ams": SEVERAL[1].outcome}, kept, [0, 1]))
    names = [value for _, name, value in page.attributes if name == "alt"]
    assert [name.split(" ")[0] for name in names] == [
        "picture",
        "teacher",
        "none",
        "ams",
        "picture",
        "teacher",
        "human",
        "none",
        "ams",
    ]
    assert kept.teacher.shape[1:] == (HEIGHT, WIDTH)


# --- a folder


def test_a_folder_of_results_gets_all_its_reports(tmp_path: Path) -> None:
    for index, run in enumerate(SEVERAL[:3]):
        write_outcome(run.outcome, tmp_path / "runs" / str(index))
    write_moments(moments(), tmp_path / "recordings" / "quay")
    rows = write_reports(tmp_path)
    assert [row.scheme for row in rows] == ["none", "ams", "ams"]
    for page in (tmp_path / "report.html", *(tmp_path / "runs" / str(index) / "report.html" for index in range(3))):
        check_page(page.read_text(encoding="utf-8"))
    assert len(json.loads((tmp_path / "summary.json").read_text())["runs"]) == 3
    assert len(list(csv.reader(io.StringIO((tmp_path / "summary.csv").read_text())))) == 4
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_reports(tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_runs_with_different_classes_have_no_common_report(tmp_path: Path) -> None:
    write_outcome(outcome(), tmp_path / "runs" / "a")
    write_outcome(replace(outcome("none"), classes=("a", "b", "c")), tmp_path / "runs" / "b")
    with pytest.raises(ConfigurationError, match="different classes"):
        write_reports(tmp_path)


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    write_outcome(outcome(), tmp_path / "runs" / "a")
    (tmp_path / "runs" / "a" / OUTCOME_NAME).write_bytes(b"{")
    with pytest.raises(ConfigurationError, match="damaged"):
        write_reports(tmp_path)
