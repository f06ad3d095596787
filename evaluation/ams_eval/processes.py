"""Child processes that are watched and never left behind."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from ams_common.errors import AmsError

LAST_LINES = 12
"""Lines of a log that are shown when its process has failed."""
PATIENCE_S = 15.0
"""Time that a process has to end after it was asked to."""
_SETTINGS_PREFIX = "AMS_"


class ProcessFailedError(AmsError):
    """A process of the demo ended before its time."""


class ChildProcess:
    """A running command whose output goes to a file."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        """Start `command` with the environment of this process, less its AMS_ settings: the command says everything.

        Raises:
            ProcessFailedError: it cannot be started.
        """
        self.name = name
        self._log = log
        environment = {key: value for key, value in os.environ.items() if not key.startswith(_SETTINGS_PREFIX)}
        try:
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
                )
        except OSError as error:
            raise ProcessFailedError(f"cannot start {name}: {error}") from error

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def finished(self) -> bool:
        """Tell whether the process has ended well.

        Raises:
            ProcessFailedError: it has ended with another status than 0; the message holds the end of its log.
        """
        status = self._process.poll()
        if status is None or status == 0:
            return status is not None
        raise self._failure(_describe_status(status))

    def require_running(self) -> None:
        """See that the process is there.

        Raises:
            ProcessFailedError: it has ended, even well.
        """
        if self.finished():
            raise self._failure("ended by itself")

    def stop(self, patience_s: float = PATIENCE_S) -> None:
        """Ask the process to end, make it after `patience_s` seconds, and see it end. May be called twice."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _failure(self, what: str) -> ProcessFailedError:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        quoted = "".join(f"\n  {line}" for line in lines)
        return ProcessFailedError(f"{self.name} {what}; the end of {self._log}:{quoted or ' it is empty'}")


@contextlib.contextmanager
def child_process(name: str, command: Sequence[str], log: Path) -> Iterator[ChildProcess]:
    """Run `command` as long as the block; it has ended when the block is left, however that happens.

    Raises:
        ProcessFailedError: it cannot be started.
    """
    child = ChildProcess(name, command, log)
    try:
        yield child
    finally:
        child.stop()


@contextlib.contextmanager
def termination_as_exit() -> Iterator[None]:
    """Turn SIGTERM into SystemExit within the block, so that `finally` clauses run and children end with their parent."""

    def leave(number: int, frame: object) -> None:
        """Leave by the way of an exception; a signal handler."""
        del frame
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _describe_status(status: int) -> str:
    return f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
