"""What a person sees while server and edge run."""

from collections import deque
from types import TracebackType
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ams_common.clock import Clock
from ams_eval.run_log import Event, Second, Swap, named, parse_second, parse_swap

RATE_WINDOW = 10
"""Reports of the edge, one a second, over which rates are taken."""
LINE_EVERY_S = 10.0
"""Time between two lines where the output is no terminal."""


class Budgets(NamedTuple):
    """What the edge may use, in kbit/s; 0 for no limit."""

    uplink_kbps: float
    downlink_kbps: float


class Progress:
    """The state of a run, from the edge's events so far."""

    def __init__(self, total_s: float, budgets: Budgets) -> None:
        self.total_s = total_s
        self.budgets = budgets
        self._recent: deque[Second] = deque(maxlen=RATE_WINDOW + 1)
        self.swap: Swap | None = None

    def take(self, events: list[Event]) -> None:
        """Take the newest events of the edge."""
        self._recent.extend(parse_second(event) for event in named(events, "statistics"))
        for event in named(events, "swap"):
            self.swap = parse_swap(event)

    @property
    def last(self) -> Second | None:
        """The newest report; None before the first frame."""
        return self._recent[-1] if self._recent else None

    @property
    def elapsed_s(self) -> float:
        """Capture time of the newest report."""
        return min(self.total_s, self.last.capture_time_s) if self.last else 0.0

    def kbps(self) -> tuple[float, float]:
        """Return the mean uplink and downlink rate of the last RATE_WINDOW reports, in kbit/s."""
        if len(self._recent) < 2:
            return 0.0, 0.0
        first, last = self._recent[0], self._recent[-1]
        scale = 8e-3 / max(last.time_s - first.time_s, 1e-6)
        return (last.uplink_bytes - first.uplink_bytes) * scale, (last.downlink_bytes - first.downlink_bytes) * scale

    def rows(self) -> list[tuple[str, str]]:
        """Return what is worth knowing now, as (name, value)."""
        last = self.last
        if last is None:
            return [("edge", "waits for the first model, which the downlink budget paces")]
        up_kbps, down_kbps = self.kbps()
        age = "as it came" if last.model_age_s is None else f"{last.model_age_s:.1f} s"
        rows = [
            ("edge", f"{last.fps:.1f} frames/s"),
            ("model", f"version {last.version}, age {age}"),
            ("uplink", _rate(up_kbps, self.budgets.uplink_kbps)),
            ("downlink", _rate(down_kbps, self.budgets.downlink_kbps)),
            ("sampling", f"{last.sampling_hz:.2f} frames/s"),
        ]
        return [*rows, *_swap_rows(self.swap)]

    def line(self) -> str:
        """Return the state in one line."""
        facts = "; ".join(f"{name} {value}" for name, value in self.rows())
        return f"{self.elapsed_s:.0f} of {self.total_s:.0f} s: {facts}"


def _swap_rows(swap: Swap | None) -> list[tuple[str, str]]:
    if swap is None:
        return []
    latency = "" if swap.latency_s is None else f", {swap.latency_s:.1f} s from capture to swap"
    return [("update", f"loss {swap.loss:.3f}, {swap.changed} parameters in {swap.payload_bytes / 1000:.1f} kB{latency}")]


def _rate(kbps: float, budget_kbps: float) -> str:
    return f"{kbps:.0f} of {budget_kbps:g} kbit/s" if budget_kbps else f"{kbps:.0f} kbit/s, no limit"


class LiveView:
    """Shows a Progress: in place on a terminal, else as a line now and then. A context manager."""

    def __init__(self, console: Console, progress: Progress, clock: Clock) -> None:
        self._console = console
        self._progress = progress
        self._clock = clock
        self._line_due_s = clock.now_s() + LINE_EVERY_S
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> "LiveView":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def refresh(self) -> None:
        """Show the state now."""
        if self._live is not None:
            self._live.update(draw_progress(self._progress), refresh=True)
        elif self._clock.now_s() >= self._line_due_s:
            self._line_due_s = self._clock.now_s() + LINE_EVERY_S
            self._console.print(self._progress.line(), soft_wrap=True, highlight=False)


def draw_progress(progress: Progress) -> Panel:
    """Return the state as a box with a bar of the time that has passed."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", justify="right")
    grid.add_column()
    clock = Text(f"{progress.elapsed_s:.0f} of {progress.total_s:.0f} s")
    grid.add_row("time", clock)
    grid.add_row("", ProgressBar(total=max(progress.total_s, 1e-6), completed=progress.elapsed_s, width=46))
    for name, value in progress.rows():
        grid.add_row(name, value)
    return Panel(grid, title="server and edge at work", border_style="cyan", expand=False)
