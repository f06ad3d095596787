import io
from dataclasses import replace

from rich.console import Console
from tests.evaluation.outcomes import RUNS, outcome, runs_of

from ams_eval.summary import summarise
from ams_eval.summary_table import draw_summary

LONG_NAME = runs_of(outcome("paper:selection=random:fraction=0.01"))


def test_the_table_for_a_terminal_fits_it() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(draw_summary(summarise(RUNS + LONG_NAME)))
    lines = console.export_text().splitlines()
    (ams,) = (line for line in lines if line.strip().startswith("ams"))
    assert "4.8" in ams
    assert "…" not in "".join(lines)
    assert any(line.rstrip().endswith("labelled") for line in lines), "the last column does not fit"
    assert "20" in ams


def test_the_table_says_over_what_its_miou_is_the_mean() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(draw_summary(summarise(RUNS)))
    assert "mean over windows of 10 s" in console.export_text()


def test_the_table_says_where_nothing_was_learnt() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    short = replace(outcome("ams"), updates=())
    console.print(draw_summary(summarise(runs_of(short))))
    assert "No update took effect in ams on quay" in " ".join(console.export_text().split())
