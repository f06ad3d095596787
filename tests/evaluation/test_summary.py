import dataclasses
import math

import pytest
from tests.evaluation.outcomes import RUNS, outcome, runs_of, transfer

from ams_eval.summary import summarise


def test_a_row_holds_the_numbers_of_its_run() -> None:
    none, ams, _ = summarise(RUNS)
    assert (ams.recording, ams.scheme, ams.seed, ams.frames, ams.human_frames) == ("quay", "ams", 0, 40, 10)
    # 20 s: 20 messages of 2000 bytes up, 3 updates of 4000 bytes down, 100 bytes of framing each.
    assert ams.duration_s == pytest.approx(20.0)
    assert ams.up_kbps == ams.frames_up_kbps == pytest.approx(16.0)
    assert ams.up_wire_kbps == ams.frames_up_wire_kbps == pytest.approx(16.8)
    assert ams.down_kbps == ams.update_down_kbps == pytest.approx(4.8)
    assert ams.down_wire_kbps == ams.update_down_wire_kbps == pytest.approx(4.92)
    assert ams.down_kbps_of_1024_bit == pytest.approx(4.8 * 1000 / 1024)
    assert (ams.first_model_kb, ams.first_model_wire_kb) == pytest.approx((50.0, 50.1))
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


def test_the_kinds_of_what_is_sent_add_up_to_all_of_it() -> None:
    on = outcome("ams")
    others = (transfer(3.0, "down", "labels", 700), transfer(4.0, "up", "control", 30), transfer(4.5, "down", "control", 20))
    (row,) = summarise(runs_of(dataclasses.replace(on, transfers=(*on.transfers, *others))))
    assert row.labels_down_kbps == pytest.approx(700 * 8e-3 / 20)
    assert row.control_up_wire_kbps == pytest.approx(130 * 8e-3 / 20)
    for way, kinds in (("up", ("frames", "control")), ("down", ("labels", "update", "control"))):
        for unit in ("kbps", "wire_kbps"):
            parts = [getattr(row, f"{kind}_{way}_{unit}") for kind in kinds]
            assert sum(parts) == pytest.approx(getattr(row, f"{way}_{unit}"))
            assert min(parts) > 0
