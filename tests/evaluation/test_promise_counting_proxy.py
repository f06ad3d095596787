import asyncio
import sys

import pytest

from ams_common.clock import SystemClock
from ams_eval.promise.counting_proxy import CountingProxy
from ams_eval.promise.shaping import SEGMENT_HEADER_BYTES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's count of segments is Linux's")
TIMEOUT_S = 20.0


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100_000):
        writer.write(data[: len(data) // 2])
    writer.close()


async def scenario() -> CountingProxy:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = CountingProxy(server.sockets[0].getsockname()[1], SystemClock())
    port = proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(bytes(100_000))
    await asyncio.wait_for(reader.readexactly(40_000), TIMEOUT_S)
    proxy.cut()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(10**6), TIMEOUT_S)
    refused, refused_writer = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(refused.readexactly(1), TIMEOUT_S)
    proxy.restore()
    reader, restored = await asyncio.open_connection("127.0.0.1", port)
    restored.write(bytes(2))
    assert await asyncio.wait_for(reader.readexactly(1), TIMEOUT_S) == bytes(1)
    await proxy.close()
    for each in (writer, refused_writer, restored):
        each.close()
    server.close()
    return proxy


def test_bytes_and_segments_are_counted_in_both_directions_and_connections_can_be_cut() -> None:
    proxy = asyncio.run(scenario())
    assert proxy.connections == 2
    assert 100_002 <= sum(proxy.uplink.payload_bytes) <= 100_010, "the kernel counts the end of a connection as a byte"
    assert 40_001 <= sum(proxy.downlink.payload_bytes) <= 50_010
    assert proxy.uplink.times_s == sorted(proxy.uplink.times_s)
    headers = sum(proxy.uplink.wire_bytes) - sum(proxy.uplink.payload_bytes)
    assert headers >= SEGMENT_HEADER_BYTES * (100_000 // 1448), "segments as large as on Ethernet"
    assert proxy.uplink.worst_excess_bytes(0) == sum(proxy.uplink.wire_bytes)
    assert proxy.uplink.mean_bps(8.0) == sum(proxy.uplink.wire_bytes)
