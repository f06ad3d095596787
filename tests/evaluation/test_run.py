import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from tests.evaluation.tiny_film import flags, settings_for, write_film
from tests.server.session_support import small_model

from ams_common.errors import AmsError, ConfigurationError
from ams_eval import command
from ams_eval.outcome_files import read_outcome
from ams_eval.replay.device import Shown
from ams_eval.run import run
from ams_eval.schemes import no_customisation
from ams_eval.schemes.base import Stage
from ams_eval.schemes.registry import SCHEMES


@pytest.fixture(autouse=True)
def _one_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from one model that all tests share: its export is the slowest part of so small an experiment."""
    monkeypatch.setattr("ams_eval.experiment.starting_model", lambda config: small_model())


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_experiments_make_the_same_bytes(tmp_path: Path) -> None:
    video = write_film(tmp_path)
    for out in ("first", "second"):
        arguments = [str(video), "--schemes", "none,ams", "--seeds", "2", *flags(settings_for(video))]
        assert run([*arguments, "--out", str(tmp_path / out)]) == 0
    first, second = (files_of(tmp_path / out) for out in ("first", "second"))
    assert first == second
    names = sorted({path.split("/")[1].rsplit("--", 1)[0] for path in first if path.startswith("runs/")})
    assert names == ["film--ams--s0", "film--ams--s1", "film--none--s0", "film--none--s1"]
    assert "recordings/film/moments.npz" in first


def test_what_is_finished_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_film(tmp_path)
    arguments = [str(video), "--schemes", "none", *flags(settings_for(video)), "--out", str(tmp_path / "out")]
    assert run(arguments) == 0
    monkeypatch.setattr("ams_eval.run.perform", lambda *_, **__: pytest.fail("was done again"))
    assert run(arguments) == 0
    with pytest.raises(pytest.fail.Exception):
        run([*arguments, "--scored-hz", "1"])


def test_several_devices_have_outcomes_of_their_own_beside_one_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write_film(tmp_path)
    arguments = [str(video), "--schemes", "none,ams", *flags(settings_for(video)), "--out", str(tmp_path / "out")]
    assert run([*arguments, "--devices", "2", "--latency", "label=0.1,step=0.5"]) == 0
    assert re.search(
        r"^ams, 2 devices at one server: [-+]\d+\.\d points of mIoU against one alone$", capsys.readouterr().out, re.MULTILINE
    )
    outcomes = [read_outcome(folder) for folder in sorted((tmp_path / "out" / "runs").iterdir())]
    assert sorted((each.scheme, each.seed) for each in outcomes) == [
        *(("ams", 0), ("ams x 2 devices", 0), ("ams x 2 devices", 1), ("none", 0))
    ]
    alone, first, second = (each for each in outcomes if each.scheme.startswith("ams"))
    times_s = alone.teacher.times_s.tolist()
    assert first.teacher.times_s.tolist() == times_s
    # The second device starts half an interval later; its times count from there.
    assert second.teacher.times_s == pytest.approx(times_s)
    assert max(update.queue_s for update in (*first.updates, *second.updates)) > 0.1
    with pytest.raises(ConfigurationError, match="only where work takes time"):
        run([*arguments, "--devices", "2"])


def test_a_film_shows_each_scored_frame(tmp_path: Path) -> None:
    video = write_film(tmp_path, seconds=2)
    arguments = [str(video), "--schemes", "none", *flags(settings_for(video)), "--out", str(tmp_path / "out")]
    assert run([*arguments, "--overlay-video", "--scored-hz", "0"]) == 0
    (film,) = (tmp_path / "out").glob("runs/*/overlay.mp4")
    with av.open(str(film)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 10


def test_an_interrupted_command_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video, out = write_film(tmp_path), tmp_path / "out"
    arguments = [str(video), "--schemes", "none,tracking,ams", *flags(settings_for(video)), "--out", str(out)]

    def interrupted(stage: Stage) -> Iterator[Shown]:
        yield next(no_customisation.label(stage))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(SCHEMES, "tracking", ("stops", interrupted, {}))
        with pytest.raises(KeyboardInterrupt):
            run(arguments)
    assert schemes_in(out) == ["none"]
    before = files_of(out / "runs")
    assert run(arguments) == 0
    assert schemes_in(out) == ["ams", "none", "tracking"]
    assert before.items() <= files_of(out / "runs").items()


def test_all_schemes_run_on_the_same_film(tmp_path: Path) -> None:
    video, out = write_film(tmp_path), tmp_path / "out"
    schemes = [f"{name}:steps=2" if name in ("oracle", "one-time", "authors_code") else name for name in SCHEMES]
    assert run([str(video), "--schemes", ",".join(schemes), *flags(settings_for(video)), "--out", str(out)]) == 0
    assert len(schemes_in(out)) == len(SCHEMES)


def test_a_scheme_of_one_s_own_is_compared_with_the_others(tmp_path: Path) -> None:
    video, out, mine = write_film(tmp_path), tmp_path / "out", tmp_path / "mine.py"
    mine.write_text("from ams_eval.schemes.no_customisation import label\n", encoding="utf-8")
    arguments = [str(video), *flags(settings_for(video)), "--out", str(out)]
    assert run([*arguments, "--schemes", f"none,{mine}"]) == 0
    assert schemes_in(out) == ["mine", "none"]
    mine.write_text("def label(stage):\n    return iter(())\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"scheme 'mine' shows 0 of \d+ scored frames"):
        run([*arguments, "--schemes", f"none,{mine}"])
    mine.write_text("def label(stage):\n    yield 1 // 0\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"scheme file '.*mine\.py' fails in line 2: ZeroDivisionError: "):
        run([*arguments, "--schemes", f"none,{mine}"])
    assert schemes_in(out) == ["mine", "none"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--schemes", "ams,magic"], "unknown scheme 'magic': use none, "),
        (["--schemes", "ams:learning=3"], "unknown setting 'learning=3' of a scheme"),
        (["--schemes", "ams:steps=0"], "scheme 'ams:steps=0': steps='0': input should be greater than or equal to 1"),
        (["--link", "slow"], "unknown link 'slow': neither a rate"),
        (["--latency", "label=x"], "latency 'label=x' is no number of seconds"),
        (["--uplink-kbps", "0.3"], "scheme 'ams': uplink budget of 0.3 kbit/s carries nothing at one update every 10 s: "),
        (["--schemes", "jit", "--downlink-kbps", "2"], "scheme 'jit': downlink budget of 2 kbit/s carries nothing"),
    ],
)
def test_what_a_person_must_mend_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], changes: list[str], message: str
) -> None:
    video = write_film(tmp_path)
    arguments = [str(video), *flags(settings_for(video)), "--out", str(tmp_path / "out"), *changes]
    monkeypatch.setattr("sys.argv", ["ams-eval", "run", *arguments])
    assert command.main() != 0
    *_, line = capsys.readouterr().err.strip().split("\n")
    assert line.startswith(f"ams-eval: {message}")


def test_budgets_that_a_server_would_refuse_are_told_before_any_work(tmp_path: Path) -> None:
    video, out = write_film(tmp_path), tmp_path / "out"
    arguments = [str(video), *flags(settings_for(video)), "--out", str(out), "--uplink-kbps", "2"]
    with pytest.raises(ConfigurationError, match="the least is"):
        run([*arguments, "--schemes", "none,ams"])
    assert schemes_in(out) == []
    assert run([*arguments, "--schemes", "none,tracking"]) == 0


def test_a_video_that_cannot_be_read_leaves_what_was_finished(tmp_path: Path) -> None:
    video, out = write_film(tmp_path), tmp_path / "out"
    arguments = ["--schemes", "none", *flags(settings_for(video)), "--out", str(out)]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes()[:100])
    assert run([str(video), *arguments]) == 0
    with pytest.raises(AmsError, match=r"broken\.mp4"):
        run([str(video), str(broken), *arguments])
    assert schemes_in(out) == ["none"]


def test_different_frames_under_one_name_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    video, namesake = write_film(tmp_path), write_film(other, seconds=4)
    arguments = ["--schemes", "none", *flags(settings_for(video)), "--out", str(tmp_path / "out")]
    with pytest.raises(ConfigurationError, match="two recordings are called 'film': rename one"):
        run([str(video), str(namesake), *arguments])
    assert run([str(video), str(video), *arguments]) == 0
    with pytest.raises(ConfigurationError, match="holds results on other frames of the name 'film': use another --out"):
        run([str(video), *arguments, "--duration-s", "2"])


def schemes_in(out: Path) -> list[str]:
    """Return the schemes that a folder has outcomes of."""
    return sorted(path.parent.name.split("--")[1] for path in out.glob("runs/*/outcome.json"))


def test_a_folder_that_cannot_be_made_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot make the folder .*file/out.* of --out"):
        run(["missing.mp4", "--out", str(tmp_path / "file" / "out")])


def test_the_scheme_of_a_server_is_neither_shown_nor_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["--help"])
    shown = capsys.readouterr().out
    assert "--schemes" in shown
    assert not re.search(r"^ *--scheme ", shown, re.MULTILINE)
    with pytest.raises(ConfigurationError, match="name what is to be compared with schemes, such as none,ams,jit"):
        run([str(write_film(tmp_path)), "--scheme", "jit"])


def test_labels_that_came_with_a_recording_are_its_teacher(tmp_path: Path) -> None:
    video = write_film(tmp_path)
    by_time = [str(video), "--schemes", "ams", *flags(settings_for(video))]
    by_frame = [*by_time, "--teacher", "recording", "--label-classes", str(video.with_suffix(".toml"))]
    with pytest.raises(ConfigurationError, match=r"--teacher recording needs film.teacher.npz"):
        run([*by_frame, "--out", str(tmp_path / "none")])
    shutil.copy(video.with_suffix(".npz"), tmp_path / "film.teacher.npz")
    found = []
    for name, arguments in (("time", by_time), ("frame", by_frame)):
        assert run([*arguments, "--out", str(tmp_path / name)]) == 0
        (folder,) = (tmp_path / name / "runs").iterdir()
        found.append(read_outcome(folder))
    assert found[1].settings["teacher_identity"] == "recording"
    np.testing.assert_array_equal(found[0].teacher.matrices, found[1].teacher.matrices)
    assert found[0].updates == found[1].updates
