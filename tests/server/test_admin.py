"""The admin service over a socket, asked by the command that people use."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import grpc
import pytest
from rich.console import Console
from tests.protocol_support import FakeBackend, offer, running_server

from ams_common.errors import AmsError, ConfigurationError
from ams_common.proto import admin_pb2 as pb
from ams_common.proto.admin_pb2_grpc import AdminStub
from ams_server import admin_command, command
from ams_server.admin import DeviceState, admin_service
from ams_server.device_budget import Allotted, DeviceBudget, require_workable

TIMEOUT_S = 20.0
CAMERA = DeviceState(
    device_id="camera-1",
    asked=DeviceBudget(uplink_bps=200_000, downlink_bps=0),
    held=Allotted(
        budget=DeviceBudget(uplink_bps=50_000, downlink_bps=200_000), uplink_bound="ceiling", downlink_bound="other_direction"
    ),
    ceiling=DeviceBudget(uplink_bps=50_000, downlink_bps=0),
    uplink_bytes=50_000,
    downlink_bytes=1_000_000,
    connected_s=40.0,
    model_age_s=4.62,
)


def even(rate_bps: int) -> DeviceBudget:
    return DeviceBudget(uplink_bps=rate_bps, downlink_bps=rate_bps)


class FakeDevices:
    def __init__(self) -> None:
        self.ceilings: list[tuple[str, DeviceBudget]] = []

    def devices(self) -> list[DeviceState]:
        return [CAMERA, replace(CAMERA, device_id="camera-2", ceiling=even(0), model_age_s=None)]

    def ceiling(self, device_id: str) -> DeviceBudget:
        return next((set_to for name, set_to in reversed(self.ceilings) if name == device_id), even(0))

    def set_ceiling(self, device_id: str, ceiling: DeviceBudget) -> bool:
        require_workable(ceiling, 10.0)
        self.ceilings.append((device_id, ceiling))
        return device_id == "camera-1"


@contextmanager
def running_admin(devices: FakeDevices) -> Iterator[str]:
    ports: list[int] = []
    bound, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with admin_service("127.0.0.1:0", devices) as port:
            ports.append(port)
            bound.set()
            await asyncio.to_thread(over.wait, TIMEOUT_S)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert bound.wait(TIMEOUT_S)
        yield f"127.0.0.1:{ports[0]}"
    finally:
        over.set()
        thread.join(TIMEOUT_S)


def test_devices_are_listed_with_what_they_ask_have_and_use(capsys: pytest.CaptureFixture[str]) -> None:
    with running_admin(FakeDevices()) as address:
        assert command.run(["admin", "--admin", address]) == 0
    _, row, new = capsys.readouterr().out.strip().splitlines()
    assert " ".join(row.split()) == "camera-1 40 s 50, ceiling 200 10.0 200, other way any 200.0 50/any 4.6 s"
    assert new.split()[-3:] == ["200.0", "–", "–"], "it has no ceiling, and its model has learnt nothing yet"


def test_the_list_fits_a_narrow_terminal() -> None:
    console = Console(width=80)
    with console.capture() as shown:
        console.print(admin_command._table([replace(CAMERA, ceiling=even(50_000))]))
    assert "…" not in shown.get()


def test_a_budget_is_set_for_a_device_that_is_here_or_will_come(capsys: pytest.CaptureFixture[str]) -> None:
    devices = FakeDevices()
    with running_admin(devices) as address:
        asked = ["admin", "--admin", address, "--set-budget"]
        for flags in ("camera-1 --uplink-kbps 20", "camera-1 --downlink-kbps 30", "camera-1 --uplink-kbps 0"):
            assert command.run([*asked, *flags.split()]) == 0
        assert command.run([*asked, "camera-2", "--uplink-kbps", "50", "--downlink-kbps", "60"]) == 0
    assert devices.ceilings == [
        ("camera-1", DeviceBudget(uplink_bps=20_000, downlink_bps=0)),
        ("camera-1", DeviceBudget(uplink_bps=20_000, downlink_bps=30_000)),
        ("camera-1", DeviceBudget(uplink_bps=0, downlink_bps=30_000)),
        ("camera-2", DeviceBudget(uplink_bps=50_000, downlink_bps=60_000)),
    ]
    later = "once it connects: no device of this name is connected now"
    has = "50 kbit/s up (a ceiling set for this device), 200 kbit/s down (the other direction acknowledges no more)"
    now = f"from now on; it asks for 200 kbit/s up, no limit down and has {has}"
    assert capsys.readouterr().out.splitlines() == [
        f"device camera-1: ceiling 20 kbit/s up, no limit down, {now}",
        f"device camera-1: ceiling 20 kbit/s up, 30 kbit/s down, {now}",
        f"device camera-1: ceiling no limit up, 30 kbit/s down, {now}",
        f"device camera-2: ceiling 50 kbit/s up, 60 kbit/s down, {later}",
    ]


def test_what_cannot_be_is_refused_in_one_line() -> None:
    devices = FakeDevices()
    with running_admin(devices) as address:
        with pytest.raises(AmsError, match="refuses: device id"):
            command.run(["admin", "--admin", address, "--set-budget", "../etc", "--uplink-kbps", "9"])
        with pytest.raises(AmsError, match=r"refuses: uplink budget of 1 kbit/s carries nothing .* the least is 4\.6 kbit/s"):
            command.run(["admin", "--admin", address, "--set-budget", "camera-1", "--uplink-kbps", "1"])
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
            AdminStub(channel).SetCeiling(pb.SetCeilingRequest(device_id="camera-1", uplink_bps=10**13), timeout=TIMEOUT_S)
    assert devices.ceilings == []
    with pytest.raises(AmsError, match=r"no server answers at .*--admin-listen"):
        command.run(["admin", "--admin", address])
    with running_server(FakeBackend(offer(0))) as server, pytest.raises(AmsError, match="not that of --listen"):
        command.run(["admin", "--admin", f"127.0.0.1:{server.port}"])
    with pytest.raises(ConfigurationError, match="need --set-budget DEVICE"):
        command.run(["admin", "--uplink-kbps", "20"])
    with pytest.raises(ConfigurationError, match="--set-budget needs --uplink-kbps, --downlink-kbps or both"):
        command.run(["admin", "--set-budget", "camera-1"])


def test_what_takes_the_call_and_says_nothing_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_command, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(AmsError, match=f"^no server answers at {address}: was it started with --admin-listen"):
            command.run(["admin", "--admin", address])


def test_help_says_what_stands_for_a_device_and_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.run(["admin", "--help"])
    said = capsys.readouterr().out
    assert "--set-budget DEVICE" in said
    assert "--admin HOST:PORT" in said


def test_without_an_address_nobody_is_answered() -> None:
    async def ask() -> int:
        async with admin_service(None, FakeDevices()) as port:
            return port

    assert asyncio.run(ask()) == 0
