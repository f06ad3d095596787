import re

import pytest
from tests.evaluation.html_checks import elements

from ams_eval.report.chart import Chart, Dot, Span
from ams_eval.report.parts import CHART_CSS
from ams_eval.report.picture import picture


def drawing(style: str) -> str:
    chart = Chart(title="mIoU & more", x=Span(0, 10), y=Span(0, 1), height=200)
    chart.line([0, 10], [0.0, 1.0], f"scheme {style}")
    chart.dots([Dot(5, 0.5, "half", style)])
    return chart.svg()


def rules(svg: str) -> dict[str, str]:
    (style,) = elements(svg, "style")
    found = re.findall(r"([^{}]+){([^{}]*)}", style.text or "")
    return {each.strip(): body for selectors, body in found for each in selectors.split(",")}


@pytest.mark.parametrize("style", ["s0", "s3", "s9"])
def test_a_picture_has_its_colours_in_itself(style: str) -> None:
    svg = picture(drawing(style))
    assert "var(" not in svg
    assert "@media" not in svg
    match = re.search(rf"--{style}: (#\w+)", CHART_CSS.read_text(encoding="utf-8"))
    assert match is not None
    found = rules(svg)
    assert f"stroke: {match[1]}" in found[f"svg .line.scheme.{style}"]
    assert f"fill: {match[1]}" in found[f"svg .dot.{style}"]
    assert f"fill: {match[1]}" in found[f"svg .speck.{style}"]


def test_a_picture_has_a_ground_and_says_what_it_shows() -> None:
    before, after = drawing("s1"), picture(drawing("s1"))
    (root,), (ground,) = elements(after, "svg"), elements(after, "rect", "ground")
    assert root.get("viewBox") == "0 -24 760 224"
    assert (root.get("width"), root.get("height"), root.get("style")) == ("760", "224", None)
    assert (ground.get("y"), ground.get("width"), ground.get("height")) == ("-24", "760", "224")
    assert "fill: #" in rules(after)["svg .ground"]
    title = elements(after, "text", "name")[0]
    assert title.text == "mIoU & more"
    assert float(title.get("y", "")) < 0
    assert len(elements(after, "path")) == len(elements(before, "path"))
