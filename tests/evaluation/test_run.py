from pathlib import Path

import av
import pytest
from tests.evaluation.tiny_film import flags, settings_for, write_film
from tests.server.session_support import small_model

from ams_common.errors import ConfigurationError
from ams_eval.outcome_files import read_outcome
from ams_eval.run import run


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


def test_several_devices_have_outcomes_of_their_own_beside_one_alone(tmp_path: Path) -> None:
    video = write_film(tmp_path)
    arguments = [str(video), "--schemes", "none,ams", *flags(settings_for(video)), "--out", str(tmp_path / "out")]
    assert run([*arguments, "--devices", "2", "--latency", "label=0.1,step=0.5"]) == 0
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
