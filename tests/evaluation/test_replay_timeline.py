import pytest

from ams_common.clock import ManualClock
from ams_eval.replay.timeline import Timeline, VirtualClock


def test_actions_happen_in_the_order_of_time_and_of_planning() -> None:
    timeline = Timeline(VirtualClock(None))
    done: list[tuple[str, float]] = []

    def note(name: str) -> None:
        done.append((name, timeline.now_s))

    timeline.at(2.0, lambda: note("late"))
    timeline.at(1.0, lambda: note("first"))
    timeline.at(1.0, lambda: note("second"))
    timeline.run_until(1.5)
    assert done == [("first", 1.0), ("second", 1.0)]
    assert timeline.now_s == 1.5
    timeline.run_until(2.0)
    assert done[-1] == ("late", 2.0)


def test_what_an_action_plans_for_now_happens_before_time_goes_on() -> None:
    timeline = Timeline(VirtualClock(None))
    done: list[float] = []

    def again() -> None:
        done.append(timeline.now_s)
        if len(done) < 3:
            timeline.at(timeline.now_s, again)

    timeline.at(1.0, again)
    timeline.at(0.5, lambda: timeline.at(0.1, lambda: done.append(timeline.now_s)))
    timeline.run_until(1.0)
    assert done == [0.5, 1.0, 1.0]
    timeline.run_until(5.0)
    assert done == [0.5, 1.0, 1.0]


def test_time_never_goes_back() -> None:
    timeline = Timeline(VirtualClock(None))
    timeline.run_until(3.0)
    timeline.run_until(1.0)
    timeline.clock.advance_to(2.0)
    assert timeline.now_s == 3.0


def test_work_takes_no_time_without_a_stopwatch() -> None:
    clock = VirtualClock(None)
    clock.advance_to(4.0)
    assert clock.time(lambda: "done") == ("done", 0.0)
    clock.sleep(0.5)
    clock.sleep(-1.0)
    assert clock.now_s() == 4.5


def test_timed_work_sees_the_clock_run_and_leaves_it_where_it_was() -> None:
    stopwatch = ManualClock()
    clock = VirtualClock(stopwatch)
    clock.advance_to(10.0)
    seen: list[float] = []

    def work() -> int:
        stopwatch.sleep(0.25)
        seen.append(clock.now_s())
        stopwatch.sleep(0.5)
        return 7

    result, took_s = clock.time(work)
    assert result == 7
    assert took_s == pytest.approx(0.75)
    assert seen == [pytest.approx(10.25)]
    assert clock.now_s() == 10.0
    stopwatch.sleep(100)
    assert clock.now_s() == 10.0


def test_the_clock_stands_still_again_after_work_that_fails() -> None:
    stopwatch = ManualClock()
    clock = VirtualClock(stopwatch)

    def fail() -> None:
        stopwatch.sleep(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        clock.time(fail)
    assert clock.now_s() == 0.0
    assert clock.time(lambda: stopwatch.sleep(2))[1] == pytest.approx(2)
