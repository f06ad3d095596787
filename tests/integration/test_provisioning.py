"""A device whose model was put on it beforehand, at a server that has never seen it, over a slow link."""

from pathlib import Path

import pytest
from tests.integration.processes import edge, running, server
from tests.integration.scene import HEIGHT, WIDTH, write_scene

RATE_HZ = 5
FRAMES = 600
STUDENT = [
    *("--class-set", "street7", "--classes", "road,sky", "--student", "jitnet-half"),
    *("--student-width", str(WIDTH), "--student-height", str(HEIGHT)),
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    write_scene(folder / "video.mp4", folder / "labels.npz", frames=FRAMES, rate_hz=RATE_HZ)
    return folder


def test_a_slow_link_carries_updates_only(scene: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.ams"
    with running("ams_server.command", tmp_path / "provision", ["provision", *STUDENT, "--out", str(model)]) as process:
        assert process.wait(300) == 0, process.log
    arguments = [
        *("--teacher", f"labels:{scene / 'labels.npz'}", "--teacher-classes", "street7", "--teacher-labels-hz", str(RATE_HZ)),
        *STUDENT,
        *("--update-interval-s", "5", "--steps", "2", "--batch-size", "2", "--threads", "1"),
    ]
    slow = ["--source", str(scene / "video.mp4"), "--downlink-kbps", "16", "--uplink-kbps", "64"]
    with server(tmp_path / "server", arguments) as (serving, address):
        with edge(tmp_path / "edge", address, tmp_path / "state", [*slow, "--model", str(model)]) as device:
            swap = device.wait_for("swap")[0]
            assert device.terminate() == 0, device.log
        assert swap["version"] == 1
        assert f"version 0 of {model} runs" in device.log
        assert "receiving version" not in device.log
        assert "greeted with nothing but a welcome\n" in serving.log
        # The same model over the network: minutes, as both sides say.
        with edge(tmp_path / "bare", address, tmp_path / "bare-state", [*slow, "--device-id", "bare"]) as device:
            device.wait_for("connected")
        assert "device bare: greeted with a whole model" in serving.log
    (seconds,) = [
        int(line.split(", up to ")[1].split(" s ")[0]) for line in serving.log.splitlines() if "a whole model" in line
    ]
    assert seconds > 180
    frames_then = sum(int(str(each["frames"])) for each in device.events("statistics"))
    assert frames_then == 0
