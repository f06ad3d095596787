import re
from pathlib import Path

import pytest
from tests.evaluation.html_checks import elements, parsed

from ams_common.errors import ConfigurationError
from ams_eval.runner import ExperimentConfig
from ams_eval.sweeps.agenda import Planned
from ams_eval.sweeps.drawing import write_curves
from ams_eval.sweeps.jobs import ExperimentJob
from ams_eval.sweeps.rows import Row
from ams_eval.sweeps.sweep_file import Point

CONFIG = ExperimentConfig()


def planned(kbps: int, recording: str) -> Planned:
    job = ExperimentJob(
        config=CONFIG,
        source=Path(),
        recording=recording,
        frames=1,
        out=Path(),
        scheme="ams",
        seed=0,
        name=f"{recording} {kbps}",
    )
    point = Point(scheme="ams", config=CONFIG, varied={"downlink_kbps": kbps}, axes=("downlink_kbps",))
    return Planned(point=point, job=job)


def row(kbps: float, recording: str, *, miou: float = 0.5, human: float | None = None) -> Row:
    return {
        "recording": recording,
        "seed": 0,
        "miou_window": miou,
        "human_miou_window": human,
        "human_frames": 0 if human is None else 5,
        "up_kbps": 150.0,
        "down_kbps": kbps,
        "model_age_mean_s": 8.0,
    }


PLAN = [planned(kbps, recording) for recording in ("quay", "pier") for kbps in (5, 25)]
RUNS: dict[str, Row] = {
    "quay 5": row(4, "quay", human=0.3),
    "quay 25": row(20, "quay", miou=0.6, human=0.4),
    "pier 5": row(6, "pier"),
    "pier 25": row(30, "pier", miou=0.8),
}


def titles(out: Path) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", (out / "sweep.html").read_text(encoding="utf-8"))


def hints(out: Path) -> list[str]:
    svg = (out / "figures/down_kbps.svg").read_text(encoding="utf-8")
    return [each.text or "" for each in elements(svg, "title")[1:]]


def test_means_and_each_recording_are_drawn(tmp_path: Path) -> None:
    assert write_curves(PLAN, RUNS, "mine", tmp_path) == f"curves: {tmp_path / 'sweep.html'}"
    assert titles(tmp_path) == [
        "mean of 2 recordings, against the teacher",
        "quay, against human labels",
        "quay, against the teacher",
        "quay, against human labels",
        "pier, against the teacher",
    ]
    assert hints(tmp_path) == [
        "ams, downlink_kbps=5: 50.0 % at 5 kbit/s, 1 seed",
        "ams, downlink_kbps=25: 70.0 % at 25 kbit/s, 1 seed",
    ]
    page = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    assert "30.0 % at 4 kbit/s" in page, "kilobits are of the recording that people have labelled"
    assert "missing" not in parsed(page).text
    assert [each.name for each in (tmp_path / "figures").iterdir()] == ["down_kbps.svg"]


def test_a_recording_of_which_nothing_is_finished_is_left_out_and_told(tmp_path: Path) -> None:
    runs = {name: each for name, each in RUNS.items() if name.startswith("quay")}
    write_curves(PLAN, runs, "mine", tmp_path)
    assert titles(tmp_path) == ["quay, against the teacher", "quay, against human labels"]
    text = parsed((tmp_path / "sweep.html").read_text(encoding="utf-8")).text
    assert "2 of 4 experiments are missing, all of pier" in text


def test_a_point_that_missed_a_recording_is_left_out_of_the_means(tmp_path: Path) -> None:
    plan = [*PLAN, planned(100, "quay"), planned(100, "pier")]
    runs = RUNS | {"quay 100": row(90, "quay", miou=0.9)}
    write_curves(plan, runs, "mine", tmp_path)
    assert len(hints(tmp_path)) == 2
    page = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    assert "ams, downlink_kbps=100: 90.0 % at 90 kbit/s" in page, "it stands on its recording"
    assert "1 of 6 experiments are missing" in parsed(page).text


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ({}, "no sweep.html: 4 of 4 experiments are missing, all of quay, pier"),
        ({name: row(10, each["recording"]) for name, each in RUNS.items()}, "no sweep.html: nothing differs"),
    ],
)
def test_without_anything_to_draw_nothing_old_stays(tmp_path: Path, runs: dict[str, Row], told: str) -> None:
    write_curves(PLAN, RUNS, "mine", tmp_path)
    assert write_curves(PLAN, runs, "mine", tmp_path).startswith(told)
    assert not (tmp_path / "sweep.html").exists()
    assert list((tmp_path / "figures").iterdir()) == []


def test_a_folder_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "sweep.html").mkdir()
    with pytest.raises(ConfigurationError, match=r"cannot remove '.*sweep.html'"):
        write_curves(PLAN, {}, "mine", tmp_path)
