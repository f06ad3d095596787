import multiprocessing
from collections import deque
from collections.abc import Callable
from contextlib import closing
from multiprocessing.context import SpawnProcess

import pytest
from tests.evaluation.pool_workers import make_nothing, make_worker

from ams_eval.sweeps.pool import Advanced, Event, Failed, Finished, Started, run_jobs


def in_order(*jobs: str) -> Callable[[], str | None]:
    waiting = deque(jobs)
    return lambda: waiting.popleft() if waiting else None


def told(events: list[Event[str]], kind: type[Event[str]]) -> dict[str, list[Event[str]]]:
    found: dict[str, list[Event[str]]] = {}
    for event in events:
        if isinstance(event, kind):
            found.setdefault(event.job, []).append(event)
    return found


def test_jobs_are_done_by_several_processes_which_tell_of_them() -> None:
    jobs = ["count a", "count b", "count c", "count d"]
    events = list(run_jobs(in_order(*jobs), 2, make_worker))
    assert list(told(events, Started)) == jobs
    assert sorted(told(events, Finished)) == jobs
    assert {event.worker for event in events} == {0, 1}
    assert [event.done for event in events if isinstance(event, Advanced) and event.job == "count c"] == [0, 1, 2]
    assert all(event.wall_s >= 0 for event in events if isinstance(event, Finished))
    assert not multiprocessing.active_children()


def test_a_process_keeps_what_it_has_made() -> None:
    events = list(run_jobs(in_order("remember a", "remember b"), 1, make_worker))
    assert [event.done for event in events if isinstance(event, Advanced)] == [1, 2]


def test_failures_are_told_in_a_line_and_the_others_go_on() -> None:
    jobs = ["refuse", "break", "die", "leave", "count"]
    events = list(run_jobs(in_order(*jobs), 1, make_worker))
    reasons = [event.reason for event in events if isinstance(event, Failed)]
    assert reasons == [
        "the lens is dirty",
        "ZeroDivisionError: two lines",
        "its process was ended by signal 9",
        "its process ended with status 7",
    ]
    assert list(told(events, Finished)) == ["count"]


def test_a_process_that_cannot_begin_fails_its_jobs() -> None:
    (started, failed) = run_jobs(in_order("count"), 1, make_nothing)
    assert isinstance(started, Started)
    assert isinstance(failed, Failed)
    assert failed.reason == "there is no bench"


def test_jobs_may_have_to_wait_for_others() -> None:
    done: list[str] = []
    waiting = deque(["first", "second"])

    def next_job() -> str | None:
        return waiting.popleft() if waiting and (waiting[0] == "first" or done) else None

    order = []
    for event in run_jobs(next_job, 2, make_worker):
        order.append((type(event), event.job))
        if isinstance(event, Finished):
            done.append(event.job)
    assert order == [(Started, "first"), (Finished, "first"), (Started, "second"), (Finished, "second")]


def test_no_process_is_left_when_the_work_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpawnProcess, "kill", lambda process: pytest.fail("did not end when it was asked to"))

    def stop_early() -> None:
        with closing(run_jobs(in_order("hang", "hang on"), 2, make_worker)) as events:
            for event in events:
                if isinstance(event, Advanced):
                    assert multiprocessing.active_children()
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_early()
    assert not multiprocessing.active_children()
