"""What a person or a peer can get wrong, with the two commands as real processes: one clear line, and nothing is lost."""

import re
import socket
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.edge.tiny_student import tiny_model, tiny_update
from tests.integration.processes import Process, edge, running, server
from tests.integration.scene import HEIGHT, WIDTH, write_scene
from tests.protocol_support import CONTROL, FakeBackend, running_server

from ams_common.clock import SystemClock
from ams_common.session.greeting import Offer, starting_point
from ams_common.session.server import SnapshotWanted
from ams_common.update_codec import DEFAULT_CODEC
from ams_edge.store import ModelStore, StoreConfig

END_TIMEOUT_S = 120.0
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [DIWEC] ")
EDGE, SERVER = "ams_edge.command", "ams_server.daemon"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    write_scene(folder / "video.mp4", folder / "labels.npz", frames=20, rate_hz=10)
    (folder / "notes.mp4").write_text("this is no video\n")
    (folder / "file").write_text("")
    (folder / "bad.toml").write_text("stepps = 3\n")
    (folder / "broken.toml").write_text("steps = = 3\n")
    save_file({"some.other.weight": np.zeros((3, 3), np.float32)}, folder / "other.safetensors")
    return folder


def server_arguments(scene: Path) -> list[str]:
    return [
        *("--teacher", f"labels:{scene / 'labels.npz'}", "--teacher-classes", "street7", "--teacher-labels-hz", "10"),
        *("--class-set", "street7", "--classes", "road,sky", "--student", "jitnet-quarter"),
        *("--student-width", str(WIDTH), "--student-height", str(HEIGHT), "--threads", "1", "--listen", "127.0.0.1:0"),
    ]


def only_complaint(process: Process) -> str:
    """Wait for the end with a non-zero status; return the one line that is no ordinary line of the log, and is the last."""
    assert process.wait(END_TIMEOUT_S) == 2, process.log
    lines = process.log.splitlines()
    complaints = [line for line in lines if not LOG_LINE.match(line)]
    assert len(complaints) == 1, process.log
    assert complaints == lines[-1:], process.log
    return complaints[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "{scene}/absent.mp4"], "absent.mp4"),
        (["--source", "{scene}/notes.mp4"], "notes.mp4"),
        (["--source", "/dev/video98"], "/dev/video98"),
        (["--source", "rtsp://127.0.0.1:9/live"], "rtsp://127.0.0.1:9/live"),
        (["--source", "{scene}/video.mp4", "--overlay", "{scene}/file/out.mp4"], "{scene}/file/out.mp4"),
        (["--source", "{scene}/video.mp4", "--labels", "{scene}/file"], "{scene}/file"),
        (["--source", "{scene}/video.mp4", "--state-folder", "{scene}/file/state"], "cannot make the model folder"),
        (["--source", "{scene}/video.mp4", "--config", "{scene}/bad.toml"], "unknown setting stepps in {scene}/bad.toml"),
        (
            ["--source", "{scene}/video.mp4", "--config", "{scene}/broken.toml"],
            "cannot read settings file",
        ),
        (["--source", "{scene}/video.mp4", "--speed", "2"], "unrecognized arguments: --speed 2"),
    ],
)
def test_the_edge_says_in_one_line_what_is_wrong(scene: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    given = [argument.format(scene=scene) for argument in arguments]
    state = [] if "--state-folder" in given else ["--state-folder", str(tmp_path / "state")]
    with running(EDGE, tmp_path / "edge", [*state, *given]) as process:
        assert message.format(scene=scene) in only_complaint(process)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--student-weights", "{scene}/other.safetensors"], "other.safetensors"),
        (["--teacher", "efficientvit-b0", "--teacher-weights", "{scene}/other.safetensors"], "other.safetensors"),
        (["--teacher", "onnx:{scene}/absent.onnx"], "absent.onnx"),
        (["--classes", "unicorn"], "unknown class 'unicorn': class set 'street7' has road, "),
        (["--classes", "sky"], "--classes=road,sky,sky: names the class 'sky' twice"),
        (["--class-set", "stars"], "unknown class set 'stars': use cityscapes19, "),
        (["--student", "alexnet"], "unknown student 'alexnet': use deeplabv3-mobilenetv2, "),
        (["--listen", "127.0.0.1:{port}"], "another program uses this port, choose another with --listen"),
        (["--config", "{scene}/bad.toml"], "unknown setting stepps in {scene}/bad.toml: did you mean steps?"),
        (["--stepps", "3"], "unrecognized arguments: --stepps 3"),
    ],
)
def test_the_server_says_in_one_line_what_is_wrong(scene: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        given = [argument.format(scene=scene, port=taken.getsockname()[1]) for argument in arguments]
        with running(SERVER, tmp_path / "server", [*server_arguments(scene), *given]) as process:
            complaint = only_complaint(process)
    assert message.format(scene=scene) in complaint


def test_a_budget_that_carries_nothing_names_the_least(scene: Path, tmp_path: Path) -> None:
    with server(tmp_path / "server", server_arguments(scene)[:-2]) as (serving, address):
        for flag, least_kbps in (("--uplink-kbps", 4.6), ("--downlink-kbps", 2.2)):
            arguments = ["--source", str(scene / "video.mp4"), flag, "1"]
            with edge(tmp_path / flag, address, tmp_path / "state", arguments) as process:
                complaint = only_complaint(process)
            assert "budget of 1 kbit/s carries nothing" in complaint
            assert f"the least is {least_kbps} kbit/s" in complaint
        assert serving.terminate() == 0, serving.log


def test_without_its_server_the_edge_runs_the_stored_model_and_keeps_trying(scene: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "state" / "test-device", StoreConfig(), SystemClock())
    store.offer(tiny_model(version=6))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        arguments = ["--source", str(scene / "video.mp4"), "--labels", str(tmp_path / "labels")]
        with edge(tmp_path / "edge", address, tmp_path / "state", arguments) as process:
            assert process.wait(END_TIMEOUT_S) == 0, process.log
    assert "version 6 of the last run's model runs" in process.log
    assert f"server {address} cannot be reached" in process.log
    assert "the model runs on" in process.log
    assert list((tmp_path / "labels").glob("*.png"))
    stored = store.load()
    assert stored is not None
    assert stored.version == 6


def test_a_foreign_update_over_the_link_is_refused_and_the_model_runs_on(scene: Path, tmp_path: Path) -> None:
    model = tiny_model(version=2)
    offer = Offer(
        start=starting_point(model.manifest, model.graph, model.vector),
        codec=DEFAULT_CODEC,
        control=CONTROL,
        version=2,
        weights=model.vector,
        weights_digest=model.weights_digest,
    )
    ModelStore(tmp_path / "state" / "test-device", StoreConfig(), SystemClock()).offer(model)
    backend = FakeBackend(offer)
    with running_server(backend) as serving:
        arguments = ["--source", str(scene / "video.mp4"), "--labels", str(tmp_path / "labels")]
        with edge(tmp_path / "edge", f"127.0.0.1:{serving.port}", tmp_path / "state", arguments) as process:
            process.wait_for("connected")
            connection = backend.connection()
            connection.outlet.send(tiny_update(tiny_model(seed=5, version=2)))
            connection.events.wait_count(SnapshotWanted)
            assert process.wait(END_TIMEOUT_S) == 0, process.log
    (refused,) = process.events("refused")
    assert refused["reason"] == "update to version 3 is for other weights of version 2"
    assert not process.events("swap")
    versions = {line.split(",")[3] for line in (tmp_path / "labels" / "index.csv").read_text().splitlines()[1:]}
    assert versions == {"2"}
