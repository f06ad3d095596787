import csv
import dataclasses
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ams_common.classes import LVS9
from ams_common.iou import Int64Array
from ams_eval.local_loop import Attempt
from ams_eval.local_report import CSV_NAME, JSON_NAME, LocalRow, draw_local, published_line, row_of, why_slower, write_results
from ams_eval.scores import Score

CLASSES = LVS9.subset(["background", "person", "dog"])
TAUGHT = [
    [[8, 0, 0], [0, 3, 1], [0, 0, 0]],  # person 3 of 4; dog 0 of 1
    [[4, 0, 0], [4, 4, 0], [0, 0, 0]],  # person 4 of 8
    [[12, 0, 0], [0, 0, 0], [0, 0, 0]],  # nothing but background
]


def score(matrices: list[list[list[int]]]) -> Score:
    array: Int64Array = np.array(matrices, np.int64).reshape(-1, 3, 3)
    return Score(times_s=np.arange(len(array), dtype=np.float64), matrices=array)


def attempt(*, human: bool = False, labelled: int = 2) -> Attempt:
    """Return a pass through 3 frames, 2 of them labelled in 0.4 s, with 5 steps in 0.5 s, all shown in 0.03 s."""
    return Attempt(
        frames=3,
        labelled=labelled,
        steps=5 if labelled else 0,
        undone=0,
        teacher_s=0.2 * labelled,
        training_s=0.25 * labelled,
        student_s=0.03,
        teacher=score(TAUGHT),
        human=score(TAUGHT[:1] if human else []),
    )


def row(threshold: float = 0.8, *, human: bool = False) -> LocalRow:
    return row_of("film", threshold, CLASSES, attempt(human=human, labelled=0 if math.isnan(threshold) else 2))


def test_times_and_shares_are_those_of_a_hand_computed_example() -> None:
    found = row()
    assert found.labelled_share == pytest.approx(2 / 3)
    assert (found.teacher_ms, found.student_ms, found.step_ms) == pytest.approx((200.0, 10.0, 100.0))
    assert found.speed_up == pytest.approx(3 * 0.2 / (0.4 + 0.5 + 0.03))


def test_where_the_teacher_alone_is_faster_it_is_said_why() -> None:
    slow = row()
    told = why_slower([row(math.nan), slow], "abacus")
    assert slow.speed_up < 1
    assert "(abacus). At threshold 0.8, 67 % of the frames" in told
    assert "learning one takes 250 ms (2.5 steps of 100 ms) where the teacher takes 200 ms" in told
    assert not why_slower([row(math.nan), dataclasses.replace(slow, speed_up=7.5)], "abacus")


def test_the_background_does_not_count() -> None:
    found = row(human=True)
    # Frames: (3/4 + 0/1) / 2, 4/8, and one that shows nothing but background.
    assert found.miou_frame == pytest.approx((0.375 + 0.5) / 2)
    # All together: person 7 of 12, dog 0 of 1.
    assert found.miou_summed == pytest.approx(7 / 12 / 2)
    assert (found.human_frames, found.human_miou_frame, found.human_miou_summed) == (1, 0.375, 0.375)


def test_what_does_not_exist_is_nan() -> None:
    untaught = row(math.nan)
    assert (untaught.labelled_share, untaught.steps, untaught.human_frames) == (0.0, 0, 0)
    absent = (untaught.speed_up, untaught.teacher_ms, untaught.step_ms, untaught.human_miou_frame, untaught.human_miou_summed)
    assert all(map(math.isnan, absent))
    assert untaught.student_ms == pytest.approx(10.0)


def test_the_files_hold_every_number(tmp_path: Path) -> None:
    rows = [row(math.nan), row()]
    write_results(rows, {"student": "jitnet"}, "abacus", tmp_path / "new")
    document = json.loads((tmp_path / "new" / JSON_NAME).read_text(encoding="utf-8"))
    assert (document["machine"], document["settings"]) == ("abacus", {"student": "jitnet"})
    assert document["rows"][0]["threshold"] is None
    assert document["rows"][1]["speed_up"] == rows[1].speed_up
    assert [each["threshold"] for each in document["published"]["rows"]] == [0.7, 0.8, 0.9]
    table = list(csv.DictReader(io.StringIO((tmp_path / "new" / CSV_NAME).read_text(encoding="utf-8"))))
    assert [each["threshold"] for each in table] == ["", "0.8"]
    assert float(table[1]["miou_summed"]) == rows[1].miou_summed
    assert list(table[0]) == list(document["rows"][0])


@pytest.mark.parametrize("human", [False, True])
def test_the_table_fits_a_terminal(human: bool) -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(draw_local("film", [row(math.nan, human=human), row(human=human)]))
    text = drawn(console)
    assert "…" not in text
    assert ("human" in text) == human
    lines = [line.split() for line in text.splitlines()]
    (untaught,) = (line for line in lines if line[:1] == ["none"])
    assert untaught[-4:] == ["–", "–", "10.0", "–"]
    (taught,) = (line for line in lines if line[:1] == ["0.8"])
    assert taught[1:] == ["43.8", "29.2", *(["37.5"] if human else []), "66.7", "5", "0.65", "200.0", "10.0", "100.0"]


def drawn(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_published_figures_are_told_in_one_line() -> None:
    assert "0.9: 82.5 %, 7.5 times, 8.4 % labelled" in published_line()
    assert "\n" not in published_line()
