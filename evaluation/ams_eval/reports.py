"""Writes every report of a folder of results."""

from pathlib import Path

from ams_eval.files import write_atomically
from ams_eval.metrics import SETTLE_S
from ams_eval.report.comparison_page import render_comparison
from ams_eval.report.run_page import render_run
from ams_eval.result_folder import base_of, find_moments, read_runs, unique
from ams_eval.summary import Summary, summarise, write_csv, write_json

REPORT_NAME, CSV_NAME, JSON_NAME = "report.html", "summary.csv", "summary.json"


def write_reports(out: Path, *, settle_s: float = SETTLE_S) -> tuple[Summary, ...]:
    """Write the reports and tables of all finished runs in `out`, and return their numbers.

    Args:
        out: a folder as `result_folder` describes it; runs that are not finished are left out.
        settle_s: "late" numbers are of the frames captured from then on.

    Raises:
        ConfigurationError: there is no finished run, one is damaged, or something cannot be written.
    """
    runs = read_runs(out)
    rows = summarise(runs, settle_s)
    names = unique(run.outcome.recording for run in runs)
    moments = {name: found for name in names if (found := find_moments(out, name)) is not None}
    for run, row in zip(runs, rows, strict=True):
        page = render_run(run, row, base_of(run, runs), moments.get(run.outcome.recording))
        write_atomically(run.folder / REPORT_NAME, page.encode())
    write_atomically(out / CSV_NAME, write_csv(rows).encode())
    write_atomically(out / JSON_NAME, write_json(rows, settle_s).encode())
    write_atomically(out / REPORT_NAME, render_comparison(runs, rows, moments, settle_s=settle_s).encode())
    return rows
