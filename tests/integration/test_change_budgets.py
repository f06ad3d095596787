"""Budgets that change while both processes run: from the server by `ams-server admin`, from the device by SIGHUP."""

import signal
import socket
import time
from pathlib import Path

import pytest
from tests.integration.processes import POLL_S, Process, edge, server
from tests.integration.scene import HEIGHT, WIDTH, write_scene

from ams_server import command

RATE_HZ = 5
FRAMES = 900
TIMEOUT_S = 60.0


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


def wait_for_line(process: Process, line: str) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while line not in process.log:
        assert process.process.poll() is None, process.log
        assert time.monotonic() < deadline_s, f"no {line!r}:\n{process.log}"
        time.sleep(POLL_S)


def test_both_ends_change_budgets_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scene(tmp_path / "video.mp4", tmp_path / "labels.npz", frames=FRAMES, rate_hz=RATE_HZ)
    admin = free_address()
    arguments = [
        *("--teacher", f"labels:{tmp_path / 'labels.npz'}", "--teacher-classes", "street7"),
        *("--teacher-labels-hz", str(RATE_HZ), "--class-set", "street7", "--classes", "road,sky"),
        *("--student", "jitnet-quarter", "--student-width", str(WIDTH), "--student-height", str(HEIGHT)),
        *("--update-interval-s", "2", "--steps", "2", "--batch-size", "2", "--threads", "1"),
        *("--admin-listen", admin, "--max-uplink-kbps", "800"),
    ]
    file = tmp_path / "edge.toml"
    file.write_text("uplink_kbps = 900\ndownlink_kbps = 2000\n", encoding="utf-8")
    video = ["--source", str(tmp_path / "video.mp4"), "--config", str(file)]
    with (
        server(tmp_path / "server", arguments) as (serving, address),
        edge(tmp_path / "edge", address, tmp_path / "state", video) as device,
    ):
        device.wait_for("swap")
        asked = "900 kbit/s up, 2000 kbit/s down are asked for"
        assert (
            f"the server allows 800 kbit/s up (the server's cap for one device), 2000 kbit/s down, where {asked}" in device.log
        )
        assert command.run(["admin", "--admin", admin, "--set-budget", "test-device", "--uplink-kbps", "500"]) == 0
        wait_for_line(
            device, f"the server allows 500 kbit/s up (a ceiling set for this device), 2000 kbit/s down, where {asked}"
        )
        file.write_text("uplink_kbps = 100\ndownlink_kbps = 300\n", encoding="utf-8")
        device.process.send_signal(signal.SIGHUP)
        wait_for_line(serving, "device test-device: now 100 kbit/s up, 300 kbit/s down")
        assert "budgets are now 100 kbit/s up, 300 kbit/s down" in device.log
        assert command.run(["admin", "--admin", admin]) == 0
        row = capsys.readouterr().out.strip().splitlines()[-1].split()
        device.wait_for("swap", len(device.events("swap")) + 1)
        assert device.terminate() == 0, device.log
        assert serving.terminate() == 0, serving.log
    assert row[0] == "test-device"
    assert [row[index] for index in (3, 4, 6, 7)] == ["100", "100", "300", "300"]
