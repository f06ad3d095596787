"""A server process that ends, in order or not, and the one that takes its place on the same port."""

import signal
from pathlib import Path

import pytest
from tests.integration.processes import Process, edge, server
from tests.integration.scene import HEIGHT, WIDTH, write_scene

RATE_HZ = 5
FRAMES = 900


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    write_scene(folder / "video.mp4", folder / "labels.npz", frames=FRAMES, rate_hz=RATE_HZ)
    return folder


def server_arguments(scene: Path, state: Path) -> list[str]:
    return [
        *("--teacher", f"labels:{scene / 'labels.npz'}", "--teacher-classes", "street7", "--teacher-labels-hz", str(RATE_HZ)),
        *("--class-set", "street7", "--classes", "road,sky", "--student", "jitnet-quarter"),
        *("--student-width", str(WIDTH), "--student-height", str(HEIGHT)),
        *("--update-interval-s", "2", "--steps", "2", "--batch-size", "2", "--threads", "1"),
        *("--state-folder", str(state)),
    ]


def swapped(device: Process) -> list[int]:
    """Return the versions that the edge has switched to so far."""
    return [int(str(event["version"])) for event in device.events("swap")]


def updates(serving: Process) -> list[int]:
    """Return the versions that the server has made so far."""
    return [int(str(event["version"])) for event in serving.events("update")]


def test_a_device_goes_on_after_its_server_was_killed_and_after_it_ended_in_order(scene: Path, tmp_path: Path) -> None:
    arguments = server_arguments(scene, tmp_path / "sessions")
    # The film is long enough for all of the test and is not played to its end.
    with (
        server(tmp_path / "first", arguments) as (serving, address),
        edge(tmp_path / "edge", address, tmp_path / "state", ["--source", str(scene / "video.mp4")]) as device,
    ):
        arguments += ["--listen", address]
        device.wait_for("swap", 3)
        serving.process.send_signal(signal.SIGKILL)
        serving.wait(30)
        device.wait_for("disconnected")
        ahead = swapped(device)
        with server(tmp_path / "second", arguments) as (serving, _):
            device.wait_for("swap", len(ahead) + 2)
            restored = updates(serving)[0] - 1
            assert f"its session goes on from version {restored} on disk" in serving.log
            assert 1 <= restored < ahead[-1], "the device was ahead of what the killed process had written"
            assert f"greeted with the way back to version {restored}: 0 kB" in serving.log
            assert serving.terminate() == 0, serving.log
        last = updates(serving)[-1]
        with server(tmp_path / "third", arguments) as (serving, _):
            serving.wait_for("update", 2)
            device.wait_for("swap", len(ahead) + last - restored + 1)
            assert f"its session goes on from version {last} on disk" in serving.log
            assert "a whole model" not in serving.log
            assert serving.terminate() == 0, serving.log
        after = swapped(device)[len(ahead) :]
        assert not device.events("refused")
        assert device.terminate() == 0, device.log
    # From the second process's snapshot on no version is lost or comes twice, over two processes.
    assert after == list(range(restored + 1, restored + 1 + len(after)))
    assert len(list((tmp_path / "sessions").glob("*.safetensors"))) == 1
