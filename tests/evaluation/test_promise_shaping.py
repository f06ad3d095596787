import asyncio
import socket
import sys

import pytest

from ams_common.clock import SystemClock
from ams_eval.promise.shaping import Conditions, ShapedDirection, drawn_stalls

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="socket pairs of asyncio are those of Unix")
TIMEOUT_S = 20.0
SLACK_S = 0.1
"""What a loaded machine may add to a time that is measured from below."""


async def carried(direction: ShapedDirection, size_bytes: int, *, stall_s: float = 0.0) -> tuple[float, float]:
    """Return the seconds until the first and the last of `size_bytes` came through."""
    clock, loop = SystemClock(), asyncio.get_running_loop()
    sender, source = socket.socketpair()
    target, receiver = socket.socketpair()
    for end in (sender, source, target, receiver):
        end.setblocking(False)
    carrying = asyncio.ensure_future(direction.carry(source, target))
    started_s = clock.now_s()
    await loop.sock_sendall(sender, bytes(size_bytes))
    sender.close()
    if stall_s:
        direction.stall()
        loop.call_later(stall_s, direction.resume)
    count = len(await asyncio.wait_for(loop.sock_recv(receiver, 1), TIMEOUT_S))
    first_s = clock.now_s() - started_s
    while count < size_bytes:
        count += len(await asyncio.wait_for(loop.sock_recv(receiver, 65_536), TIMEOUT_S))
    last_s = clock.now_s() - started_s
    await asyncio.wait_for(carrying, TIMEOUT_S)
    for end in (source, target, receiver):
        end.close()
    return first_s, last_s


async def under(conditions: Conditions, size_bytes: int, *, stall_s: float = 0.0) -> tuple[float, float]:
    direction = ShapedDirection(SystemClock())
    direction.conditions = conditions
    return await carried(direction, size_bytes, stall_s=stall_s)


def test_a_rate_lets_bytes_through_one_after_the_other_headers_included() -> None:
    first_s, last_s = asyncio.run(under(Conditions(rate_bps=800_000), 28_960))
    assert last_s >= 20 * (1448 + 52) * 8 / 800_000 - 0.01
    assert first_s < last_s / 2


def test_a_delay_comes_to_every_byte_and_takes_no_capacity() -> None:
    first_s, last_s = asyncio.run(under(Conditions(delay_s=0.15), 100_000))
    assert first_s >= 0.15
    assert last_s < 2 * 0.15 + SLACK_S


def test_nothing_goes_in_a_stall_and_all_afterwards() -> None:
    first_s, _ = asyncio.run(under(Conditions(), 10_000, stall_s=0.2))
    assert first_s >= 0.2


def test_connections_share_the_rate() -> None:
    async def both() -> float:
        direction = ShapedDirection(SystemClock())
        direction.conditions = Conditions(rate_bps=800_000)
        return max(last_s for _, last_s in await asyncio.gather(carried(direction, 14_480), carried(direction, 14_480)))

    assert asyncio.run(both()) >= 20 * 1500 * 8 / 800_000 - 0.01


def test_stalls_are_drawn_from_the_seed_alone_and_do_not_overlap() -> None:
    stalls = drawn_stalls(3, 600.0, pause_s=4.0)
    assert stalls == drawn_stalls(3, 600.0, pause_s=4.0) != drawn_stalls(4, 600.0, pause_s=4.0)
    times_s = [time_s for each in stalls for time_s in each]
    assert times_s == sorted(times_s)
    assert times_s[-1] <= 600.0
    assert all(0.2 <= end_s - begin_s <= 1.0 for begin_s, end_s in stalls)
    assert 90 < len(stalls) < 170
