import csv
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress
from tests.evaluation.tiny_film import flags, settings_for, write_film
from tests.server.session_support import small_model

from ams_common.clock import ManualClock
from ams_common.errors import AmsError, ConfigurationError
from ams_common.settings import load_settings
from ams_eval.inputs.layouts import open_recordings
from ams_eval.local import LocalSettings, distil_recordings, run
from ams_eval.local_report import CSV_NAME, JSON_NAME, LocalRow

JIT = {"jit_min_stride": 2, "jit_learning_rate": 1e-3}


@pytest.fixture(autouse=True)
def _one_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from one model that all tests share: its export is the slowest part of so small an experiment."""
    monkeypatch.setattr("ams_eval.experiment.starting_model", lambda config: small_model())


def arguments(video: Path, out: Path, **changes: Any) -> list[str]:
    return [str(video), *flags({**settings_for(video), **JIT, **changes}), f"--out={out}"]


def rows_at_no_cost(video: Path, out: Path, **changes: Any) -> list[LocalRow]:
    """Distil under a clock that stands still."""
    settings = load_settings(LocalSettings, arguments(video, out, **changes))
    progress = Progress(console=Console(quiet=True))
    return distil_recordings(settings, open_recordings(video, settings), ManualClock(), progress)


def test_each_threshold_gets_a_line_beside_the_student_without_learning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write_film(tmp_path)
    human = {"human_labels": video.with_suffix(".npz"), "label_classes": video.with_suffix(".toml")}
    assert run(arguments(video, tmp_path / "out", thresholds="0.5,0.95", **human)) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines() if "–" in line or line.strip().startswith("0.")] == [
        *("none", "0.5", "0.95")
    ]
    assert "published for JITNet" in shown
    with (tmp_path / "out" / CSV_NAME).open(encoding="utf-8", newline="") as file:
        untaught, easy, hard = csv.DictReader(file)
    assert (untaught["labelled"], untaught["steps"], untaught["speed_up"]) == ("0", "0", "")
    assert int(easy["steps"]) < int(hard["steps"])
    assert int(easy["labelled"]) <= int(hard["labelled"]) <= 15
    assert float(hard["miou_frame"]) > float(untaught["miou_frame"]) + 0.2
    assert hard["frames"] == hard["human_frames"] == "30"
    # The exact labels are the teacher's own.
    assert hard["miou_summed"] == hard["human_miou_summed"]
    assert float(hard["teacher_ms"]) > 0
    assert float(hard["student_ms"]) > 0
    assert float(hard["step_ms"]) > 0


def test_all_but_the_times_is_the_same_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = write_film(tmp_path, seconds=3)
    for out in ("first", "second"):
        rows = rows_at_no_cost(video, tmp_path / out, thresholds="0.9")
    assert [math.isnan(row.threshold) for row in rows] == [True, False]
    assert all(math.isnan(row.speed_up) for row in rows)
    for name in (JSON_NAME, CSV_NAME):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    text = (tmp_path / "first" / JSON_NAME).read_text(encoding="utf-8")
    assert '"selection": "full"' in text
    assert "jit_accuracy" not in text
    assert '"machine": "cpu, threads: 1"' in text
    assert "read no speed-up" in caplog.text


def test_a_person_hears_of_learning_that_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = write_film(tmp_path, seconds=2)
    with caplog.at_level(logging.WARNING):
        untaught, taught = rows_at_no_cost(video, tmp_path, thresholds="1", jit_learning_rate=1e30)
    assert taught.undone == taught.labelled == 5
    assert taught.miou_summed == untaught.miou_summed
    assert "film at threshold 1: learning 5 of 5 frames failed and was undone" in caplog.text


def test_only_part_of_the_parameters_may_learn(tmp_path: Path) -> None:
    video = write_film(tmp_path, seconds=2)
    full, part = (
        rows_at_no_cost(video, tmp_path, thresholds="1", **changes)[1]
        for changes in ({}, {"selection": "gradient_guided", "fraction": 0.01})
    )
    assert full.miou_frame > part.miou_frame


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--thresholds=0.7,1.5", "--thresholds=0.7,1.5: 1.5 is not above 0 and at most 1"),
        ("--thresholds=0", "--thresholds=0: 0 is not above"),
        ("--thresholds=high", "--thresholds=high: input should be a valid number"),
        ("--scheme=ams", "scheme=ams is for devices at a server: use ams-eval run"),
        ("--jit-accuracy=0.8", "jit_accuracy=0.8 is given: write --thresholds 0.8 instead"),
        ("--batch-norm=train", "scheme=jit learns one frame after another"),
    ],
)
def test_settings_that_cannot_work_are_named(given: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        run(["film.mp4", given])
    assert message in str(raised.value)


def test_a_video_that_is_not_there_or_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(AmsError, match=r"there is no video or folder '/nowhere\.mp4'"):
        run(["/nowhere.mp4"])
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    with pytest.raises(AmsError, match=r"broken\.mp4"):
        run([str(broken)])


def test_different_videos_of_one_name_are_refused(tmp_path: Path) -> None:
    videos = []
    for seconds in (1, 2):
        (tmp_path / str(seconds)).mkdir()
        videos.append(str(write_film(tmp_path / str(seconds), seconds=seconds)))
    with pytest.raises(ConfigurationError, match="two recordings are called 'film'"):
        run(videos)


def test_finished_recordings_stay_when_a_later_one_fails(tmp_path: Path) -> None:
    video = write_film(tmp_path, seconds=2)
    longer = write_film(tmp_path, "longer", seconds=4)
    settings = load_settings(LocalSettings, [str(longer), *arguments(video, tmp_path / "out", thresholds="0.5")])
    recordings = [recording for path in settings.videos for recording in open_recordings(path, settings)]
    recordings.sort(key=lambda recording: recording.frame_count)
    with pytest.raises(ConfigurationError, match="no label for a frame at"):
        distil_recordings(settings, recordings, ManualClock(), Progress(console=Console(quiet=True)))
    assert "film,0.5,10," in (tmp_path / "out" / CSV_NAME).read_text(encoding="utf-8")
