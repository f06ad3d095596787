import csv
import dataclasses
import io
import json
import math

import pytest
from tests.evaluation.outcomes import CLASSES, outcome, transfer

from ams_eval.metrics import traffic
from ams_eval.series import SERIES, series_csv, series_json


def rows_of(name: str, text: str) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(text)))
    assert all(list(row) == list(SERIES[name].columns) for row in rows)
    return rows


def test_a_second_has_a_row_for_each_direction_and_kind() -> None:
    frames = (transfer(0.2, "up", "frames", 10), transfer(0.9, "up", "frames", 20), transfer(1.0, "up", "frames", 40))
    small = (transfer(0.5, "down", "control", 3), transfer(0.6, "up", "control", 4))
    on = dataclasses.replace(outcome("ams"), transfers=(*frames, *small))
    assert SERIES["transfers"].rows_of(on) == [
        (0, "down", "control", 3, 103),
        (0, "up", "control", 4, 104),
        (0, "up", "frames", 30, 230),
        (1, "up", "frames", 40, 140),
    ]


def test_the_seconds_add_up_to_all_that_was_sent() -> None:
    on = outcome("ams")
    sums: dict[tuple[str, str], list[int]] = {}
    for row in rows_of("transfers", series_csv(SERIES["transfers"], on)):
        total = sums.setdefault((row["direction"], row["kind"]), [0, 0])
        total[0] += int(row["payload_bytes"])
        total[1] += int(row["wire_bytes"])
    assert sums == {key: list(size) for key, size in traffic(on).items()}


def test_frames_have_their_agreement_alone_and_in_windows() -> None:
    on = outcome("ams")
    frames = rows_of("frames", series_csv(SERIES["frames"], on))
    assert [float(row["teacher_miou"]) for row in frames] == on.teacher.frame_miou().tolist()
    assert [float(row["teacher_miou_window"]) for row in frames] == on.teacher.windowed_miou().tolist()
    assert [int(row["version"]) for row in frames] == on.versions.tolist()
    assert frames[0]["model_age_s"] == ""
    assert on.human is not None
    by_people = [row for row in frames if row["human_miou"]]
    assert [float(row["time_s"]) for row in by_people] == on.human.times_s.tolist()
    assert [float(row["human_miou_window"]) for row in by_people] == on.human.windowed_miou().tolist()


def test_classes_have_their_iou_with_each_reference() -> None:
    on = outcome("ams", human=False)
    classes = SERIES["classes"].rows_of(on)
    assert [name for name, _, _ in classes] == list(CLASSES)
    assert [teacher for _, teacher, _ in classes] == on.teacher.class_iou().tolist()
    assert all(math.isnan(human) for _, _, human in classes)


def test_effort_is_told_by_windows() -> None:
    assert SERIES["effort"].rows_of(outcome("ams", frames=80)) == [(0.0, 50, pytest.approx(0.75)), (30.0, 0, 0.0)]


def test_the_json_says_the_same_without_what_does_not_exist() -> None:
    on = outcome("ams")
    text = series_json(on)
    assert "NaN" not in text
    document = json.loads(text)
    assert list(document) == list(SERIES)
    for name, rows in document.items():
        told = rows_of(name, series_csv(SERIES[name], on))
        assert [{key: "" if each is None else str(each) for key, each in row.items()} for row in rows] == told
    assert document["updates"][0]["mask_overlap"] is None
    assert document["controls"][1] == {"time_s": 8.0, "sampling_hz": 0.5, "update_interval_s": 7.0}


@pytest.mark.parametrize("name", list(SERIES))
def test_a_run_that_changes_nothing_has_frames_classes_and_no_effort(name: str) -> None:
    rows = rows_of(name, series_csv(SERIES[name], outcome("none")))
    assert bool(rows) == (name in ("frames", "classes", "effort"))
