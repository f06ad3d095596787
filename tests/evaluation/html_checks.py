"""What the tests of all reports ask of a page."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

VOID = {"meta", "img", "hr", "input", "br"}


class Checker(HTMLParser):
    """Sees that every element is closed in order, and gathers attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


def parsed(document: str) -> Checker:
    checker = Checker()
    checker.feed(document)
    checker.close()
    return checker


def check_page(document: str, *, pictures: bool = True) -> Checker:
    """See that a page is well formed, holds no unknown number and needs nothing from outside."""
    checker = parsed(document)
    assert checker.open == []
    links = [value for _, name, value in checker.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert bool(links) == pictures
    assert all(link.startswith("data:image/jpeg;base64,") for link in links)
    assert not re.search(r"url\(|@import|<link|<script|<iframe", document)
    assert re.findall(r"https?://[^\"' ]+", document) == ["http://www.w3.org/2000/svg"] * document.count("<svg")
    assert not re.search(r"\b(nan|None|inf)\b", checker.text)
    assert "nan" not in "".join(value for _, name, value in checker.attributes if name in ("d", "x", "y", "points", "style"))
    return checker


def elements(svg: str, tag: str, style: str = "") -> list[ElementTree.Element]:
    found = ElementTree.fromstring(svg).iter(f"{{http://www.w3.org/2000/svg}}{tag}")
    return [each for each in found if style in each.get("class", "").split() or not style]
