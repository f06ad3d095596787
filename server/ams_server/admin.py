"""What a person at the server may ask of it while it runs: a gRPC service of its own, for this machine alone."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc.aio

from ams_common import wire_checks as check
from ams_common.address import Address
from ams_common.errors import ConfigurationError, ProtocolError
from ams_common.proto import admin_pb2 as pb
from ams_common.proto.admin_pb2_grpc import AdminServicer, add_AdminServicer_to_server
from ams_common.settings import PartConfig
from ams_common.wire import MAX_BPS, bound_from_proto, bound_to_proto
from ams_server.device_budget import Allotted, DeviceBudget
from ams_server.service import require_free

GRACE_S = 1.0


class AdminConfig(PartConfig):
    """Where a person at the server asks."""

    admin_listen: Address | None = None
    """Address that `ams-server admin` asks, best 127.0.0.1:50052: whoever reaches it may change budgets. None without it."""


@dataclass(frozen=True, kw_only=True)
class DeviceState:
    """A connected device."""

    device_id: str
    asked: DeviceBudget
    """What it asks for."""
    held: Allotted
    """What holds, and why it is no more."""
    ceiling: DeviceBudget
    """What a person has set for it."""
    uplink_bytes: int
    """Bytes on the wire from it since it connected."""
    downlink_bytes: int
    """Bytes on the wire to it since it connected."""
    connected_s: float
    """Seconds since it connected."""
    model_age_s: float | None
    """Age of its model, as `ModelAge` has it."""


class Devices(Protocol):
    """What the service looks after; used on the loop of the devices' streams."""

    def devices(self) -> Sequence[DeviceState]:
        """Return the connected devices in the order of their names."""
        ...

    def ceiling(self, device_id: str) -> DeviceBudget:
        """Return the ceiling that a person has set for a device."""
        ...

    def set_ceiling(self, device_id: str, ceiling: DeviceBudget) -> bool:
        """Hold a device to `ceiling` from now on; tell whether it is connected.

        Raises:
            ConfigurationError: it leaves too little for a device.
        """
        ...


class AdminService(AdminServicer):
    """Answers `ams-server admin`."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    async def ListDevices(  # noqa: N802
        self, request: pb.ListDevicesRequest, context: object
    ) -> pb.ListDevicesResponse:
        """Return the connected devices."""
        return pb.ListDevicesResponse(devices=[state_to_proto(each) for each in self._devices.devices()])

    async def SetCeiling(  # noqa: N802
        self, request: pb.SetCeilingRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.SetCeilingResponse:
        """Set a device's ceiling, or one direction of it."""
        try:
            device_id = check.device_id(request.device_id)
            before = self._devices.ceiling(device_id)
            up, down = request.HasField("uplink_bps"), request.HasField("downlink_bps")
            ceiling = DeviceBudget(
                uplink_bps=check.in_range("uplink_bps", request.uplink_bps, 0, MAX_BPS) if up else before.uplink_bps,
                downlink_bps=check.in_range("downlink_bps", request.downlink_bps, 0, MAX_BPS) if down else before.downlink_bps,
            )
            connected = self._devices.set_ceiling(device_id, ceiling)
        except (ProtocolError, ConfigurationError) as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return pb.SetCeilingResponse(connected=connected, uplink_bps=ceiling.uplink_bps, downlink_bps=ceiling.downlink_bps)


def state_to_proto(state: DeviceState) -> pb.DeviceUse:
    """Return the protobuf form of a device's state."""
    return pb.DeviceUse(
        device_id=state.device_id,
        asked_uplink_bps=state.asked.uplink_bps,
        asked_downlink_bps=state.asked.downlink_bps,
        uplink_bps=state.held.budget.uplink_bps,
        downlink_bps=state.held.budget.downlink_bps,
        uplink_bound=bound_to_proto(state.held.uplink_bound),
        downlink_bound=bound_to_proto(state.held.downlink_bound),
        uplink_bytes=state.uplink_bytes,
        downlink_bytes=state.downlink_bytes,
        connected_s=state.connected_s,
        model_age_s=state.model_age_s,
        ceiling_uplink_bps=state.ceiling.uplink_bps,
        ceiling_downlink_bps=state.ceiling.downlink_bps,
    )


def state_from_proto(proto: pb.DeviceUse) -> DeviceState:
    """Return a device's state."""
    return DeviceState(
        device_id=proto.device_id,
        asked=DeviceBudget(uplink_bps=proto.asked_uplink_bps, downlink_bps=proto.asked_downlink_bps),
        held=Allotted(
            budget=DeviceBudget(uplink_bps=proto.uplink_bps, downlink_bps=proto.downlink_bps),
            uplink_bound=bound_from_proto(proto.uplink_bound),
            downlink_bound=bound_from_proto(proto.downlink_bound),
        ),
        ceiling=DeviceBudget(uplink_bps=proto.ceiling_uplink_bps, downlink_bps=proto.ceiling_downlink_bps),
        uplink_bytes=proto.uplink_bytes,
        downlink_bytes=proto.downlink_bytes,
        connected_s=proto.connected_s,
        model_age_s=proto.model_age_s if proto.HasField("model_age_s") else None,
    )


@contextlib.asynccontextmanager
async def admin_service(address: str | None, devices: Devices) -> AsyncIterator[int]:
    """Answer at `address` within the block, on the present loop; yield the port. None answers nobody and yields 0.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    if address is None:
        yield 0
        return
    require_free(address, "--admin-listen")
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_AdminServicer_to_server(AdminService(devices), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigurationError(f"cannot listen on {address}: {error}") from error
    await server.start()
    try:
        yield port
    finally:
        await server.stop(GRACE_S)
