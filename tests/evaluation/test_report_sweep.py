import math
import re
from collections.abc import Sequence

import pytest
from tests.evaluation.html_checks import check_page, elements, parsed

from ams_eval.curves import Curve, Spot
from ams_eval.report.parts import picture
from ams_eval.report.sweep_charts import HUMAN, VIEWS, View, miou_axis, shows_something, view_chart
from ams_eval.report.sweep_page import pictures, render_sweep, views_of

DOWN, UP, AGE = VIEWS
STYLES = {"none": "s0", "a": "s1", "b": "s2"}


def seed(miou: float, *, down: float = 10.0, up: float = 150.0, age: float = 8.0, human: float = math.nan) -> dict[str, float]:
    return {"miou_window": miou, "human_miou_window": human, "down_kbps": down, "up_kbps": up, "model_age_mean_s": age}


def curve(name: str, *spots: dict[str, float] | Sequence[dict[str, float]]) -> Curve:
    seeds = [(each,) if isinstance(each, dict) else tuple(each) for each in spots]
    return Curve(name=name, spots=tuple(Spot(value=str(index), seeds=each) for index, each in enumerate(seeds)))


NONE = curve("none", seed(0.2, down=0.0, up=0.0, age=math.nan))
RISING = curve("a", seed(0.5, down=5), seed(0.55, down=10), seed(0.6, down=20))


def places(svg: str, style: str, name: str = "dot") -> list[tuple[float, float]]:
    found = [each for each in elements(svg, "circle", name) if style in each.get("class", "").split()]
    return [(float(each.get("cx", "")), float(each.get("cy", ""))) for each in found]


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in elements(svg, "text")]


def test_a_curve_is_a_line_with_marks() -> None:
    svg = view_chart([RISING], DOWN, STYLES)
    marks = places(svg, "s1")
    (x0, y0), (x1, y1), (x2, y2) = marks
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11), "equal ratios are equally far apart"
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.11)
    assert y2 < y0, "up is better"
    lines = [each.get("d", "") for each in elements(svg, "path", "s1")]
    assert lines[0] == "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in marks)
    hints = [each.text for each in elements(svg, "title")]
    assert "a, 1: 55.0 % at 10 kbit/s" in hints


def test_the_age_has_an_even_axis() -> None:
    svg = view_chart([curve("a", *(seed(0.5, age=age) for age in (4, 8, 16)))], AGE, STYLES)
    first, second, third = (x for x, _ in places(svg, "s1"))
    assert third - second == pytest.approx(2 * (second - first), abs=0.2)


def test_single_seeds_are_small_points_around_their_mean() -> None:
    svg = view_chart([curve("a", [seed(0.5, down=8), seed(0.6, down=12)], [seed(0.7, down=20)])], DOWN, STYLES)
    ((_, lower), (_, upper)) = places(svg, "s1", "speck")  # one seed alone is its mean
    ((_, middle), _) = places(svg, "s1")
    assert lower - middle == pytest.approx(middle - upper, abs=0.11)
    assert lower > middle
    assert "a, 0: 55.0 % at 10 kbit/s" in [each.text for each in elements(svg, "title")]


def test_who_receives_nothing_is_a_line_across_where_there_is_room_and_words_otherwise() -> None:
    far = view_chart([NONE, RISING], DOWN, STYLES)
    assert not elements(far, "path", "level")
    assert "below: none 20.0 %" in texts(far)
    near = view_chart([curve("none", seed(0.45, down=0.0)), RISING], DOWN, STYLES)
    (level,) = elements(near, "path", "level")
    assert "s0" in level.get("class", "")
    assert "none" in texts(near)
    assert not [text for text in texts(near) if text.startswith("below")]


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
    svg = view_chart([curve("a", [seed(0.5, age=math.nan), seed(0.6, age=8)], [seed(0.7, age=4)])], AGE, STYLES)
    assert len(places(svg, "s1", "speck")) == 1
    assert "nan" not in svg


def test_what_has_no_human_labels_has_no_place_against_them() -> None:
    svg = view_chart([RISING, curve("b", seed(0.5, human=0.4))], DOWN, STYLES, miou=HUMAN)
    assert not places(svg, "s1")
    assert len(places(svg, "s2")) == 1


def test_small_differences_do_not_fill_the_plot() -> None:
    svg = view_chart([curve("a", seed(0.501, down=5), seed(0.502, down=20))], DOWN, STYLES)
    (_, first), (_, second) = places(svg, "s1")
    assert 0 < first - second < 40


@pytest.mark.parametrize("miou", [0.0, 1.0, math.nan])
def test_any_miou_can_be_drawn(miou: float) -> None:
    assert view_chart([curve("a", seed(miou), seed(miou, down=50))], DOWN, STYLES)


def test_the_key_names_what_is_drawn_below_it_all() -> None:
    long = [curve(f"a curve with a long name, number {index}", seed(0.5)) for index in range(4)]
    svg = view_chart([NONE, *long], DOWN, {each.name: "s1" for each in (NONE, *long)})
    names = {each.text: each for each in elements(svg, "text", "name")}
    assert list(names) == [each.name for each in long]
    height = float(elements(svg, "svg")[0].get("viewBox", "").split()[3])
    rows = sorted({float(each.get("y", "")) for each in names.values()})
    assert len(rows) > 1, "they do not fit into one row"
    assert max(float(each.get("y", "")) for each in elements(svg, "text") if each.text not in names) < rows[0]
    assert rows[-1] < height
    assert not elements(view_chart(long, DOWN, {each.name: "s1" for each in long}, key=False), "text", "name")


@pytest.mark.parametrize(
    ("spots", "views"),
    [
        ([seed(0.5, down=5), seed(0.6, down=10)], [DOWN]),
        ([seed(0.5, up=20, age=9), seed(0.6, up=25, age=8)], [UP]),
        ([seed(0.5, age=5), seed(0.6, age=9)], [AGE]),
        ([seed(0.5), seed(0.6)], []),
        ([seed(0.5, down=0.0, age=math.nan)], []),
    ],
)
def test_a_view_is_drawn_where_curves_differ_in_it(spots: list[dict[str, float]], views: list[View]) -> None:
    assert views_of([curve("a", *spots)]) == views
    assert [shows_something([NONE, curve("a", *spots)], view) for view in VIEWS] == [view in views for view in VIEWS]


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    human = curve("a <b> & c", [seed(0.5, down=5, human=0.4), seed(0.5, down=5, human=0.4)], seed(0.6, down=10, human=0.5))
    document = render_sweep("down & up", [NONE, human], {"quay <1>": [NONE, human], "pier": [NONE, RISING]})
    check_page(document, pictures=False)
    text = parsed(document).text
    assert "down & up" in text
    assert "3 curves on quay <1>, pier, 2 seeds." in text
    assert "Against the teacher, mean of 2 recordings" in text
    assert "Against human labels" in text
    assert "Against human labels, mean" not in text, "one recording alone has them"
    assert document.count("<svg") == 4


def test_one_recording_is_shown_once() -> None:
    document = render_sweep("mine", [RISING], {"quay": [RISING]})
    assert document.count("<svg") == 1
    assert "mean of" not in parsed(document).text
    assert "one seed" in parsed(document).text


def test_a_curve_of_one_recording_alone_has_its_own_colour_on_the_page() -> None:
    document = render_sweep("mine", [RISING], {"quay": [RISING, curve("b", seed(0.5))], "pier": [RISING]})
    assert re.search(r'class="dot s2"', document)


def test_pictures_are_drawings_with_their_own_dress() -> None:
    found = pictures([NONE, RISING])
    assert list(found) == ["down_kbps"]
    svg = picture(found["down_kbps"])
    (style,) = elements(svg, "style")
    assert "--s1" in (style.text or "")
    assert "body" not in (style.text or "")
    assert len(places(svg, "s1")) == 3
