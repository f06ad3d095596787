"""Worker processes that do jobs, and tell of it; one that dies costs its job alone."""

import contextlib
import logging
import multiprocessing
import signal
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Generic, TypeAlias, TypeVar

from ams_common.clock import SystemClock
from ams_common.errors import AmsError

JobT = TypeVar("JobT")
Report: TypeAlias = Callable[[int], None]
"""Tells how far a job is."""
MakeWorker: TypeAlias = Callable[[], Callable[[JobT, Report], None]]
"""Called once in each process, makes what does the jobs there; a function of a module, since a new process must find it."""
PATIENCE_S = 5.0
"""Time that a process has to end when it is asked to."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Event(Generic[JobT]):
    """Something about one job."""

    worker: int
    """Number of its process, from 0."""
    job: JobT


class Started(Event[JobT]):
    """A process took the job."""


@dataclass(frozen=True, kw_only=True)
class Advanced(Event[JobT]):
    """The job is on its way."""

    done: int


@dataclass(frozen=True, kw_only=True)
class Finished(Event[JobT]):
    """The job is done."""

    wall_s: float
    """Seconds that it took."""


@dataclass(frozen=True, kw_only=True)
class Failed(Event[JobT]):
    """The job failed, or its process died."""

    reason: str
    """One line."""


def run_jobs(next_job: Callable[[], JobT | None], workers: int, make_worker: MakeWorker[JobT]) -> Generator[Event[JobT]]:
    """Do jobs by at most that many processes, and yield what becomes of them, until there is none and all are done.

    A process is given one job at a time. To stop early, close the iterator: no process is left behind.

    Args:
        next_job: returns what is to be done next, or None if that has to wait for what is being done.
        workers: processes at most; each starts with its first job.
        make_worker: see MakeWorker.
    """
    pool = [_Process(number, make_worker) for number in range(workers)]
    try:
        while True:
            for process in pool:
                if process.job is None and (job := next_job()) is not None:
                    process.give(job)
                    yield Started(worker=process.number, job=job)
            busy = {process.connection: process for process in pool if process.job is not None}
            if not busy:
                return
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                yield busy[ready].receive()
    finally:
        for process in pool:
            process.stop()


class _Process(Generic[JobT]):
    """The parent's side of a process, which starts with its first job, and anew with the next one after it has died."""

    def __init__(self, number: int, make_worker: MakeWorker[JobT]) -> None:
        self.number = number
        self.job: JobT | None = None
        self._make_worker = make_worker
        self._process: SpawnProcess | None = None

    def give(self, job: JobT) -> None:
        """Give the process a job; `receive` tells of it."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self.connection, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._make_worker), daemon=True)
            self._process.start()
            theirs.close()
        self.job = job
        with contextlib.suppress(OSError):  # that a process has died is noticed by `receive`
            self.connection.send(job)

    def receive(self) -> Event[JobT]:
        """Return what the process says of its job, or that it has died."""
        job = self.job
        assert job is not None
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            self.job = None
            return Failed(worker=self.number, job=job, reason=self._bury())
        if isinstance(message, int):
            return Advanced(worker=self.number, job=job, done=message)
        self.job = None
        if isinstance(message, float):
            return Finished(worker=self.number, job=job, wall_s=message)
        return Failed(worker=self.number, job=job, reason=message)

    def stop(self) -> None:
        """End the process, whatever it does; may be called twice."""
        if self._process is None:
            return
        if self.job is not None:
            self._process.terminate()
        self._bury()

    def _bury(self) -> str:
        """See the process end, and return how it did."""
        assert self._process is not None
        self.connection.close()
        self._process.join(PATIENCE_S)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        status = self._process.exitcode or 0
        self._process.close()
        self._process = None
        return f"its process was ended by signal {-status}" if status < 0 else f"its process ended with status {status}"


def _serve(connection: Connection, make_worker: MakeWorker[JobT]) -> None:
    """Do the jobs that come, until nobody is there to send any; a job's answer is an int on the way, a float or a str last."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent ends its children
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that what libraries have to tidy up is tidied up
    clock = SystemClock()
    work: Callable[[JobT, Report], None] | None = None
    with contextlib.suppress(EOFError, OSError):
        while True:
            job = connection.recv()
            started_s = clock.now_s()
            try:
                work = work or make_worker()
                work(job, connection.send)
                answer: float | str = clock.now_s() - started_s
            except Exception as error:
                answer = _reason(error)
            connection.send(answer)


def _reason(error: Exception) -> str:
    """Return one line; what no user can have caused is logged in full as well."""
    text = " ".join(str(error).split()) or "no reason is known"
    if isinstance(error, AmsError):
        return text
    _log.debug("a job failed", exc_info=error)
    return f"{type(error).__name__}: {text}"
