"""What a replay did: every message, every update, and what the server asked for."""

from dataclasses import replace

from ams_common.messages import ClientMessage, Control, FrameBatch, ServerMessage, Update
from ams_common.wire import client_message_to_proto, server_message_to_proto
from ams_eval.outcome import ControlRecord, Direction, TrafficKind, Transfer, UpdateRecord

_GRPC_BYTES = 5
"""Prefix of every gRPC message: a flag and its length."""
_HTTP2_FRAME_BYTES = 16_384
_HTTP2_HEADER_BYTES = 9
_SEGMENT_BYTES = 1_448
"""Data of a TCP segment with time stamps in an Ethernet frame of 1,500 bytes."""
_TCP_IP_BYTES = 52


class Journal:
    """Collects the records of one device, with times from the start of its recording."""

    def __init__(self) -> None:
        self.starts_s = 0.0
        """Virtual time at which the recording starts; to be set before anything is noted."""
        self.transfers: list[Transfer] = []
        self.updates: list[UpdateRecord] = []
        self.controls: list[ControlRecord] = []
        self.frames_labelled = 0
        """Frames that the server's teacher labelled for this device."""

    def transfer(self, time_s: float, direction: Direction, kind: TrafficKind, payload_bytes: int, wire_bytes: int) -> None:
        """Note a message whose last byte left at `time_s`."""
        self.transfers.append(
            Transfer(
                time_s=time_s - self.starts_s,
                direction=direction,
                kind=kind,
                payload_bytes=payload_bytes,
                wire_bytes=wire_bytes,
            )
        )

    def sent_by_device(self, time_s: float, message: ClientMessage) -> None:
        """Note a message of the device."""
        size_bytes = client_message_to_proto(message).ByteSize()
        if isinstance(message, FrameBatch):
            self.transfer(time_s, "up", "frames", message.payload_bytes, wire_bytes(size_bytes))
        else:
            self.transfer(time_s, "up", "control", size_bytes, wire_bytes(size_bytes))

    def sent_by_server(self, time_s: float, message: ServerMessage) -> None:
        """Note a message of the server."""
        size_bytes = server_message_to_proto(message).ByteSize()
        if isinstance(message, Update):
            self.transfer(time_s, "down", "update", len(message.payload), wire_bytes(size_bytes))
        else:
            self.transfer(time_s, "down", "control", size_bytes, wire_bytes(size_bytes))

    def provisioned(self, model_bytes: int) -> None:
        """Note the first model, which the device holds from the start: a graph and weights of so many bytes, coded."""
        self.transfer(self.starts_s, "down", "model", model_bytes, wire_bytes(model_bytes))

    def applied(self, update: UpdateRecord) -> None:
        """Note an update that has taken effect."""
        newest_s = update.newest_capture_s - self.starts_s
        self.updates.append(replace(update, time_s=update.time_s - self.starts_s, newest_capture_s=newest_s))

    def asked(self, time_s: float, control: Control, update_interval_s: float) -> None:
        """Note what the server asks for, if it is new."""
        record = ControlRecord(
            time_s=time_s - self.starts_s, sampling_hz=control.sampling_hz, update_interval_s=update_interval_s
        )
        last = self.controls[-1] if self.controls else None
        if last is None or (last.sampling_hz, last.update_interval_s) != (record.sampling_hz, record.update_interval_s):
            self.controls.append(record)


def wire_bytes(message_bytes: int) -> int:
    """Return the bytes that a serialised protobuf message takes on an Ethernet without TLS: gRPC, HTTP/2 and TCP/IP added.

    Acknowledgements of TCP, which go the other way, are left out.
    """
    body = _GRPC_BYTES + message_bytes
    framed = body + _HTTP2_HEADER_BYTES * -(-body // _HTTP2_FRAME_BYTES)
    return framed + _TCP_IP_BYTES * -(-framed // _SEGMENT_BYTES)
