"""Names of recordings, and the order of files."""

import re
from collections.abc import Iterable
from pathlib import Path


def recording_name(text: str) -> str:
    """Return `text` as the name of a recording: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "recording"


def in_natural_order(paths: Iterable[Path]) -> list[Path]:
    """Return paths sorted by name, numbers in it by value: frame9.png before frame10.png."""
    return sorted(paths, key=_natural_key)


def _natural_key(path: Path) -> tuple[list[tuple[str, int]], str]:
    pieces = re.findall(r"(\D*)(\d*)", path.name)
    return [(text, int(digits or -1)) for text, digits in pieces], path.name
