"""What a person sees while a sweep runs."""

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ams_eval.sweeps.jobs import LabelJob
from ams_eval.sweeps.pool import Advanced, Event, Failed, Started

_ESTIMATE_S = 900.0
"""Experiments differ in speed, so the time left is judged by that many of the last seconds."""


def sweep_progress(console: Console) -> Progress:
    """Return the progress that a Board is drawn on."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(*columns, console=console, speed_estimate_period=_ESTIMATE_S)


class Board:
    """One line for the whole sweep with the time left, and one for each process."""

    def __init__(self, progress: Progress, *, jobs: int, frames: int) -> None:
        self._progress = progress
        self._jobs = jobs
        self._done = 0
        self._failed = 0
        self._whole = self._progress.add_task(self._title(), total=frames)
        self._rows: dict[int, TaskID] = {}
        self._counted: dict[int, int] = {}

    def show(self, event: Event[LabelJob]) -> None:
        """Take note of what a process does."""
        if isinstance(event, Started):
            self._start(event)
            return
        if isinstance(event, Advanced):
            self._count(event, event.done)
            return
        self._count(event, event.job.frames)
        self._progress.remove_task(self._rows.pop(event.worker))
        self._done += 1
        self._failed += isinstance(event, Failed)
        self._progress.update(self._whole, description=self._title())

    def give_up(self, job: LabelJob) -> None:
        """Take note of a job that no process was given and none will be."""
        self._done += 1
        self._failed += 1
        self._progress.update(self._whole, description=self._title(), advance=job.frames)

    def _start(self, event: Event[LabelJob]) -> None:
        self._rows[event.worker] = self._progress.add_task(f"  {escape(event.job.title)}", total=event.job.frames)
        self._counted[event.worker] = 0

    def _count(self, event: Event[LabelJob], done: int) -> None:
        self._progress.update(self._rows[event.worker], completed=done)
        self._progress.update(self._whole, advance=done - self._counted[event.worker])
        self._counted[event.worker] = done

    def _title(self) -> str:
        return f"{self._done} of {self._jobs} done" + (f", {self._failed} failed" if self._failed else "")
