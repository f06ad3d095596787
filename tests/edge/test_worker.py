import logging
import os
import sys
import threading

import pytest

from ams_edge.worker import LOW_PRIORITY, UPDATE_PRIORITY, Worker, lower_priority


def test_stop_waits_for_everything_that_was_handed_over() -> None:
    done: list[int] = []
    worker: Worker[int] = Worker("test", done.append, capacity=2)
    worker.start()
    for item in range(50):
        worker.put_waiting(item)
    worker.stop()
    worker.stop()
    assert done == list(range(50))
    assert not worker.alive
    assert worker.failure is None


def test_stop_before_start_has_no_effect() -> None:
    worker: Worker[int] = Worker("test", print, capacity=1)
    worker.stop()
    assert not worker.alive


def test_a_busy_worker_drops_the_oldest() -> None:
    busy, go_on = threading.Event(), threading.Event()
    done: list[int] = []

    def handle(item: int) -> None:
        busy.set()
        assert go_on.wait(5.0)
        done.append(item)

    worker: Worker[int] = Worker("test", handle, capacity=2)
    worker.start()
    worker.put_newest(0)
    assert busy.wait(5.0)
    for item in range(1, 6):
        worker.put_newest(item)
    go_on.set()
    worker.stop()
    assert done == [0, 4, 5]
    assert worker.dropped == 3


def test_the_first_failure_ends_the_worker_and_is_left_to_whoever_has_it(caplog: pytest.LogCaptureFixture) -> None:
    def handle(item: int) -> None:
        raise OSError(28, "no space left on device")

    worker: Worker[int] = Worker("label folder", handle, capacity=1)
    with caplog.at_level(logging.WARNING):
        worker.start()
        for item in range(20):
            worker.put_waiting(item)
        worker.stop()
    assert isinstance(worker.failure, OSError)
    assert not caplog.records


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of single threads")
def test_the_worker_gives_way_and_nobody_else_does() -> None:
    nice: list[int] = []
    worker: Worker[int] = Worker(
        "test", lambda _: nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())), capacity=1
    )
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    worker.start()
    worker.put_waiting(1)
    worker.stop()
    assert nice == [min(19, own + LOW_PRIORITY)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of single threads")
@pytest.mark.parametrize(("own", "lowered"), [(0, 10), (4, 14), (12, 19), (19, 19)])
def test_a_priority_is_lowered_from_what_it_is(own: int, lowered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "getpriority", lambda which, thread: own)
    monkeypatch.setattr(os, "setpriority", lambda which, thread, nice: set_to.append((thread, nice)))
    lower_priority()
    assert set_to == [(threading.get_native_id(), lowered)]


def test_updates_give_way_to_inference_and_come_before_all_other_work() -> None:
    assert 0 < UPDATE_PRIORITY < LOW_PRIORITY
