"""Pieces of HTML that all reports are made of."""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

CHART_CSS, _PAGE_CSS = (Path(__file__).with_name(name) for name in ("chart.css", "page.css"))
"""What drawings look like, and the rest of a page."""


def document(title: str, sections: Iterable[str]) -> str:
    """Return an HTML document without any reference to the outside; `title` is plain text."""
    css = "".join(each.read_text(encoding="utf-8") for each in (CHART_CSS, _PAGE_CSS))
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{css}</style></head>"
    )
    return f"{head}<body><main>{''.join(sections)}</main></body></html>\n"


def card(title: str, key: str, chart: str) -> str:
    """Return a framed chart with its title and legend, all HTML."""
    return f'<div class="card"><h3>{title}</h3>{key}<div class="wide">{chart}</div></div>'


def legend(entries: Iterable[tuple[str, str]], *, box: bool = False) -> str:
    """Return the legend of a chart; each entry is the CSS class of its colour and its name as HTML."""
    shape = "box " if box else ""
    return (
        '<ul class="key">' + "".join(f'<li><i class="{shape}fill-{style}"></i>{name}</li>' for style, name in entries) + "</ul>"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """Return a table of cells that are HTML; the first `words` columns, 1 to 3, hold words, the others numbers."""
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="words{words}"><tr>{head}</tr>{body}</table>'


def tiles(entries: Iterable[tuple[str, str, str]]) -> str:
    """Return a row of large numbers: what it is, the number, and its unit, all HTML."""
    cells = "".join(
        f'<div class="tile"><dt>{name}</dt><dd>{value}</dd><dd class="more">{unit}</dd></div>' for name, value, unit in entries
    )
    return f'<dl class="tiles">{cells}</dl>'
