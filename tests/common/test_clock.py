"""Clocks."""

import time

import pytest

from ams_common.clock import Clock, ManualClock, SystemClock


def test_the_system_clock_is_the_monotonic_one(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: 12.5)
    monkeypatch.setattr(time, "sleep", slept.append)
    clock: Clock = SystemClock()
    assert clock.now_s() == 12.5
    for duration_s in (0.25, 0.0, -1.0):
        clock.sleep(duration_s)
    assert slept == [0.25]


def test_manual_time_moves_only_when_told() -> None:
    clock: Clock = ManualClock(5.0)
    assert clock.now_s() == clock.now_s() == 5.0
    clock.sleep(1.5)
    assert clock.now_s() == 6.5
    clock.sleep(-3.0)
    assert clock.now_s() == 6.5


def test_manual_time_never_runs_backwards() -> None:
    clock = ManualClock()
    clock.advance_to(10.0)
    clock.advance_to(4.0)
    assert clock.now_s() == 10.0
