"""A log of what happened, one JSON object a line, for reports and tests; people read the ordinary log instead."""

import contextlib
import json
import logging
import threading
from pathlib import Path
from typing import TextIO, TypeAlias

from ams_common.clock import Clock
from ams_common.earlier_outputs import set_aside
from ams_common.errors import ConfigurationError, system_reason

EventValue: TypeAlias = str | int | float | bool | list[float] | list[int] | list[str] | None

_FIRST_BYTES = b'{"event": '
"""How every line of a log begins."""

_log = logging.getLogger(__name__)


class EventLog:
    """Appends events to a JSON-lines file; with no path it swallows them. May be used from several threads.

    A disk that takes no more, a full one for example, costs one warning and the later events, never the process.
    """

    def __init__(self, path: Path | None, clock: Clock) -> None:
        """Begin a log at `path`; an earlier one there is kept as NAME-1, NAME-2, ...

        Raises:
            ConfigurationError: it cannot be written, or holds something else than a log.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._file: TextIO | None = None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if _holds_log(path):
                    set_aside(path, "--events")
                self._file = path.open("w", encoding="utf-8", buffering=1)
            except OSError as error:
                raise ConfigurationError(f"cannot write the event log {str(path)!r}: {system_reason(error)}") from error

    def write(self, event: str, **values: EventValue) -> None:
        """Append one event; `time_s` is the clock's time."""
        if self._file is None:
            return
        line = json.dumps({"event": event, "time_s": round(self._clock.now_s(), 6), **values})
        with self._lock:
            if self._file.closed:
                return
            try:
                self._file.write(line + "\n")
            except OSError as error:
                _log.warning("the event log has stopped: %s", system_reason(error))
                self._let_go()

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        """Close the file; what the disk does not take is lost."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()


def _holds_log(path: Path) -> bool:
    """Tell whether there are events in a file.

    Raises:
        ConfigurationError: there is something else: a slip in a command must not cost a recording or a configuration.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(len(_FIRST_BYTES))
    if start and start != _FIRST_BYTES:
        raise ConfigurationError(f"cannot write the event log {str(path)!r}: it holds something else, name another file")
    return bool(start)


def read_events(path: Path) -> list[dict[str, EventValue]]:
    """Return the events of a log file in order; a last line cut short by a crash is left out."""
    events: list[dict[str, EventValue]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return events
