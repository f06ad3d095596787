"""The numbers of runs as CSV and JSON."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any

from ams_eval.groups import by_scheme
from ams_eval.outcome_files import finite_or_none
from ams_eval.result_folder import unique
from ams_eval.summary import NUMBERS, Summary


def write_csv(rows: Sequence[Any], kind: type[Any] = Summary) -> str:
    """Return the rows, dataclasses of one `kind`, as CSV with a heading; what does not exist is empty."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([field.name for field in dataclasses.fields(kind)])
    for row in rows:
        writer.writerow(["" if value is None else value for value in map(finite_or_none, dataclasses.astuple(row))])
    return target.getvalue()


def write_json(rows: Sequence[Summary], settle_s: float) -> str:
    """Return the rows as JSON, and with them the mean and the spread over seeds of each scheme; null is what does not exist."""
    document = {
        "settle_s": settle_s,
        "runs": [dataclasses.asdict(row) for row in rows],
        "schemes": [
            {
                "scheme": group.scheme,
                "recordings": unique(row.recording for row in group),
                "seeds": group.seeds(),
                "mean": {name: group.mean(name) for name in NUMBERS if name != "seed"},
                "standard_deviation_over_seeds": {name: group.deviation(name) for name in NUMBERS if name != "seed"},
            }
            for group in by_scheme(rows)
        ],
    }
    return json.dumps(finite_or_none(document), indent=1) + "\n"
