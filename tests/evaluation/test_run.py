from pathlib import Path

import pytest
from tests.evaluation.tiny_film import flags, settings_for, write_film
from tests.server.session_support import small_model

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
