import math
import re
from collections.abc import Sequence

import pytest
from tests.evaluation.html_checks import check_page, elements, parsed

from ams_eval.curves import Curve, Spot
from ams_eval.report.chart import NARROW, WIDE
from ams_eval.report.sweep_charts import HUMAN, TEACHER, VIEWS, Panel, View, miou_axis, shows_something, view_chart
from ams_eval.report.sweep_page import pictures, render_sweep

DOWN, UP, AGE = VIEWS
STYLES = {"none": "s0", "a": "s1", "b": "s2"}


def seed(miou: float, *, down: float = 10.0, up: float = 150.0, age: float = 8.0, human: float = math.nan) -> dict[str, float]:
    return {"miou_window": miou, "human_miou_window": human, "down_kbps": down, "up_kbps": up, "model_age_mean_s": age}


def curve(name: str, *spots: dict[str, float] | Sequence[dict[str, float]]) -> Curve:
    seeds = [(each,) if isinstance(each, dict) else tuple(each) for each in spots]
    axis = "step" if len(seeds) > 1 else ""
    return Curve(name=name, axis=axis, spots=tuple(Spot(value=str(index), seeds=each) for index, each in enumerate(seeds)))


def drawn(*curves: Curve, view: View = DOWN, miou: str = TEACHER, key: bool = False) -> str:
    return view_chart(Panel("quay, by people", curves, miou), view, STYLES, key=key)


NONE = curve("none", seed(0.2, down=0.0, up=0.0, age=math.nan))
RISING = curve("a", seed(0.5, down=5), seed(0.55, down=10), seed(0.6, down=20))


def places(svg: str, style: str, name: str = "dot") -> list[tuple[float, float]]:
    found = [each for each in elements(svg, "circle", name) if style in each.get("class", "").split()]
    return [(float(each.get("cx", "")), float(each.get("cy", ""))) for each in found]


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in elements(svg, "text")]


def test_a_curve_is_a_line_with_marks() -> None:
    svg = drawn(RISING)
    marks = places(svg, "s1")
    (x0, y0), (x1, y1), (x2, y2) = marks
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11), "equal ratios are equally far apart"
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.11)
    assert y2 < y0, "up is better"
    lines = [each.get("d", "") for each in elements(svg, "path", "s1")]
    assert lines[0] == "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in marks)
    hints = [each.text for each in elements(svg, "title")]
    assert "a, step=1: 55.0 % at 10 kbit/s, 1 seed" in hints


def test_the_age_has_an_even_axis() -> None:
    svg = drawn(curve("a", *(seed(0.5, age=age) for age in (4, 8, 16))), view=AGE)
    first, second, third = (x for x, _ in places(svg, "s1"))
    assert third - second == pytest.approx(2 * (second - first), abs=0.2)


def test_single_seeds_are_small_points_around_their_mean() -> None:
    svg = drawn(curve("a", [seed(0.5, down=8), seed(0.6, down=12)], [seed(0.7, down=20)]))
    ((_, lower), (_, upper)) = places(svg, "s1", "speck")  # one seed alone is its mean
    ((_, middle), _) = places(svg, "s1")
    assert lower - middle == pytest.approx(middle - upper, abs=0.11)
    assert lower > middle
    assert "a, step=0: 55.0 % at 10 kbit/s, 2 seeds" in [each.text for each in elements(svg, "title")]


def test_who_receives_nothing_is_a_line_across_where_there_is_room_and_words_otherwise() -> None:
    far = drawn(NONE, RISING)
    assert not elements(far, "path", "level")
    assert "below: none 20.0 %" in texts(far)
    near = drawn(curve("none", seed(0.45, down=0.0)), RISING)
    (level,) = elements(near, "path", "level")
    assert "s0" in level.get("class", "")
    assert "none" in texts(near)
    assert not [text for text in texts(near) if text.startswith("below")]


def test_each_of_several_that_receive_nothing_is_told() -> None:
    sizes = curve("none", seed(0.45, down=0.0), seed(0.3, down=0.0), seed(math.nan, down=0.0))
    svg = drawn(sizes, RISING)
    assert "none, step=0" in texts(svg)
    assert "below: none, step=1 30.0 %" in texts(svg)
    many = curve("none", *(seed(0.01 * index, down=0.0) for index in range(1, 20)))
    assert "below: 19 with 1.0 to 19.0 %" in texts(drawn(many, RISING))


@pytest.mark.parametrize(
    ("values", "levels", "axis"),
    [
        ([61.0, 65.0], [], (60, 66)),
        ([60.0, 66.0], [], (58, 68)),
        ([51.0, 66.0], [], (50, 70)),
        ([31.0, 66.0], [], (30, 70)),
        ([5.0, 88.0], [], (0, 100)),
        ([0.0, 1.0], [], (0, 2)),
        ([99.0, 100.0], [], (98, 100)),
        ([60.0, 70.0], [50.0], (45, 75)),
        ([60.0, 70.0], [49.9, 80.0], (55, 85)),
        ([60.0, 61.0], [55.0], (54, 62)),
        ([60.0, 61.0], [54.9], (58, 62)),
        ([math.nan, 61.0], [], (60, 62)),
        ([math.nan], [20.0], (0, 100)),
    ],
)
def test_the_axis_of_miou_is_round_values_around_all(
    values: list[float], levels: list[float], axis: tuple[float, float]
) -> None:
    assert tuple(miou_axis(values, levels)) == axis


def test_a_seed_without_the_number_has_no_small_point() -> None:
    svg = drawn(curve("a", [seed(0.5, age=math.nan), seed(0.6, age=8)], [seed(0.7, age=4)]), view=AGE)
    assert len(places(svg, "s1", "speck")) == 1
    assert "nan" not in svg


def test_what_has_no_human_labels_has_no_place_against_them() -> None:
    svg = drawn(RISING, curve("b", seed(0.5, human=0.4)), miou=HUMAN)
    assert not places(svg, "s1")
    assert len(places(svg, "s2")) == 1


def test_small_differences_do_not_fill_the_plot() -> None:
    svg = drawn(curve("a", seed(0.501, down=5), seed(0.502, down=20)))
    (_, first), (_, second) = places(svg, "s1")
    assert 0 < first - second < 40


@pytest.mark.parametrize("miou", [0.0, 1.0, math.nan])
def test_any_miou_can_be_drawn(miou: float) -> None:
    assert drawn(curve("a", seed(miou), seed(miou, down=50)))


def test_the_key_names_what_is_drawn_below_it_all() -> None:
    long = [curve(f"a curve with a long name, number {index}", seed(0.5)) for index in range(4)]
    panel, style_of = Panel("quay", [NONE, *long]), {each.name: "s1" for each in (NONE, *long)}
    svg = view_chart(panel, DOWN, style_of, key=True)
    names = {each.text: each for each in elements(svg, "text", "name")}
    assert list(names) == [each.name for each in long]
    height = float(elements(svg, "svg")[0].get("viewBox", "").split()[3])
    rows = sorted({float(each.get("y", "")) for each in names.values()})
    assert len(rows) > 1, "they do not fit into one row"
    assert max(float(each.get("y", "")) for each in elements(svg, "text") if each.text not in names) < rows[0]
    assert rows[-1] < height
    assert not elements(view_chart(panel, DOWN, style_of), "text", "name")


def test_a_plot_says_what_it_shows_and_where() -> None:
    svg = drawn(RISING, view=AGE, miou=HUMAN)
    assert elements(svg, "title")[0].text == "mIoU in per cent against model age in s: quay, by people"


@pytest.mark.parametrize(
    ("curves", "views"),
    [
        ([curve("a", seed(0.5, down=5), seed(0.6, down=10))], [DOWN]),
        ([curve("a", seed(0.5, up=20, age=9), seed(0.6, up=25, age=8))], [UP]),
        ([curve("a", seed(0.5, age=5), seed(0.6, age=9))], [AGE]),
        ([curve("a", seed(0.5)), curve("b", seed(0.6, down=250))], [DOWN]),
        ([curve("a", seed(0.5), seed(0.6))], []),
        ([curve("a", seed(0.5, down=0.0, age=math.nan))], []),
        ([curve("a", seed(0.5, down=0.01), seed(0.6, down=0.05))], []),
        ([], []),
    ],
)
def test_a_view_is_drawn_where_something_differs_in_it(curves: list[Curve], views: list[View]) -> None:
    panel = Panel("quay", [NONE, *curves])
    assert [view for view in VIEWS if shows_something(panel, view)] == views
    assert list(pictures(panel)) == [view.name for view in views]


def sections(document: str) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", document)


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    lit = curve("a <b> & c", [seed(0.5, down=5, human=0.4), seed(0.5, down=5, human=0.4)], seed(0.6, down=10, human=0.5))
    panels = [Panel("mean of <2>", [NONE, lit]), Panel("people", [lit], HUMAN)]
    alone = [Panel("quay", [NONE, lit]), Panel("pier", [NONE, RISING]), Panel("empty", [])]
    document = render_sweep("down & up", panels, alone, missing="1 of <3> experiments is missing")
    check_page(document, pictures=False)
    text = parsed(document).text
    for each in ("down & up", "1 of <3> experiments is missing", "Small points are single seeds.", "The axis is logarithmic."):
        assert each in text
    assert sections(document) == ["mean of &lt;2&gt;", "people", "quay", "pier"]
    widths = re.findall(r'viewBox="0 0 (\d+)', document)
    assert widths == [str(WIDE), str(WIDE), str(NARROW), str(NARROW)]


def test_one_recording_with_one_seed_needs_no_more_words() -> None:
    ages = [Panel("quay", [curve("a", seed(0.5, age=4), seed(0.6, age=9))])]
    document = render_sweep("mine", ages, [])
    text = parsed(document).text
    for absent in ("single seeds", "logarithmic", "missing"):
        assert absent not in text
    assert document.count("<svg") == 1


def test_the_key_of_the_page_has_all_that_is_drawn_somewhere() -> None:
    panels = [Panel("both", [NONE, RISING])]
    document = render_sweep("mine", panels, [Panel("quay", [NONE, RISING, curve("b", seed(0.5))]), Panel("pier", [RISING])])
    assert re.findall(r'<i class="fill-(\w+)"></i>(\w+)', document) == [("s1", "a"), ("s2", "b")]
    assert 'class="dot s2"' in document
