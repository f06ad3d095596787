"""Writes every report of a folder of results."""

from collections.abc import Sequence
from pathlib import Path

from ams_common.errors import ConfigurationError
from ams_eval.files import write_atomically
from ams_eval.gains import gains_csv, gains_json, pooled_gains
from ams_eval.metrics import SETTLE_S
from ams_eval.outcome import Outcome
from ams_eval.report.comparison_page import render_comparison
from ams_eval.report.run_page import render_run
from ams_eval.result_folder import Run, base_of, find_moments, read_runs, unique
from ams_eval.series import SERIES, series_csv, series_json
from ams_eval.summary import Summary, summarise
from ams_eval.summary_files import write_csv, write_json

REPORT_NAME, CSV_NAME, JSON_NAME, SERIES_NAME = "report.html", "summary.csv", "summary.json", "series.json"
GAINS_NAME = "gains"


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
    for name in names:
        _require_one_class_list(out, [run.outcome for run in runs if run.outcome.recording == name])
    moments = {name: found for name in names if (found := find_moments(out, name)) is not None}
    for run, row in zip(runs, rows, strict=True):
        page = render_run(run, row, base_of(run, runs), moments.get(run.outcome.recording))
        write_atomically(run.folder / REPORT_NAME, page.encode())
        _write_series(run)
    write_atomically(out / CSV_NAME, write_csv(rows).encode())
    write_atomically(out / JSON_NAME, write_json(rows, settle_s).encode())
    gains = pooled_gains(runs)
    write_atomically(out / f"{GAINS_NAME}.csv", gains_csv(gains).encode())
    write_atomically(out / f"{GAINS_NAME}.json", gains_json(gains).encode())
    write_atomically(out / REPORT_NAME, render_comparison(runs, rows, moments, settle_s=settle_s).encode())
    return rows


def _write_series(run: Run) -> None:
    write_atomically(run.folder / SERIES_NAME, series_json(run.outcome).encode())
    for name, series in SERIES.items():
        write_atomically(run.folder / f"{name}.csv", series_csv(series, run.outcome).encode())


def _require_one_class_list(out: Path, outcomes: Sequence[Outcome]) -> None:
    lists = list(dict.fromkeys(outcome.classes for outcome in outcomes))
    if len(lists) > 1:
        told = " and ".join(", ".join(classes) for classes in lists[:2])
        raise ConfigurationError(
            f"{str(out)!r} holds runs on {outcomes[0].recording!r} with different classes ({told}), which no report can set "
            "side by side: give each an --out of its own"
        )
