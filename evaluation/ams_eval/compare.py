"""`ams-eval compare`: what differs between two folders of results."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg, SettingsConfigDict
from rich import box
from rich.markup import escape
from rich.table import Table

from ams_common.settings import CommandSettings, load_settings
from ams_eval.bootstrap import BLOCK_S, LEAST_BLOCKS, RESAMPLES
from ams_eval.console import table_console
from ams_eval.differences import Agreement, Cost, Pairs, SettingDifference, agreements, costs, pair_runs, setting_differences
from ams_eval.files import write_atomically
from ams_eval.report.parts import document, table
from ams_eval.result import number, percent, points
from ams_eval.result_folder import read_runs

_COSTS = {
    "up_kbps": ("uplink, kbit/s", 1),
    "up_wire_kbps": ("uplink on the wire, kbit/s", 1),
    "down_kbps": ("downlink, kbit/s", 1),
    "down_wire_kbps": ("downlink on the wire, kbit/s", 1),
    "first_model_kb": ("first model, kB", 1),
    "frames_labelled": ("frames labelled", 0),
    "updates": ("updates", 0),
    "steps": ("training steps", 0),
    "model_age_mean_s": ("mean model age, s", 1),
    "model_age_p95_s": ("model age, 95th percentile, s", 1),
    "latency_mean_s": ("mean latency of an update, s", 2),
}
"""Field of Summary: what it is, and its decimals."""


class CompareSettings(CommandSettings):
    """Say what differs between two folders of results, A and B, in settings and in what came out."""

    model_config = SettingsConfigDict(cli_prog_name="ams-eval compare")

    first: CliPositionalArg[Path]
    """A: the folder of an experiment or of one of its runs."""
    second: CliPositionalArg[Path]
    """B: another one."""
    html: Path | None = None
    """Write the same as a page to this file."""
    block_s: float = Field(default=BLOCK_S, gt=0, le=3600)
    """Length of the blocks of time that the intervals are drawn from; frames further apart than this should not be alike."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """All that is told of two folders."""

    pairs: Pairs
    agreements: Sequence[Agreement]
    costs: Sequence[Cost]
    settings: Sequence[SettingDifference]
    block_s: float


def run(arguments: Sequence[str]) -> int:
    """Compare two folders with these command-line arguments; return the exit status.

    Raises:
        AmsError: what a person must mend.
    """
    settings = load_settings(CompareSettings, arguments)
    findings = compare(settings.first, settings.second, block_s=settings.block_s)
    console = table_console()
    for title, heads, rows in _tables(findings):
        console.print(_rich_table(title, heads, rows) if rows else f"\n{title}: none", highlight=False)
    console.print(_explanation(findings), highlight=False, style="dim")
    if settings.html is not None:
        write_atomically(settings.html, render(findings, settings.first, settings.second).encode())
        console.print(f"page {settings.html.resolve()}", highlight=False, soft_wrap=True)
    return 0


def compare(first: Path, second: Path, *, block_s: float = BLOCK_S) -> Findings:
    """Compare two folders of results.

    Raises:
        ConfigurationError: one holds no finished run, is damaged, or they have nothing in common.
    """
    pairs = pair_runs(read_runs(first), read_runs(second))
    return Findings(
        pairs=pairs,
        agreements=agreements(pairs.pairs, block_s=block_s),
        costs=costs(pairs.pairs),
        settings=setting_differences(pairs.pairs),
        block_s=block_s,
    )


def verdict(row: Agreement) -> str:
    """Return in words which side is better."""
    if row.first == row.second:
        return "equal"
    if math.isnan(row.interval.low):
        return "too little to tell"
    if not row.interval.clear:
        return "not clear"
    return "B is better" if row.interval.low > 0 else "A is better"


def render(findings: Findings, first: Path, second: Path) -> str:
    """Return the comparison as an HTML document without any reference to the outside."""
    sections = [
        '<header><p class="over">Adaptive Model Streaming: two results</p><h1>A against B</h1>'
        f'<p class="lead">A is {html.escape(str(first))}, B is {html.escape(str(second))}.</p></header>'
    ]
    for title, heads, rows in _tables(findings):
        cells = [[html.escape(cell) for cell in row] for row in rows]
        words = heads.index("A") if "A" in heads else 2
        body = f'<div class="card wide">{table(heads, cells, words=words)}</div>' if rows else '<p class="caption">none</p>'
        sections.append(f"<h2>{title}</h2>{body}")
    sections.insert(2, f'<p class="caption">{html.escape(_explanation(findings))}</p>')
    return document("A against B", sections)


def _tables(findings: Findings) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, headings and rows of each table."""
    only = [["A", name] for name in findings.pairs.only_first] + [["B", name] for name in findings.pairs.only_second]
    return [
        (
            "Agreement (mIoU)",
            ["scheme", "recording", "against", "A", "B", "B − A", "95 % interval", "verdict"],
            [_agreement_cells(row) for row in findings.agreements],
        ),
        ("Cost", ["scheme", "", "A", "B", "B − A"], [_cost_cells(row) for row in findings.costs]),
        ("Settings that differ", ["scheme", "setting", "A", "B"], [list(row) for row in findings.settings]),
        *([("Only on one side", ["side", "run"], only)] if only else []),
    ]


def _agreement_cells(row: Agreement) -> list[str]:
    low, high = row.interval
    told = "–" if math.isnan(low) else f"{points(low)} … {points(high)}"
    numbers = [percent(row.first), percent(row.second), points(row.second - row.first), told]
    return [row.scheme, row.recording, row.reference, *numbers, verdict(row)]


def _cost_cells(row: Cost) -> list[str]:
    name, decimals = _COSTS[row.name]
    difference = row.second - row.first
    change = "–" if math.isnan(difference) else f"{difference:+.{decimals}f}"
    return [row.scheme, name, number(row.first, decimals), number(row.second, decimals), change]


def _explanation(findings: Findings) -> str:
    return (
        "mIoU of the confusion summed over all frames and seeds; differences in points. The interval is that of a "
        "paired bootstrap "
        f"over blocks of {findings.block_s:g} s ({RESAMPLES} draws); it covers chance along the time of these recordings, not "
        f"the choice of recordings or seeds. From fewer than {LEAST_BLOCKS} blocks, or other frames, none is told."
    )


def _rich_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for index, head in enumerate(heads):
        drawn.add_column(head, justify="right" if head in ("A", "B", "B − A", "95 % interval") and index > 1 else "left")
    for row in rows:
        drawn.add_row(*map(escape, row))
    return drawn
