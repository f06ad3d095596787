"""Where tables for people go."""

import sys

from rich.console import Console

PIPED_WIDTH = 240
"""Columns of what is no terminal, which takes lines of any length: no table is wider."""


def table_console() -> Console:
    """Return stdout: a terminal is as wide as it is, and a row is one line of a file or pipe."""
    return Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
