"""A chart as a file of its own, for documents and programs that know nothing of CSS variables."""

import re
from collections.abc import Iterator

from ams_eval.report.parts import CHART_CSS

_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_VARIABLE = re.compile(r"--(\w+): ([^;]+);")
_USE = re.compile(r"var[(]--(\w+)[)]")
_TITLE = re.compile(r"<title>([^<]*)</title>")
_BOX = re.compile(r'viewBox="0 0 (\d+) (\d+)" style="[^"]*"')
_TITLE_PIXELS = 24
_OF_A_CURVE = "var(--c)"


def picture(chart: str) -> str:
    """Return a chart, an SVG element, as a file: on its ground, in the colours of the light dress, under its title."""
    match, title = _BOX.search(chart), _TITLE.search(chart)
    assert match is not None
    assert title is not None
    width, height = int(match[1]), int(match[2]) + _TITLE_PIXELS
    box = f'width="{width}" height="{height}" viewBox="0 {-_TITLE_PIXELS} {width} {height}"'
    ground = f'<rect class="ground" y="{-_TITLE_PIXELS}" width="{width}" height="{height}"/>'
    head = f'<style>{"".join(_rules())}</style>{ground}<text class="name" x="12" y="-4">{title[1]}</text>'
    return chart.replace(match[0], box, 1).replace(title[0], title[0] + head, 1) + "\n"


def _rules() -> Iterator[str]:
    """Yield the rules of chart.css for drawings with every variable replaced by its value."""
    rules = [(selector.strip(), body) for selector, body in _RULE.findall(CHART_CSS.read_text(encoding="utf-8"))]
    colours = dict(_VARIABLE.findall(rules[0][1]))
    yield f"svg .ground {{ fill: {colours['card']}; }}"
    for selector, body in rules:
        if not selector.startswith("svg "):
            continue
        styles = [name for name in colours if re.fullmatch(r"s\d+", name)] if _OF_A_CURVE in body else [""]
        for style in styles:
            values = _USE.sub(lambda match: colours[match[1]], body.replace(_OF_A_CURVE, colours.get(style, "")))
            chosen = ", ".join(each.strip() + (f".{style}" if style else "") for each in selector.split(","))
            yield f"{chosen} {{{values}}}"
