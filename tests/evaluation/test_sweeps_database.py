import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.outcomes import outcome

from ams_common.errors import ConfigurationError
from ams_eval.metrics import running_traffic
from ams_eval.result_folder import Run
from ams_eval.series import SERIES, Row, Series
from ams_eval.summary import summarise
from ams_eval.sweeps.database import FORMAT, TABLES, SweepDatabase, run_id_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "sweep.sqlite"


@pytest.fixture
def database(path: Path) -> Iterator[SweepDatabase]:
    with closing(SweepDatabase(path)) as found:
        yield found


def query(path: Path, text: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(text).fetchall()


def test_a_run_has_the_numbers_of_its_summary(database: SweepDatabase, path: Path) -> None:
    made = outcome("ams", settings={"fraction": 0.2, "optimizer": "sgd"})
    database.add("quay--ams", made, wall_s=2.5)
    row = database.runs()["quay--ams"]
    (summary,) = summarise([Run(folder=path, outcome=made, label="ams")])
    for name in ("scheme", "seed", "miou_window", "human_late_miou_frame", "down_wire_kbps", "updates", "model_age_p95_s"):
        expected = getattr(summary, name)
        assert row[name] == (None if expected != expected else expected), name
    assert row["wall_s"] == 2.5
    assert row["recording_digest"] == "abcd"
    assert database.finished() == {"quay--ams"}
    settings = dict(query(path, "SELECT name, value FROM settings"))
    assert settings == {"student": "jitnet", "fraction": 0.2, "link": None, "optimizer": "sgd"}
    assert query(path, "SELECT count(*) FROM settings WHERE name = 'fraction' AND value > 0.1") == [(1,)]


def test_what_happened_over_time_is_there(database: SweepDatabase, path: Path) -> None:
    made = outcome("ams")
    database.add("quay--ams", made)
    frames = query(path, "SELECT time_s, teacher_miou, human_miou, version FROM frames ORDER BY time_s")
    assert [frame[0] for frame in frames] == made.teacher.times_s.tolist()
    assert [frame[1] for frame in frames] == made.teacher.frame_miou().tolist()
    assert made.human is not None
    assert [frame[2] for frame in frames if frame[2] is not None] == made.human.frame_miou().tolist()
    assert [frame[3] for frame in frames] == made.versions.tolist()
    assert query(path, "SELECT version, steps, mask_overlap FROM updates ORDER BY version") == [
        (1, 20, None),
        (2, 20, 0.5),
        (3, 10, 0.5),
    ]
    sent = query(path, "SELECT sum(payload_bytes), sum(wire_bytes) FROM transfers WHERE kind != 'model' AND direction = 'up'")
    assert sent == [tuple(running_traffic(made, "up"))]
    assert query(path, "SELECT kind, payload_bytes FROM transfers WHERE second = 9 ORDER BY kind") == [
        ("frames", 2000),
        ("update", 4000),
    ]


def test_numbers_that_do_not_exist_are_null(database: SweepDatabase, path: Path) -> None:
    database.add("quay--none", outcome("none", human=False))
    assert query(path, "SELECT human_miou_window, model_age_mean_s, wall_s FROM runs") == [(None, None, None)]
    assert query(path, "SELECT count(*) FROM frames WHERE human_miou IS NOT NULL OR model_age_s IS NOT NULL") == [(0,)]


def test_a_run_that_is_added_again_is_there_once(database: SweepDatabase, path: Path) -> None:
    database.fail("quay--ams", "the disk is full")
    assert query(path, "SELECT * FROM failures") == [("quay--ams", "the disk is full")]
    database.add("quay--ams", outcome("ams"))
    database.add("quay--none", outcome("none"))
    before = {table: query(path, f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in TABLES if table != "failures"}
    database.add("quay--ams", outcome("ams"))
    for table, rows in before.items():
        assert query(path, f"SELECT * FROM {table} ORDER BY 1, 2, 3") == rows
    assert query(path, "SELECT * FROM failures") == []


def test_a_run_appears_whole_or_not_at_all(database: SweepDatabase, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> list[Row]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ams_eval.sweeps.database.SERIES", {**SERIES, "transfers": Series({}, fail)})
        with pytest.raises(KeyboardInterrupt):
            database.add("quay--ams", outcome("ams"))
    assert all(query(path, f"SELECT count(*) FROM {table}") == [(0,)] for table in TABLES)
    database.add("quay--ams", outcome("ams"))
    assert database.finished() == {"quay--ams"}


def test_a_database_is_opened_again(path: Path) -> None:
    for name in ("quay--ams", "quay--none"):
        with closing(SweepDatabase(path)) as database:
            database.add(name, outcome(name.removeprefix("quay--")))
    with closing(SweepDatabase(path)) as database:
        assert database.finished() == {"quay--ams", "quay--none"}


def test_numbers_of_runs_do_not_depend_on_who_was_first() -> None:
    assert run_id_of("quay--ams") == 499772607609934871
    assert 0 <= run_id_of("quay--none") <= 2**63 - 1


@pytest.mark.parametrize("content", [b"no database at all, but long enough" * 40, None])
def test_other_files_are_refused(path: Path, content: bytes | None) -> None:
    path.parent.mkdir()
    if content is None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE mine (a)")
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"sweep.sqlite") as caught:
        SweepDatabase(path)
    assert "\n" not in str(caught.value)


def test_a_database_of_another_format_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ams_eval.sweeps.database.FORMAT", FORMAT + 1)
    SweepDatabase(path).close()
    monkeypatch.undo()
    with pytest.raises(ConfigurationError, match=f"is no database of sweeps of format {FORMAT}"):
        SweepDatabase(path)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="cannot use database"):
        SweepDatabase(tmp_path / "file" / "sweep.sqlite")


def test_nan_is_what_sqlite_takes_for_null() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        assert connection.execute("SELECT ?", (math.nan,)).fetchone() == (None,)
