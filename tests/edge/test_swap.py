import threading

from tests.edge.tiny_student import tiny_model

from ams_edge.inference import Model, build_model
from ams_edge.providers import Backend
from ams_edge.swap import ModelSlot


def model(seed: int) -> Model:
    stored = tiny_model(seed)
    return build_model(stored.manifest, stored.graph, stored.vector, Backend(provider="cpu", threads=1))


def test_an_empty_slot_runs_nothing() -> None:
    slot = ModelSlot()
    assert slot.current() is None
    assert not slot.wait_for(0, timeout_s=0)


def test_a_model_never_parts_from_its_version() -> None:
    slot, models = ModelSlot(), [model(0), model(1)]
    done = threading.Event()
    mixed = []

    def read() -> None:
        while not done.is_set():
            running = slot.current()
            if running is not None and running.model is not models[running.version % 2]:
                mixed.append(running)

    reader = threading.Thread(target=read)
    reader.start()
    for version in range(2000):
        slot.swap(models[version % 2], version)
    done.set()
    reader.join()
    assert not mixed


def test_waiting_ends_with_the_version_or_a_later_one() -> None:
    slot, first = ModelSlot(), model(0)
    seen: list[bool] = []
    waiter = threading.Thread(target=lambda: seen.append(slot.wait_for(2, timeout_s=30)))
    waiter.start()
    slot.swap(first, 1)
    assert waiter.is_alive()
    slot.swap(first, 3)
    waiter.join(30)
    assert seen == [True]
    assert slot.wait_for(3, timeout_s=0)
    assert not slot.wait_for(4, timeout_s=0)


def test_a_snapshot_may_go_back_to_an_earlier_version() -> None:
    slot, first = ModelSlot(), model(0)
    slot.swap(first, 7)
    slot.swap(first, 2)
    running = slot.current()
    assert running is not None
    assert running.version == 2
