"""The command `ams-server admin`: shows the devices of a running server, and changes what they may use."""

import sys
from collections.abc import Sequence

import grpc
from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict
from rich.console import Console
from rich.table import Table

from ams_common.address import PeerAddress
from ams_common.errors import AmsError
from ams_common.messages import Bound
from ams_common.proto import admin_pb2 as pb
from ams_common.proto.admin_pb2_grpc import AdminStub
from ams_common.settings import CommandSettings, load_settings
from ams_server.admin import DeviceState, state_from_proto
from ams_server.allotment import UNLIMITED, describe
from ams_server.device_budget import DeviceBudget

TIMEOUT_S = 10.0
PIPED_WIDTH = 200
_BOUNDS: dict[Bound, str] = {"cap": "cap", "ceiling": "ceiling", "share": "share", "other_direction": "other way"}
"""What keeps a budget from being more, in words that are narrow enough for a table."""


class AdminSettings(CommandSettings):
    """Show the devices of a running server and what they use, or change what one of them may use."""

    model_config = SettingsConfigDict(cli_prog_name="ams-server admin")

    admin: PeerAddress = "127.0.0.1:50052"
    """Address that the server was given with --admin-listen."""
    set_budget: str = ""
    """Name of the device whose budgets the next two flags lower, from now until the server ends; without it devices are
    listed. Its own budgets go on to hold below them."""
    uplink_kbps: float | None = Field(default=None, ge=0, le=1e9)
    """Most that it may send in kbit/s, headers included; 0 leaves it to the device again, and without the flag it stays."""
    downlink_kbps: float | None = Field(default=None, ge=0, le=1e9)
    """Most that it is sent in kbit/s, headers included; 0 leaves it to the device again, and without the flag it stays."""

    @model_validator(mode="after")
    def _rates_need_a_device(self) -> "AdminSettings":
        rates = any(rate is not None for rate in (self.uplink_kbps, self.downlink_kbps))
        if rates and not self.set_budget:
            raise ValueError("--uplink-kbps and --downlink-kbps need --set-budget DEVICE")
        if self.set_budget and not rates:
            raise ValueError("--set-budget needs --uplink-kbps, --downlink-kbps or both; 0 leaves a rate to the device again")
        return self


class AdminCallError(AmsError):
    """The server cannot be asked, or refuses."""


def run(arguments: Sequence[str]) -> int:
    """List the devices or change one; return the exit status.

    Raises:
        AmsError: what a person must mend, in one line.
    """
    settings = load_settings(AdminSettings, arguments)
    # What is no terminal takes lines of any length.
    console = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
    with grpc.insecure_channel(settings.admin, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = AdminStub(channel)
        try:
            if settings.set_budget:
                console.print(_set_budget(stub, settings), highlight=False, soft_wrap=True)
            else:
                console.print(_table(_devices(stub)))
        except grpc.RpcError as error:
            raise AdminCallError(_reason(settings.admin, error)) from error
    return 0


def _set_budget(stub: AdminStub, settings: AdminSettings) -> str:
    request = pb.SetCeilingRequest(
        device_id=settings.set_budget,
        uplink_bps=_bps(settings.uplink_kbps),
        downlink_bps=_bps(settings.downlink_kbps),
    )
    answer = stub.SetCeiling(request, timeout=TIMEOUT_S)
    ceiling = DeviceBudget(uplink_bps=answer.uplink_bps, downlink_bps=answer.downlink_bps)
    said = f"device {settings.set_budget}: ceiling {describe(ceiling)}"
    if not answer.connected:
        return f"{said}, once it connects: no device of this name is connected now"
    states = [each for each in _devices(stub) if each.device_id == settings.set_budget]
    now = [f"it asks for {describe(each.asked)} and has {describe(each.held)}" for each in states]
    return "; ".join([f"{said}, from now on", *now])


def _bps(kbps: float | None) -> int | None:
    return None if kbps is None else round(1000 * kbps)


def _devices(stub: AdminStub) -> list[DeviceState]:
    return [state_from_proto(each) for each in stub.ListDevices(pb.ListDevicesRequest(), timeout=TIMEOUT_S).devices]


def _table(devices: Sequence[DeviceState]) -> Table:
    """Return what the list shows of devices."""
    rates = ("up, kbit/s", "asked", "mean", "down, kbit/s", "asked", "mean")
    table = Table("device", "here for", *rates, "ceiling up/down", "model age", box=None, pad_edge=False)
    for each in devices:
        seconds, held = max(each.connected_s, 1e-3), each.held.budget
        table.add_row(
            *(each.device_id, f"{each.connected_s:.0f} s"),
            *(_held(held.uplink_bps, each.held.uplink_bound), _kbps(each.asked.uplink_bps)),
            f"{each.uplink_bytes * 8e-3 / seconds:.1f}",
            *(_held(held.downlink_bps, each.held.downlink_bound), _kbps(each.asked.downlink_bps)),
            f"{each.downlink_bytes * 8e-3 / seconds:.1f}",
            f"{_kbps(each.ceiling.uplink_bps)}/{_kbps(each.ceiling.downlink_bps)}" if each.ceiling != UNLIMITED else "–",
            f"{each.model_age_s:.1f} s" if each.model_age_s is not None else "–",
        )
    return table


def _held(bps: int, bound: Bound) -> str:
    """Return a rate that holds, with what keeps it from being more."""
    return f"{_kbps(bps)}, {_BOUNDS[bound]}" if bound in _BOUNDS else _kbps(bps)


def _kbps(bps: int) -> str:
    return f"{bps / 1000:g}" if bps else "any"


def _reason(address: str, error: grpc.RpcError) -> str:
    if not isinstance(error, grpc.Call):
        return f"the server at {address} cannot be asked: {error}"
    match error.code():
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no server answers at {address}: was it started with --admin-listen {address}? ({error.details()})"
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"the server at {address} does not know this call: --admin takes its --admin-listen, not that of --listen"
        case _:
            return f"the server at {address} refuses: {error.details()}"
