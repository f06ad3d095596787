import csv
import dataclasses
import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console
from tests.evaluation.outcomes import outcome

from ams_eval.outcome import Outcome
from ams_eval.result_folder import Run
from ams_eval.summary import NUMBERS, Group, Summary, by_scheme, draw_summary, summarise, write_csv, write_json


def runs_of(*outcomes: Outcome) -> list[Run]:
    return [Run(folder=Path(), outcome=each, label=each.scheme) for each in outcomes]


RUNS = runs_of(outcome("none"), outcome("ams"), outcome("ams", seed=1, share=0.8))
LONG_NAME = runs_of(outcome("paper:fraction=0.01"))


def test_a_row_holds_the_numbers_of_its_run() -> None:
    none, ams, _ = summarise(RUNS)
    assert (ams.recording, ams.scheme, ams.seed, ams.frames, ams.human_frames) == ("quay", "ams", 0, 40, 10)
    # 20 s: 20 messages of 2000 bytes up, 3 updates of 4000 bytes down, 100 bytes of framing each.
    assert ams.duration_s == pytest.approx(20.0)
    assert ams.up_kbps == ams.frames_up_kbps == pytest.approx(16.0)
    assert ams.up_wire_kbps == pytest.approx(16.8)
    assert ams.down_kbps == ams.update_down_kbps == pytest.approx(4.8)
    assert ams.down_kbps_of_1024_bit == pytest.approx(4.8 * 1000 / 1024)
    assert ams.first_model_kb == pytest.approx(50.0)
    assert (ams.updates, ams.steps, ams.frames_labelled) == (3, 50, 20)
    assert ams.update_interval_mean_s == pytest.approx((16 * 5 + 24 * 7) / 40)
    assert ams.mask_overlap_mean == pytest.approx(0.5)
    assert ams.latency_mean_s == pytest.approx(1.5)
    assert ams.train_s == pytest.approx(1.0)
    assert ams.gain == pytest.approx(ams.miou_window - none.miou_window)
    assert ams.human_gain == pytest.approx(ams.human_miou_window - none.human_miou_window)
    assert 0.5 < ams.share_better <= 1


def test_what_does_not_exist_is_not_a_number() -> None:
    (none,) = summarise(runs_of(outcome("none", human=False)))
    missing = ("human_miou_summed", "gain", "share_better", "model_age_mean_s", "loss_mean", "sampling_mean_hz", "train_s")
    assert all(math.isnan(getattr(none, name)) for name in missing)
    assert none.up_kbps == none.first_model_kb == none.human_frames == 0
    assert all(math.isnan(row.gain) for row in summarise(RUNS[1:]))


def test_late_numbers_leave_the_start_out() -> None:
    _, ams, _ = summarise(RUNS, settle_s=5.0)
    assert ams.late_miou_summed > ams.miou_summed
    assert math.isnan(summarise(RUNS)[1].late_miou_summed)


def row(recording: str, seed: int, value: float) -> Summary:
    return dataclasses.replace(summarise(RUNS)[1], recording=recording, seed=seed, miou_window=value)


def test_means_are_over_recordings_of_means_over_seeds() -> None:
    group = Group((row("a", 0, 0.5), row("a", 1, 0.7), row("b", 0, 0.9)))
    assert group.mean("miou_window") == pytest.approx((0.6 + 0.9) / 2)
    assert group.seeds() == 2


def test_the_deviation_is_between_seeds_not_between_recordings() -> None:
    group = Group((row("a", 0, 0.5), row("b", 0, 0.9), row("a", 1, 0.6), row("b", 1, 1.0)))
    assert group.deviation("miou_window") == pytest.approx(math.sqrt(2 * 0.05**2))
    assert math.isnan(Group((row("a", 0, 0.5), row("b", 0, 0.9))).deviation("miou_window"))
    assert math.isnan(group.mean("late_miou_window"))
    assert math.isnan(Group((row("a", 0, 0.5), row("b", 1, 0.9))).deviation("miou_window"))


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


def test_the_table_for_a_terminal_fits_it() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(draw_summary(summarise(RUNS + LONG_NAME)))
    lines = console.export_text().splitlines()
    (ams,) = (line for line in lines if line.strip().startswith("ams"))
    assert "4.8" in ams
    assert "…" not in "".join(lines)
    assert [group.scheme for group in by_scheme(summarise(RUNS))] == ["none", "ams"]
