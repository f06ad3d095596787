"""The whole edge against a real service with a scripted backend, on a tiny model."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from tests.edge.tiny_student import HEIGHT, WIDTH, after, tiny_model, tiny_update, unrunnable
from tests.edge.videos import tenths, write_video
from tests.protocol_support import TIMEOUT_S, FakeBackend, FakeConnection, running_server

from ams_common.budget import LEAST_BATCH_BYTES
from ams_common.clock import SystemClock
from ams_common.errors import AmsError, ConfigurationError, SourceError
from ams_common.events import read_events
from ams_common.flights import Flight
from ams_common.messages import Control, Update
from ams_common.model_file import StoredModel, write_model
from ams_common.session.client import ControlChanged, ProblemReported
from ams_common.session.greeting import Offer, snapshot_messages, starting_point
from ams_common.session.server import AppliedReported, BatchArrived, RefusedError, SnapshotWanted
from ams_common.snapshot_codec import encode_snapshot
from ams_common.update_codec import DEFAULT_CODEC
from ams_edge import agent as agent_module
from ams_edge import frame_filter as frame_filter_module
from ams_edge.agent import Agent
from ams_edge.frame import Frame, UInt8Array
from ams_edge.link import Link
from ams_edge.link_plan import MOST_STRETCHED
from ams_edge.media import Media
from ams_edge.settings import AgentSettings
from ams_edge.store import ModelStore

CONTROL = Control(sampling_hz=2.0, batch_interval_s=2.0, batch_bytes=50_000, frame_width=48, frame_height=32)
FRAMES = 40


def offer(model: StoredModel, updates: tuple[Update, ...] = ()) -> Offer:
    return Offer(
        start=starting_point(model.manifest, model.graph, model.vector),
        codec=DEFAULT_CODEC,
        control=CONTROL,
        version=model.version,
        weights=model.vector,
        weights_digest=model.weights_digest,
        recent_updates=updates,
    )


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., AgentSettings]:
    """Return a function that makes settings of an edge with a short recording and files of its own."""
    video = write_video(tmp_path / "video.mp4", tenths(FRAMES))

    def make(port: int, **changes: Any) -> AgentSettings:
        chosen = {
            "source": str(video),
            "fast": True,
            "server": f"127.0.0.1:{port}",
            "device_id": "camera-1",
            "state_folder": tmp_path / "state",
            "events": tmp_path / "events.jsonl",
        }
        return AgentSettings(**{**chosen, **changes})

    return make


@contextmanager
def agent_at(settings: AgentSettings) -> Iterator[tuple[Agent, Iterator[tuple[Frame, UInt8Array]]]]:
    with Agent(settings) as agent:
        yield agent, iter(agent)
    assert not {"link", "encoder", "patcher", "capture"} & {thread.name for thread in threading.enumerate()}


def events(settings: AgentSettings, name: str) -> list[dict[str, Any]]:
    assert settings.events is not None
    return [event for event in read_events(settings.events) if event["event"] == name]


def told_by_edge(caplog: pytest.LogCaptureFixture, part: str = "") -> list[str]:
    """Return the edge's warnings and errors that hold `part`; the server of these tests logs into the same process."""
    records = (record for record in caplog.records if record.name.startswith("ams_edge") and record.levelname != "INFO")
    return [record.getMessage() for record in records if part in record.getMessage()]


def wait_until_applied(connection: FakeConnection, version: int) -> None:
    def reported(items: list[object]) -> bool:
        return any(isinstance(item, AppliedReported) and item.applied.version == version for item in items)

    connection.events.wait_for(reported)


def store(settings: AgentSettings, model: StoredModel) -> None:
    """Leave `model` behind as an earlier run would."""
    ModelStore(settings.state_folder / settings.device_id, settings, SystemClock()).offer(model)


def version_of(agent: Agent) -> int:
    running = agent._slot.current()
    assert running is not None
    return running.version


def test_every_frame_is_labelled_and_updates_are_learnt_from_what_was_seen(
    make_settings: Callable[..., AgentSettings], tmp_path: Path
) -> None:
    model = tiny_model(version=3)
    backend = FakeBackend(offer(model))
    with running_server(backend) as server:
        settings = make_settings(server.port, labels=tmp_path / "labels", uplink_kbps=500)
        with agent_at(settings) as (agent, frames):
            frame, labels = next(frames)
            assert (labels.shape, frame.index) == ((HEIGHT, WIDTH), 0)
            assert labels.dtype == np.uint8
            assert agent.classes == model.manifest.classes
            connection = backend.connection()
            for _ in range(FRAMES // 2):
                frame, _ = next(frames)
            connection.events.wait_count(BatchArrived)
            (arrived,) = connection.events.all(BatchArrived)
            assert isinstance(arrived, BatchArrived)
            assert (arrived.batch.batch_id, arrived.batch.width, arrived.batch.height) == (1, 48, 32)
            assert arrived.batch.capture_times_us[-1] <= frame.capture_time_us
            assert version_of(agent) == 3
            newest_us = arrived.batch.capture_times_us[-1]
            connection.outlet.send(replace(tiny_update(model), newest_batch_id=1, newest_capture_time_us=newest_us))
            wait_until_applied(connection, 4)
            rest = list(frames)
            assert version_of(agent) == 4
        assert rest[-1][0].index == FRAMES - 1
        assert connection.hello.uplink_bps == 500_000
    assert len(list((tmp_path / "labels").glob("*.png"))) == FRAMES
    (swap,) = events(settings, "swap")
    assert (swap["version"], swap["latency_s"] > 0) == (4, True)
    assert [event["version"] for event in events(settings, "model")] == [3]


def test_frames_that_the_model_has_learnt_are_not_sent(
    make_settings: Callable[..., AgentSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_filter_module, "SETTLING_S", 0.0)
    model = tiny_model(version=3)
    backend = FakeBackend(offer(model))
    with running_server(backend) as server, agent_at(make_settings(server.port, skip_below=1.0)) as (agent, frames):
        times_us = [next(frames)[0].capture_time_us for _ in range(6)]
        assert agent._sampler.skipped == 0, "before the model has learnt anything"
        connection = backend.connection()
        connection.events.wait_count(BatchArrived)
        learnt = replace(tiny_update(model), newest_batch_id=1, newest_capture_time_us=times_us[-1])
        connection.outlet.send(learnt)
        wait_until_applied(connection, 4)
        # 3.4 s at two frames a second.
        assert len(list(frames)) == FRAMES - 6
        assert agent._sampler.skipped == 6
        assert len(connection.events.all(BatchArrived)) == 1


def test_what_a_live_camera_shows_is_sent_while_the_first_model_is_on_its_way(
    make_settings: Callable[..., AgentSettings],
) -> None:
    backend = FakeBackend(offer(tiny_model()), downlink_bps=1000, burst_bytes=4096)
    with running_server(backend) as server:
        settings = make_settings(server.port, fast=False, downlink_kbps=1000)
        with agent_at(settings) as (agent, frames):
            agent._camera.live = True
            watcher = threading.Thread(target=lambda: list(frames))
            watcher.start()
            backend.connection().events.wait_count(BatchArrived)
            assert agent._slot.current() is None
            agent.stop()
            watcher.join(TIMEOUT_S)
            assert not watcher.is_alive()
            assert not backend.connection().events.all(AppliedReported)


def test_a_restart_runs_the_last_model_before_the_server_answers(make_settings: Callable[..., AgentSettings]) -> None:
    model = tiny_model(version=3)
    with running_server(FakeBackend(offer(model))) as server:
        with agent_at(make_settings(server.port)) as (_, frames):
            assert len(list(frames)) == FRAMES
        port = server.port
    with agent_at(make_settings(port)) as (agent, frames):
        assert len(list(frames)) == FRAMES
        assert version_of(agent) == 3
    later = after(model, tiny_update(model).payload)
    backend = FakeBackend(offer(later, (tiny_update(model),)))
    with running_server(backend) as server, agent_at(make_settings(server.port)) as (agent, frames):
        next(frames)
        held = backend.connection().hello.held
        assert held is not None
        assert (held.version, held.weights_digest) == (3, model.weights_digest)
        backend.connection().events.wait_count(AppliedReported)
        assert version_of(agent) == 4


@pytest.mark.parametrize("fault", ["foreign", "corrupt", "gap"])
def test_an_update_that_does_not_fit_is_refused_and_a_snapshot_brings_the_edge_back(
    make_settings: Callable[..., AgentSettings], fault: str
) -> None:
    model = tiny_model()
    good = tiny_update(model)
    bad = {
        "foreign": tiny_update(tiny_model(seed=9)),
        "corrupt": replace(good, payload=good.payload[:-5]),
        "gap": replace(good, base_version=6, version=7),
    }[fault]
    backend = FakeBackend(offer(model))
    with running_server(backend) as server:
        settings = make_settings(server.port)
        store(settings, model)
        with agent_at(settings) as (agent, frames):
            next(frames)
            connection = backend.connection()
            before = agent._slot.current()
            connection.outlet.send(bad)
            connection.events.wait_count(SnapshotWanted)
            assert agent._slot.current() is before, "the running model is untouched"
            next(frames)
            newest = tiny_model(seed=4, version=9)
            change = encode_snapshot(newest.vector, model.manifest.layout, model.vector)
            for message in snapshot_messages(9, newest.weights_digest, change, 4096, base_digest=model.weights_digest):
                connection.outlet.send(message)
            wait_until_applied(connection, 9)
            next(frames)
            assert version_of(agent) == 9
    assert len(events(settings, "refused")) == 1


def test_a_device_that_was_never_accepted_ends_with_the_server_s_reason(
    make_settings: Callable[..., AgentSettings], caplog: pytest.LogCaptureFixture
) -> None:
    refusal = RefusedError("budget_too_small", "uplink budget of 1 kbit/s carries nothing: the least is 4.8 kbit/s")
    with (
        running_server(FakeBackend(offer(tiny_model()), refusal=refusal)) as server,
        agent_at(make_settings(server.port, uplink_kbps=1)) as (_, frames),
        pytest.raises(ConfigurationError, match=r"refuses this device: .* the least is 4\.8 kbit/s"),
    ):
        next(frames)
    assert not told_by_edge(caplog, "carries nothing"), "what ends the command is its last line, and no line of the log"


def test_a_first_model_that_cannot_run_here_ends_the_edge_with_the_reason(make_settings: Callable[..., AgentSettings]) -> None:
    with (
        running_server(FakeBackend(offer(unrunnable(tiny_model(version=3))))) as server,
        agent_at(make_settings(server.port)) as (_, frames),
        pytest.raises(ConfigurationError, match=r"the model of server .* cannot run here: "),
    ):
        next(frames)


def test_a_device_with_a_stored_model_runs_it_when_it_is_refused(
    make_settings: Callable[..., AgentSettings], caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(1)
    store(settings, tiny_model(version=6))
    with agent_at(settings) as (agent, frames):
        next(frames)
        agent._conversation._on_event(ProblemReported(code="unsupported", reason="it serves 'large'", final=True))
        assert len(list(frames)) == FRAMES - 1
        assert version_of(agent) == 6
    assert "the server refuses: it serves 'large'; the model runs on" in caplog.text


def test_a_person_sees_how_long_the_first_model_takes(
    make_settings: Callable[..., AgentSettings], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with (
        running_server(FakeBackend(offer(tiny_model(version=3)))) as server,
        agent_at(make_settings(server.port, downlink_kbps=200)) as (_, frames),
    ):
        next(frames)
    assert re.search(r"receiving version 3: \d+ kB, up to \d+ s at 200 kbit/s", caplog.text)


def provisioned(tmp_path: Path, model: StoredModel) -> Path:
    path = tmp_path / "provisioned.ams"
    write_model(path, model)
    return path


def test_a_provisioned_model_runs_without_a_server_and_is_offered_to_one(
    make_settings: Callable[..., AgentSettings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    model = tiny_model()
    path = provisioned(tmp_path, model)
    with agent_at(make_settings(1, model=path)) as (agent, frames):
        next(frames)
        assert version_of(agent) == 0
    assert f"version 0 of {path} runs" in caplog.text
    backend = FakeBackend(offer(model))
    with running_server(backend) as server, agent_at(make_settings(server.port, model=path)) as (_, frames):
        next(frames)
        connection = backend.connection()
        assert connection.hello.held is not None
        assert connection.hello.weights == (model.weights_digest,)
        assert connection.hello.graphs == (model.manifest.graph_digest,)
        connection.outlet.send(tiny_update(model))
        wait_until_applied(connection, 1)
    assert "receiving version" not in caplog.text
    with agent_at(make_settings(1, model=path)) as (agent, frames):
        next(frames)
        assert version_of(agent) == 1, "what was learnt is not forgotten for it"


def test_a_provisioned_model_that_the_server_does_not_have_costs_one_line_and_a_download(
    make_settings: Callable[..., AgentSettings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model(seed=1)
    other = replace(model, manifest=replace(model.manifest, student="older"))
    backend = FakeBackend(offer(tiny_model(seed=2, version=7)))
    path = provisioned(tmp_path, other)
    with running_server(backend) as server, agent_at(make_settings(server.port, model=path)) as (_, frames):
        next(frames)
        wait_until_applied(backend.connection(), 7)
    (line,) = told_by_edge(caplog, "--model")
    assert "is of no use for this server and a model is downloaded: it holds older for 48x32 pixels" in line


def test_a_provisioned_model_with_other_starting_weights_is_told_once(
    make_settings: Callable[..., AgentSettings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = FakeBackend(offer(tiny_model(seed=2, version=7)))
    path = provisioned(tmp_path, tiny_model(seed=1))
    with running_server(backend) as server, agent_at(make_settings(server.port, model=path)) as (_, frames):
        next(frames)
        wait_until_applied(backend.connection(), 7)
    (line,) = told_by_edge(caplog, "--model")
    assert "is of no use for this server and a model is downloaded: it holds other weights than the server starts from" in line


def test_a_stored_model_of_another_student_gives_way_to_the_provisioned_one(
    make_settings: Callable[..., AgentSettings], tmp_path: Path
) -> None:
    model = tiny_model(version=5)
    settings = make_settings(1, model=provisioned(tmp_path, tiny_model()))
    store(settings, replace(model, manifest=replace(model.manifest, student="older")))
    with agent_at(settings) as (agent, frames):
        next(frames)
        assert version_of(agent) == 0


def test_a_device_that_was_accepted_runs_on_when_it_is_refused(
    make_settings: Callable[..., AgentSettings], caplog: pytest.LogCaptureFixture
) -> None:
    with running_server(FakeBackend(offer(tiny_model()))) as server:
        settings = make_settings(server.port)
        rival = settings.model_copy(update={"events": None, "state_folder": settings.state_folder / "rival"})
        with agent_at(settings) as (agent, frames):
            next(frames)
            with Agent(rival) as other:
                next(iter(other))
                agent._conversation._link._thread.join(TIMEOUT_S)
            assert not agent._conversation._link.alive
            assert len(list(frames)) == FRAMES - 1
    assert "the server refuses: another stream came under the device id 'camera-1'" in caplog.text


def test_a_thread_that_fails_ends_the_iteration_with_its_error(
    make_settings: Callable[..., AgentSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(link: Link, batch: object) -> None:
        raise MemoryError("no room for a batch")

    monkeypatch.setattr(Link, "send_batch", fail)
    with (
        running_server(FakeBackend(offer(tiny_model()))) as server,
        agent_at(make_settings(server.port, fast=False)) as (_, frames),
        pytest.raises(AmsError, match="the video encoder has failed: MemoryError: no room for a batch") as raised,
    ):
        for _ in frames:
            pass
    assert isinstance(raised.value.__cause__, MemoryError)


def test_a_camera_that_fails_is_not_taken_for_the_end_of_the_recording(
    make_settings: Callable[..., AgentSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Media.pictures

    def broken(media: Media) -> Iterator[av.VideoFrame]:
        yield next(whole(media))
        raise MemoryError("no room for a picture")

    monkeypatch.setattr(Media, "pictures", broken)
    with (
        running_server(FakeBackend(offer(tiny_model()))) as server,
        agent_at(make_settings(server.port)) as (_, frames),
        pytest.raises(MemoryError, match="no room for a picture"),
    ):
        for _ in frames:
            pass


def test_frames_are_sampled_and_encoded_as_the_link_carries_them(
    make_settings: Callable[..., AgentSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    with Agent(make_settings(1, uplink_kbps=200)) as agent:
        submitted: list[tuple[int, int]] = []
        monkeypatch.setattr(agent._encoder, "submit", lambda samples, size, codec: submitted.append((len(samples), size)))
        agent._conversation._on_event(ControlChanged(control=CONTROL))
        agent._conversation._link._speed.observe(Flight(wire_bytes=10_000, duration_s=40.0))
        for index in range(200):
            agent._sample(Frame(picture, index=index, capture_time_s=index / 10))
        # A link of 2 kbit/s, of which 85 % are planned for, takes 4 kB in ten seconds at most, and frames become fewer first.
        # What statistics report is what is sampled, not what the server asks for.
        assert agent._sampling_hz == pytest.approx(CONTROL.sampling_hz / MOST_STRETCHED)
    assert submitted == [(2, LEAST_BATCH_BYTES), (4, LEAST_BATCH_BYTES)], "the first batch is cut at once"


def test_stop_and_close_may_come_at_any_time_and_twice(make_settings: Callable[..., AgentSettings]) -> None:
    unused = Agent(make_settings(1))
    unused.close()
    unused.close()
    assert list(unused) == []
    with agent_at(make_settings(1)) as (agent, frames):
        timer = threading.Timer(0.1, agent.stop)
        timer.start()
        assert list(frames) == [], "stopped while it waited for a first model"
        timer.join(TIMEOUT_S)
        agent.close()


def test_updates_that_come_with_the_end_are_in_the_summary(
    make_settings: Callable[..., AgentSettings], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ams_edge.agent")
    model, stop = tiny_model(), Link.stop

    def stop_late(link: Link) -> None:
        agent._conversation._patching.submit(tiny_update(model))
        stop(link)

    monkeypatch.setattr(Link, "stop", stop_late)
    settings = make_settings(1)
    store(settings, model)
    with agent_at(settings) as (agent, frames):
        assert len(list(frames)) == FRAMES
    assert caplog.messages[-2:] == ["the recording has ended", f"{FRAMES} frames labelled, 1 update applied"]


def test_leaving_the_loop_ends_all_threads(make_settings: Callable[..., AgentSettings]) -> None:
    with running_server(FakeBackend(offer(tiny_model()))) as server:
        for frame, _ in Agent(make_settings(server.port)):
            if frame.index == 2:
                break
    assert not {"link", "encoder", "patcher", "capture"} & {thread.name for thread in threading.enumerate()}


def test_a_source_that_is_not_there_leaves_nothing_open(make_settings: Callable[..., AgentSettings], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent\.mp4"):
        Agent(make_settings(1, source=str(tmp_path / "absent.mp4")))
    blocker = tmp_path / "file"
    blocker.write_text("")
    for changes in ({"overlay": blocker / "a.mp4"}, {"state_folder": blocker / "state"}, {"events": blocker / "events"}):
        with pytest.raises(ConfigurationError, match="cannot"):
            Agent(make_settings(1, **changes))


def test_a_second_edge_of_the_same_name_is_refused_and_touches_nothing(make_settings: Callable[..., AgentSettings]) -> None:
    settings = make_settings(1)
    with Agent(settings) as first:
        first._events.write("something")
        with pytest.raises(ConfigurationError, match="another ams-edge of this machine is the device 'camera-1': give each"):
            Agent(settings)
        Agent(make_settings(1, device_id="camera-2", events=None)).close()
        assert [event["event"] for event in events(settings, "something")] == ["something"]
    Agent(settings).close()


def test_an_agent_that_cannot_be_made_lets_go_of_its_folder(
    make_settings: Callable[..., AgentSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(settings: AgentSettings) -> None:
        raise ConfigurationError("no such provider")

    with monkeypatch.context() as patched:
        patched.setattr(agent_module, "choose_backend", refuse)
        with pytest.raises(ConfigurationError, match="no such provider") as kept:  # its traceback keeps the agent alive
            Agent(make_settings(1))
    Agent(make_settings(1)).close()
    assert kept.tb is not None


def test_an_agent_leaves_its_recording_whole(make_settings: Callable[..., AgentSettings], tmp_path: Path) -> None:
    recording = tmp_path / "drive.mp4"
    recording.write_bytes(b"a film")
    with pytest.raises(ConfigurationError, match="would overwrite --source"):
        Agent(make_settings(1, source=str(recording), events=recording))
    assert recording.read_bytes() == b"a film"
