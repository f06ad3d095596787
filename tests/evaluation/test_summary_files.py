import csv
import dataclasses
import io
import json

import pytest
from tests.evaluation.outcomes import RUNS

from ams_eval.summary import NUMBERS, Summary, summarise
from ams_eval.summary_files import write_csv, write_json


def test_csv_has_a_line_for_each_run_and_nothing_for_nothing() -> None:
    lines = list(csv.DictReader(io.StringIO(write_csv(summarise(RUNS)))))
    assert [line["scheme"] for line in lines] == ["none", "ams", "ams"]
    assert list(lines[0]) == [field.name for field in dataclasses.fields(Summary)]
    assert lines[0]["model_age_mean_s"] == ""
    assert float(lines[1]["down_kbps"]) == pytest.approx(4.8)


def test_json_has_runs_and_schemes() -> None:
    text = write_json(summarise(RUNS), 250.0)
    document = json.loads(text)
    assert "NaN" not in text
    assert [each["scheme"] for each in document["schemes"]] == ["none", "ams"]
    ams = document["schemes"][1]
    assert ams["seeds"] == 2
    assert ams["mean"]["miou_window"] == pytest.approx(sum(each["miou_window"] for each in document["runs"][1:]) / 2)
    assert ams["standard_deviation_over_seeds"]["miou_window"] > 0
    assert set(ams["mean"]) == set(NUMBERS) - {"seed"}
    assert {"miou_window", "down_kbps", "updates"} <= set(NUMBERS)
