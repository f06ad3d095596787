import io
from dataclasses import asdict

import pytest
from rich.console import Console
from tests.evaluation.demo_results import second, swap

from ams_common.clock import ManualClock
from ams_eval.live import LINE_EVERY_S, Budgets, LiveView, Progress
from ams_eval.run_log import Event, Second, Swap


def event(name: str, value: Second | Swap) -> Event:
    return {"event": name, **asdict(value)}


def running() -> Progress:
    progress = Progress(100.0, Budgets(200.0, 0.0))
    seconds = [second(index, version=1, age_s=3.5) for index in range(3)]
    progress.take([event("connected", seconds[0]), *(event("statistics", each) for each in seconds)])
    progress.take([event("swap", swap(1, 102.5, 2.0))])
    return progress


def view(progress: Progress, clock: ManualClock, *, terminal: bool) -> tuple[LiveView, io.StringIO]:
    output = io.StringIO()
    return LiveView(Console(file=output, force_terminal=terminal, width=100), progress, clock), output


def test_before_the_first_frame_it_says_what_is_awaited() -> None:
    progress = Progress(100.0, Budgets(200.0, 300.0))
    assert progress.line() == "0 of 100 s: edge waits for the first model, which the downlink budget paces"


def test_a_line_says_everything() -> None:
    line = running().line()
    assert line.startswith("3 of 100 s: edge 10.0 frames/s; model version 1, age 3.5 s; ")
    assert "uplink 100 of 200 kbit/s; downlink 40 kbit/s, no limit; sampling 2.00 frames/s; " in line
    assert line.endswith("update loss 0.250, 9000 parameters in 20.0 kB, 2.0 s from capture to swap")


def test_a_model_without_updates_has_no_age() -> None:
    progress = Progress(100.0, Budgets(0.0, 0.0))
    progress.take([event("statistics", second(0))])
    assert "version 0, age as it came" in progress.line()
    assert "update" not in progress.line()


def test_rates_are_taken_over_the_last_reports() -> None:
    progress = running()
    jump = asdict(second(3)) | {"uplink_bytes": 1000 + 12_500 * 2}
    progress.take([{"event": "statistics", **jump}])
    assert progress.kbps()[0] == pytest.approx(2 / 3 * 100)


def test_elapsed_time_never_passes_the_total() -> None:
    progress = Progress(2.0, Budgets(0.0, 0.0))
    progress.take([event("statistics", second(5))])
    assert progress.elapsed_s == 2.0


def test_where_the_output_is_no_terminal_there_is_a_line_now_and_then() -> None:
    clock = ManualClock()
    shown, output = view(running(), clock, terminal=False)
    with shown:
        for _ in range(4):
            shown.refresh()
            clock.sleep(LINE_EVERY_S / 2)
    assert output.getvalue().count("\n") == 1
    assert "\x1b" not in output.getvalue()


def test_on_a_terminal_the_state_is_drawn_in_place() -> None:
    shown, output = view(running(), ManualClock(), terminal=True)
    with shown:
        shown.refresh()
        shown.refresh()
    text = output.getvalue()
    assert "version 1" in text
    assert "100 of 200 kbit/s" in text
    assert "\x1b[1A" in text
