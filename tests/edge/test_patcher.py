import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.edge.tiny_student import HEIGHT, WIDTH, after, tiny_model, tiny_update, unrunnable

from ams_common.clock import ManualClock
from ams_common.errors import AmsError, CodecError, ModelError, UpdateRefusedError
from ams_common.layout import Float32Array, ParameterLayout, weights_digest
from ams_common.messages import MAX_WAITING_UPDATES, Applied, HeldModel, Update
from ams_common.model_file import StoredModel
from ams_common.update_codec import create_codec
from ams_edge import patcher as patcher_module
from ams_edge.frame import UInt8Array
from ams_edge.inference import Model, build_model, probe_image
from ams_edge.patcher import QUEUE_CAPACITY, Patcher, PatcherWorker
from ams_edge.providers import Backend
from ams_edge.store import ModelStore, StoreConfig
from ams_edge.swap import ModelSlot, RunningModel
from ams_edge.worker import UPDATE_PRIORITY

CPU = Backend(provider="cpu", threads=1)
IMAGE = probe_image(WIDTH, HEIGHT)
TIMEOUT_S = 30.0


def make_patcher(
    model: StoredModel | None = None, *, prepared: bool = False, clock: ManualClock | None = None
) -> tuple[Patcher, ModelSlot, StoredModel]:
    """Return a patcher that runs `model`, by default the tiny one as version 0."""
    slot, model = ModelSlot(), model or tiny_model()
    patcher = Patcher(CPU, slot, clock or ManualClock())
    patcher.install(model)
    if prepared:
        patcher.prepare_updates()
    return patcher, slot, model


def running(slot: ModelSlot) -> RunningModel:
    current = slot.current()
    assert current is not None
    return current


def no_session(*_: object) -> None:
    raise AssertionError("a session is opened")


def test_a_whole_model_runs_once_it_is_installed() -> None:
    empty = Patcher(CPU, ModelSlot(), ManualClock())
    assert (empty.held, empty.state, empty.build_time_ms) == (None, None, 0.0)
    patcher, slot, model = make_patcher()
    assert running(slot).version == 0
    assert patcher.held == HeldModel(
        bundle_digest=model.manifest.bundle_digest, version=0, weights_digest=weights_digest(model.vector)
    )
    assert patcher.provider == "cpu"


@pytest.mark.parametrize("prepared", [False, True])
def test_the_edge_runs_exactly_the_weights_of_the_mirror(prepared: bool) -> None:
    patcher, slot, mirror = make_patcher(prepared=prepared)
    for seed in range(4):
        update = tiny_update(mirror, seed)
        mirror = after(mirror, update.payload)
        applied = patcher.apply(update)
        assert applied == Applied(version=seed + 1, weights_digest=weights_digest(mirror.vector), build_time_ms=0.0)
        assert patcher.state is not None
        assert np.array_equal(patcher.state.vector, mirror.vector)
        assert running(slot).version == seed + 1
        expected = build_model(mirror.manifest, mirror.graph, mirror.vector, CPU).logits(IMAGE)
        assert np.array_equal(running(slot).model.logits(IMAGE), expected)


def test_a_prepared_patcher_opens_no_session_for_updates_and_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    patcher, slot, model = make_patcher(prepared=True)
    monkeypatch.setattr(Backend, "_open", no_session)
    patcher.apply(tiny_update(model))
    patcher.install(tiny_model(seed=5, version=9))
    assert running(slot).version == 9


def test_a_model_of_another_graph_needs_other_preparations() -> None:
    patcher, slot, model = make_patcher(prepared=True)
    manifest = replace(model.manifest, student="other", mean=(0.0, 0.0, 0.0))
    patcher.install(replace(model, manifest=manifest, version=3))
    assert running(slot).model.manifest.student == "other"
    patcher.prepare_updates()
    other = patcher.state
    assert other is not None
    patcher.apply(tiny_update(other))
    assert running(slot).model.manifest.student == "other"


def test_the_old_model_runs_until_the_new_one_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    patcher, slot, model = make_patcher()
    before = running(slot)
    seen = []

    def building(*arguments: object) -> object:
        seen.append(slot.current())
        return build_model(*arguments)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(patcher_module, "build_model", building)
    patcher.apply(tiny_update(model))
    assert seen == [before]
    assert running(slot) is not before


@pytest.mark.parametrize("prepared", [False, True])
def test_no_frame_pays_for_the_first_run_of_a_model(prepared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    warmed: list[Model] = []
    warm = Model.warm

    def warming(model: Model) -> UInt8Array:
        warmed.append(model)
        return warm(model)

    monkeypatch.setattr(Model, "warm", warming)
    patcher, slot, model = make_patcher(prepared=prepared)
    assert running(slot).model in warmed, "the first one"
    patcher.apply(tiny_update(model))
    assert running(slot).model in warmed, "an update"
    patcher.install(tiny_model(seed=5, version=9))
    assert running(slot).model in warmed, "a snapshot"
    patcher.install(replace(model, manifest=replace(model.manifest, student="other")))
    assert running(slot).model in warmed, "another graph"


def test_the_time_to_build_is_measured() -> None:
    clock = ManualClock(100.0)

    class SlowSlot(ModelSlot):
        def swap(self, model: Model, version: int) -> None:
            clock.sleep(0.25)
            super().swap(model, version)

    patcher = Patcher(CPU, SlowSlot(), clock)
    assert patcher.install(tiny_model()).build_time_ms == pytest.approx(250)
    assert patcher.build_time_ms == pytest.approx(250)


REFUSED: dict[str, Callable[[Update], Update]] = {
    "does not continue version 0": lambda update: replace(update, base_version=1, version=2),
    "from version 0 to 2": lambda update: replace(update, version=2),
    "other weights of version 0": lambda update: replace(update, base_digest=bytes(16)),
    "does not give the weights": lambda update: replace(update, result_digest=bytes(16)),
    "unknown update codec 'morse'": lambda update: replace(update, codec="morse"),
}


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("message", REFUSED)
def test_an_update_that_does_not_fit_changes_nothing(message: str, prepared: bool) -> None:
    patcher, slot, model = make_patcher(prepared=prepared)
    before, held = running(slot), patcher.held
    with pytest.raises(UpdateRefusedError, match=message):
        patcher.apply(REFUSED[message](tiny_update(model)))
    assert running(slot) is before
    assert patcher.held == held
    patcher.apply(tiny_update(model))
    assert running(slot).version == 1


def test_an_update_applies_once() -> None:
    patcher, _, model = make_patcher()
    update = tiny_update(model)
    patcher.apply(update)
    with pytest.raises(UpdateRefusedError, match="does not continue version 1"):
        patcher.apply(update)


def test_an_update_before_any_model_is_refused() -> None:
    with pytest.raises(UpdateRefusedError, match="before any model"):
        Patcher(CPU, ModelSlot(), ManualClock()).apply(tiny_update(tiny_model()))


@pytest.mark.parametrize("prepared", [False, True])
def test_weights_that_cannot_run_are_refused(prepared: bool) -> None:
    patcher, slot, model = make_patcher(prepared=prepared)
    before = running(slot)
    with pytest.raises(UpdateRefusedError, match="update to version 1 cannot run"):
        patcher.apply(with_negative_variances(model))
    assert running(slot) is before


@pytest.mark.parametrize("prepared", [False, True])
def test_weights_whose_logits_overflow_are_refused(prepared: bool) -> None:
    model = with_a_huge_head()
    patcher, slot, _ = make_patcher(model, prepared=prepared)
    before = running(slot)
    with pytest.raises(UpdateRefusedError, match=r"cannot run: .* logits that are not finite"):
        patcher.apply(with_large_features(model))
    assert running(slot) is before


def with_a_huge_head() -> StoredModel:
    """Return a model whose features are all 0, so that the weights of its logits do not matter yet."""
    model = tiny_model()
    vector = model.vector.copy()
    vector[: model.manifest.layout.trainable_size] = 0
    dict(named_views(model.manifest.layout, vector))["logits.weight"].fill(1e34)
    return replace(model, vector=vector, weights_digest=weights_digest(vector))


def with_large_features(model: StoredModel) -> Update:
    layout = model.manifest.layout
    target = model.vector.copy()
    for name, view in named_views(layout, target):
        view += 0 if name.startswith("logits") else 6e4
    update = tiny_update(model)
    payload = create_codec(update.codec, layout).encode(model.vector, target, np.arange(layout.trainable_size))
    return replace(
        update,
        payload=payload,
        base_digest=model.weights_digest,
        result_digest=after(model, payload).weights_digest,
    )


def named_views(layout: ParameterLayout, vector: Float32Array) -> Iterator[tuple[str, Float32Array]]:
    """Yield name and view of each trainable tensor of a vector."""
    return ((tensor.name, view) for tensor, view in layout.views(vector) if tensor.trainable)


def with_negative_variances(model: StoredModel) -> Update:
    layout = model.manifest.layout
    indices = np.arange(layout.trainable_size, layout.size)
    target = model.vector.copy()
    target[indices] = -8
    update = tiny_update(model)
    payload = create_codec(update.codec, layout).encode(model.vector, target, indices)
    return replace(update, payload=payload, result_digest=after(model, payload).weights_digest)


@settings(max_examples=60, deadline=None)  # the first call computes the codec's tables
@given(data=st.data())
def test_a_damaged_payload_changes_nothing(data: st.DataObject) -> None:
    patcher, slot, model = make_patcher()
    before = running(slot)
    update = tiny_update(model)
    payload = bytearray(update.payload)
    position = data.draw(st.integers(0, len(payload) - 1))
    if data.draw(st.booleans()):
        payload[position] ^= data.draw(st.integers(1, 255))
    else:
        del payload[position:]
    try:
        applied = patcher.apply(replace(update, payload=bytes(payload)))
    except (CodecError, UpdateRefusedError):
        assert running(slot) is before
    else:
        # other bytes may mean the same weights
        assert applied.weights_digest == update.result_digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: replace(model, graph=model.graph + b"\0"), "graph of"),
        (lambda model: replace(model, weights_digest=bytes(16)), "weights of version 0"),
    ],
)
def test_a_model_that_is_not_what_was_announced_is_refused(change: Callable[[StoredModel], StoredModel], message: str) -> None:
    patcher, slot, model = make_patcher()
    before = running(slot)
    with pytest.raises(ModelError, match=message):
        patcher.install(change(model))
    assert running(slot) is before


def test_a_model_that_cannot_run_takes_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    patcher, _, model = make_patcher()
    update = tiny_update(model)
    patcher.apply(update)

    def fail(*_: object) -> NoReturn:
        raise ModelError("no memory")

    monkeypatch.setattr(Patcher, "_ready_model", fail)
    with pytest.raises(ModelError, match="no memory"):
        patcher.install(tiny_model(seed=5, version=9))
    assert patcher.has_applied(update)


def test_a_provider_that_fails_is_left_for_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    slot = ModelSlot()
    patcher = Patcher(Backend(provider="xnnpack", threads=1), slot, ManualClock())
    patcher.install(tiny_model())
    assert patcher.provider == "cpu"
    assert running(slot).model.backend.provider == "cpu"
    assert "using cpu" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority of single threads")
@pytest.mark.parametrize("prepared", [False, True])
def test_threads_of_sessions_keep_the_ordinary_priority(prepared: bool) -> None:
    ordinary = os.getpriority(os.PRIO_PROCESS, 0)
    patcher = Patcher(Backend(provider="cpu", threads=2), ModelSlot(), ManualClock())
    priorities: list[int] = []

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        before = set(os.listdir("/proc/self/task"))
        patcher.install(tiny_model())
        if prepared:
            patcher.prepare_updates()
        new = set(os.listdir("/proc/self/task")) - before
        priorities.extend(os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in new)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(TIMEOUT_S)
    assert priorities
    assert set(priorities) == {ordinary}


class Told:
    """What a worker's callbacks were told; waits until there is enough of it."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, int | None]] = []
        self.refused: list[AmsError] = []
        self.repeated: list[int] = []
        self._changed = threading.Condition()

    def on_applied(self, applied: Applied, update: Update | None) -> None:
        with self._changed:
            self.applied.append((applied.version, None if update is None else update.version))
            self._changed.notify_all()

    def on_repeated(self, applied: Applied) -> None:
        self.repeated.append(applied.version)

    def on_refused(self, error: AmsError, refused: Update | StoredModel) -> None:
        assert isinstance(refused, (Update, StoredModel))
        with self._changed:
            self.refused.append(error)
            self._changed.notify_all()

    def wait(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.applied) + len(self.refused) >= count, TIMEOUT_S)


def make_worker(store: ModelStore | None = None) -> tuple[PatcherWorker, Patcher, Told]:
    patcher, told = Patcher(CPU, ModelSlot(), ManualClock()), Told()
    worker = PatcherWorker(patcher, store, on_applied=told.on_applied, on_refused=told.on_refused, on_repeated=told.on_repeated)
    return worker, patcher, told


def submit_chain(worker: PatcherWorker, mirror: StoredModel, count: int) -> None:
    """Hand over `count` updates, each of which follows on the one before, the first on `mirror`."""
    for _ in range(count):
        update = tiny_update(mirror)
        mirror = after(mirror, update.payload)
        worker.submit(update)


def test_a_worker_installs_patches_and_refuses_in_order() -> None:
    worker, patcher, told = make_worker()
    worker.start()
    model = tiny_model()
    update = tiny_update(model)
    worker.submit(model)
    worker.submit(update)
    worker.submit(replace(update, result_digest=bytes(16)))
    told.wait(3)
    worker.stop()
    assert told.applied == [(0, None), (1, 1)]
    assert "does not continue version 1" in str(told.refused[0])
    assert not worker.alive
    assert worker.failure is None
    assert patcher.state is not None
    assert patcher.state.version == 1


def test_updates_that_come_again_on_the_next_stream_are_passed_over() -> None:
    worker, patcher, told = make_worker()
    worker.start()
    model = tiny_model()
    first = tiny_update(model)
    second = tiny_update(after(model, first.payload))
    for count, items in ((3, (model, first, second)), (4, (first, second, model)), (5, (first,))):
        for item in items:
            worker.submit(item)
        told.wait(count)
    worker.stop()
    assert told.refused == []
    assert [version for version, _ in told.applied] == [0, 1, 2, 0, 1], "a whole model starts anew"
    assert told.repeated == [2], "the server hears of the one that runs, and knows by it of those before"
    assert patcher.state is not None
    assert patcher.state.version == 1


@pytest.mark.parametrize("installed_before", [False, True])
def test_a_worker_prepares_updates_of_its_model(installed_before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, patcher, told = make_worker()
    model = tiny_model()
    if installed_before:
        patcher.install(model)
    worker.start()
    if not installed_before:
        worker.submit(model)
    worker.submit(tiny_update(model))
    told.wait(1 if installed_before else 2)
    monkeypatch.setattr(Backend, "_open", no_session)
    assert patcher.state is not None
    worker.submit(tiny_update(patcher.state))
    worker.stop()
    assert told.applied[-2:] == [(1, 1), (2, 2)]


def test_a_full_queue_gives_up_the_oldest_so_that_the_gap_is_noticed() -> None:
    worker, _, told = make_worker()
    model = tiny_model()
    worker.submit(model)
    submit_chain(worker, model, QUEUE_CAPACITY)
    worker.start()
    worker.stop()
    assert not told.applied
    assert len(told.refused) == QUEUE_CAPACITY


def test_all_updates_that_a_device_has_missed_find_room_while_it_is_busy() -> None:
    worker, patcher, told = make_worker()
    model = tiny_model()
    patcher.install(model)
    submit_chain(worker, model, MAX_WAITING_UPDATES)
    worker.start()
    worker.stop()
    assert told.refused == []
    assert patcher.held is not None
    assert patcher.held.version == MAX_WAITING_UPDATES


def test_what_later_downloads_build_on_is_kept_of_a_model_that_cannot_run(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, StoreConfig(), ManualClock())
    worker, _, told = make_worker(store)
    model = unrunnable(tiny_model())
    worker.submit(model)
    worker.start()
    worker.stop()
    assert len(told.refused) == 1
    assert store.load() is None
    assert store.start is not None
    assert store.start.weights_digest == model.weights_digest
    assert list(store.graphs.graphs.values()) == [model.graph]


def test_a_stopped_worker_has_finished_and_stored_everything(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, StoreConfig(store_interval_s=3600), ManualClock())
    worker, _, _ = make_worker(store)
    model = tiny_model()
    worker.submit(model)
    worker.submit(tiny_update(model))
    worker.start()
    worker.stop()
    worker.stop()
    stored = store.load()
    assert stored is not None
    assert stored.version == 1
    assert np.array_equal(stored.vector, after(model, tiny_update(model).payload).vector)


def test_an_idle_worker_stores_what_has_become_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patcher_module, "_IDLE_S", 0.001)
    clock, written = ManualClock(), threading.Event()
    store = ModelStore(tmp_path, StoreConfig(store_interval_s=10), clock)
    worker, _, told = make_worker(store)
    worker.start()
    model = tiny_model()
    worker.submit(model)
    worker.submit(tiny_update(model))
    told.wait(2)
    flush = store.flush

    def noted() -> None:
        flush()
        written.set()

    monkeypatch.setattr(store, "flush", noted)
    clock.advance_to(10)
    assert written.wait(TIMEOUT_S)
    worker.stop()


def test_a_worker_that_never_started_can_be_stopped() -> None:
    worker, _, _ = make_worker()
    worker.stop()
    assert not worker.alive


def test_the_first_unexpected_error_ends_a_worker_and_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("broken callback")

    worker = PatcherWorker(Patcher(CPU, ModelSlot(), ManualClock()), None, on_applied=broken, on_refused=broken)
    worker.start()
    worker.submit(tiny_model())
    worker.stop()
    assert isinstance(worker.failure, ZeroDivisionError)
    assert not caplog.records


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority of single threads")
def test_a_worker_gives_way_to_inference_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    priorities: list[int] = []

    def note(*_: object) -> None:
        priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    patcher = Patcher(CPU, ModelSlot(), ManualClock())
    monkeypatch.setattr(patcher, "prepare_updates", note)
    worker = PatcherWorker(patcher, None, on_applied=note, on_refused=note)
    worker.start()
    model = tiny_model()
    worker.submit(model)
    worker.submit(tiny_update(model))
    worker.stop()
    assert priorities == [min(19, own + UPDATE_PRIORITY)] * 4
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
