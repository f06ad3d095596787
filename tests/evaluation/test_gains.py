import csv
import dataclasses
import io
import json

import numpy as np
from tests.evaluation.outcomes import RUNS, outcome, runs_of

from ams_eval.gains import gains_csv, gains_json, pooled_gains
from ams_eval.metrics import cumulative


def test_gains_of_all_seeds_and_recordings_are_pooled() -> None:
    runs = runs_of(outcome("none"), outcome("none", recording="bay"), outcome("ams"), outcome("ams", recording="bay", seed=2))
    gains = pooled_gains(runs)
    assert list(gains) == ["ams"]
    expected = [
        ams.outcome.teacher.frame_miou() - none.outcome.teacher.frame_miou()
        for ams, none in ((runs[2], runs[0]), (runs[3], runs[1]))
    ]
    np.testing.assert_array_equal(gains["ams"], np.concatenate(expected))
    assert not pooled_gains(runs[2:])


def test_the_pretrained_student_in_several_ways_gains_nothing_over_itself() -> None:
    ways = runs_of(outcome("none"), outcome("none", settings={"fraction": 0.2}))
    assert not pooled_gains(ways)


def test_csv_and_json_hold_the_same_distribution() -> None:
    gains = pooled_gains(RUNS)
    values, shares = cumulative(gains["ams"])
    rows = list(csv.DictReader(io.StringIO(gains_csv(gains))))
    assert {row["scheme"] for row in rows} == {"ams"}
    assert [float(row["gain"]) for row in rows] == values.tolist() == json.loads(gains_json(gains))["ams"]["gain"]
    assert [float(row["share_of_frames"]) for row in rows] == shares.tolist()
    assert rows[-1]["share_of_frames"] == "1.0"


def test_runs_of_other_classes_are_never_subtracted() -> None:
    other = dataclasses.replace(outcome("ams"), classes=("a", "b", "c"))
    assert not pooled_gains(runs_of(outcome("none"), other))
