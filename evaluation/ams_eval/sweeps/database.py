"""The numbers of all experiments of a sweep in one SQLite file; docs/evaluation.md describes the tables for its readers."""

import dataclasses
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ams_common.errors import ConfigurationError
from ams_eval.metrics import SETTLE_S
from ams_eval.outcome import Outcome
from ams_eval.result_folder import Run
from ams_eval.series import SERIES
from ams_eval.summary import Summary, summarise

FORMAT = 2
"""Raised when the tables change; other files are refused."""
_APPLICATION = int.from_bytes(b"AMSw", "big")
_BESIDE_ANOTHER = ("gain", "human_gain", "share_better")
"""Numbers of a summary that a run does not have by itself."""
_TYPES: dict[Any, str] = {str: "TEXT", int: "INTEGER", float: "REAL"}


_RUN = {
    "run_id": "INTEGER PRIMARY KEY",
    "name": "TEXT NOT NULL UNIQUE",
    "recording_digest": "TEXT",
    **{each.name: _TYPES[each.type] for each in dataclasses.fields(Summary) if each.name not in _BESIDE_ANOTHER},
    "wall_s": "REAL",
}
_RUN_ID = {"run_id": "INTEGER NOT NULL REFERENCES runs"}
TABLES: dict[str, dict[str, str]] = {
    "runs": _RUN,
    "settings": _RUN_ID | {"name": "TEXT NOT NULL", "value": ""},
    **{name: _RUN_ID | {column: _TYPES[kind] for column, kind in each.columns.items()} for name, each in SERIES.items()},
    "failures": {"name": "TEXT PRIMARY KEY", "reason": "TEXT NOT NULL"},
}
"""Columns with their types, by table."""
_INDICES = ("settings", *SERIES)


class SweepDatabase:
    """The file, open for one process; every experiment appears whole or not at all."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, or make it.

        Raises:
            ConfigurationError: it cannot be used, or is no such database.
        """
        self._path = path
        with self._failing_plainly():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        known = self._value("PRAGMA application_id"), self._value("PRAGMA user_version")
        if known == (_APPLICATION, FORMAT):
            return
        if known[0] == _APPLICATION or self._value("SELECT count(*) FROM sqlite_master"):
            raise ConfigurationError(f"{str(self._path)!r} is no database of sweeps of format {FORMAT}: name another file")
        with self._transaction():
            for table, columns in TABLES.items():
                body = ", ".join(f"{name} {kind}".strip() for name, kind in columns.items())
                self._connection.execute(f"CREATE TABLE {table} ({body})")
            for table in _INDICES:
                self._connection.execute(f"CREATE INDEX {table}_by_run ON {table} (run_id)")
            self._connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._connection.execute(f"PRAGMA user_version = {FORMAT}")

    def finished(self) -> set[str]:
        """Return the names of all experiments that are there."""
        with self._failing_plainly():
            return {name for (name,) in self._connection.execute("SELECT name FROM runs")}

    def add(self, name: str, outcome: Outcome, wall_s: float | None = None) -> None:
        """Add a finished experiment, in the place of a failure or of an earlier result under its name.

        Args:
            name: of the experiment.
            outcome: what came out.
            wall_s: seconds that it took, where they are known.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        run_id = run_id_of(name)
        (summary,) = summarise([Run(folder=Path(name), outcome=outcome, label=outcome.scheme)], SETTLE_S)
        numbers = {key: value for key, value in dataclasses.asdict(summary).items() if key in _RUN}
        run = {"run_id": run_id, "name": name, "recording_digest": outcome.recording_digest, **numbers, "wall_s": wall_s}
        with self._failing_plainly(), self._transaction():
            for table in TABLES:
                key, value = ("name", name) if table == "failures" else ("run_id", run_id)
                self._connection.execute(f"DELETE FROM {table} WHERE {key} = ?", (value,))
            self._insert("runs", [tuple(run.values())])
            self._insert("settings", [(run_id, *each) for each in sorted(outcome.settings.items())])
            for table, series in SERIES.items():
                self._insert(table, [(run_id, *each) for each in series.rows_of(outcome)])

    def fail(self, name: str, reason: str) -> None:
        """Note why an experiment failed.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        with self._failing_plainly():
            self._connection.execute("INSERT OR REPLACE INTO failures VALUES (?, ?)", (name, reason))

    def runs(self) -> dict[str, dict[str, Any]]:
        """Return the rows of all finished experiments, columns by name, by the experiment's name."""
        with self._failing_plainly():
            rows = self._connection.execute("SELECT * FROM runs").fetchall()
        return {row["name"]: row for row in (dict(zip(_RUN, each, strict=True)) for each in rows)}

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._connection.close()

    def _insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        places = ", ".join("?" * len(TABLES[table]))
        self._connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)

    def _value(self, query: str) -> int:
        (value,) = self._connection.execute(query).fetchone()
        assert isinstance(value, int)
        return value

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _failing_plainly(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ConfigurationError(f"cannot use database {str(self._path)!r}: {str(error).lower()}") from error


def run_id_of(name: str) -> int:
    """Return the number of an experiment: the same in every database, whatever was finished first."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1
