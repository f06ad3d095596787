import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console
from tests.evaluation.demo_results import NO_LOG, demo_result

from ams_eval.live import Budgets
from ams_eval.result import count_numbers, draw_tables, facts, number, percent, points, write_json


def table_of(*, exact: bool) -> str:
    result = demo_result(exact=exact)
    output = io.StringIO()
    Console(file=output, width=80).print(draw_tables(result, count_numbers(result)))
    return output.getvalue()


def test_rates_are_those_of_the_time_that_the_video_played() -> None:
    numbers = count_numbers(demo_result())
    assert numbers.uplink_kbps == pytest.approx(100.0)  # 12,500 bytes a second
    assert numbers.downlink_kbps == pytest.approx(40.0)
    assert numbers.first_model_kb == pytest.approx(400.0)
    assert numbers.downlink_with_model_kbps == pytest.approx((400_000 + 9 * 5_000) * 8e-3 / 20.0)


def test_frames_are_counted_against_the_source() -> None:
    numbers = count_numbers(demo_result())
    assert (numbers.frames_run, numbers.frames_dropped) == (95, 5)
    assert (numbers.edge_fps, numbers.source_fps) == (9.5, 10.0)
    assert numbers.scored_frames == 20


def test_updates_have_a_latency_and_the_model_an_age() -> None:
    numbers = count_numbers(demo_result())
    assert numbers.updates == 2
    assert (numbers.update_latency_median_s, numbers.update_latency_max_s) == (2.5, 3.0)
    assert (numbers.model_age_mean_s, numbers.model_age_p95_s) == pytest.approx((6.0, 8.7))


def test_scores_are_those_of_the_whole_recording() -> None:
    numbers = count_numbers(demo_result())
    assert [numbers.teacher_without, numbers.teacher_adapted] == pytest.approx([0.6, 1.0])
    assert [numbers.exact_without, numbers.exact_adapted, numbers.exact_teacher] == pytest.approx([0.6, 1.0, 1.0])


def test_without_exact_labels_there_are_no_scores_of_them() -> None:
    numbers = count_numbers(demo_result(exact=False))
    assert math.isnan(numbers.exact_without)
    assert math.isnan(numbers.exact_teacher)
    assert "exact" not in table_of(exact=False)


def test_a_run_in_which_nothing_happened_has_no_numbers_but_does_not_fail() -> None:
    numbers = count_numbers(demo_result(log=NO_LOG))
    assert numbers.updates == 0
    told = {name: (value, remark) for name, value, remark in facts(Budgets(0.0, 0.0), numbers)}
    assert told["model age"] == told["capture to swap"] == ("–", "no update took effect")
    for value in (numbers.uplink_kbps, numbers.update_latency_max_s, numbers.inference_p50_ms, numbers.model_age_mean_s):
        assert math.isnan(value)


def test_the_table_says_what_was_asked_for() -> None:
    table = table_of(exact=True)
    for words in (
        "mIoU against the teacher",
        "60.0 %",
        "+40.0",
        "mIoU against exact labels",
        "100 kbit/s",
        "budget 200",
        "40 kbit/s",
        "budget 300",
        "first model 400 kB",
        "9.5 frames/s",
        "5 dropped",
        "2.50 s median",
        "3.00 s at most",
        "5.0 ms median",
    ):
        assert words in table


def test_no_budget_is_no_limit() -> None:
    rows = {name: remark for name, _, remark in facts(Budgets(0.0, 300.0), count_numbers(demo_result()))}
    assert rows["uplink"] == "no limit"
    assert rows["downlink, updates"] == "budget 300"


def test_the_json_holds_all_numbers_and_is_strict(tmp_path: Path) -> None:
    result = demo_result(exact=False)
    write_json(result, count_numbers(result), tmp_path / "demo.json")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads((tmp_path / "demo.json").read_text(), parse_constant=refuse)
    assert document["numbers"]["teacher_adapted"] == 1.0
    assert document["numbers"]["exact_adapted"] is None
    assert document["against_exact"] is None
    assert document["against_teacher"]["without"]["class_iou"][:3] == [0.6, 0.6, None]
    assert document["against_teacher"]["frame_gain"] == pytest.approx([0.4] * 20)
    assert len(document["run"]["seconds"]) == 10
    assert document["phases"][1] == {"name": "rain & fog", "start_s": 5.0, "end_s": 10.0}


def test_what_is_not_known_is_a_dash() -> None:
    assert (percent(math.nan), points(math.nan), number(math.nan, 1)) == ("–", "–", "–")
    assert (percent(0.6127), points(-0.031), number(2.345, 1)) == ("61.3 %", "-3.1", "2.3")


@pytest.mark.parametrize("gain", [0.0, -0.0, -0.0004, 0.0004])
def test_a_difference_of_nothing_has_no_minus(gain: float) -> None:
    assert points(gain) == "+0.0"
