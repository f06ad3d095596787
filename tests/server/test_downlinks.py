from dataclasses import replace

from ams_common.budget import allowance
from ams_common.clock import ManualClock
from ams_common.framing import UPKEEP_BPS
from ams_common.messages import Hello
from ams_server.downlinks import Downlinks

HELLO = Hello(device_id="a", run_id=bytes(16), codecs=("delta-rans",), downlink_bps=100_000)


def hello_of(device_id: str) -> Hello:
    return replace(HELLO, device_id=device_id)


def test_a_new_device_has_a_full_bucket_of_the_budget_that_it_asks_for() -> None:
    bucket = Downlinks(ManualClock()).of(HELLO)
    assert bucket.bps == 100_000 - UPKEEP_BPS
    assert bucket.urgent_wait_s(allowance(100_000).burst_bytes) == 0


def test_each_device_has_one_bucket_whatever_it_asks_for_next() -> None:
    downlinks = Downlinks(ManualClock())
    bucket = downlinks.of(HELLO)
    bucket.spend(10**6)
    assert downlinks.of(replace(HELLO, downlink_bps=0)) is bucket
    assert downlinks.of(hello_of("b")) is not bucket


def test_the_device_that_was_silent_longest_is_forgotten() -> None:
    downlinks = Downlinks(ManualClock(), capacity=3)
    buckets = {name: downlinks.of(hello_of(name)) for name in "abc"}
    downlinks.of(hello_of("a"))
    downlinks.of(hello_of("d"))
    assert [downlinks.of(hello_of(name)) is buckets[name] for name in "ac"] == [True, True]
    assert downlinks.of(hello_of("b")) is not buckets["b"]


def test_a_device_that_was_connected_longer_than_others_are_remembered_keeps_its_bucket() -> None:
    downlinks = Downlinks(ManualClock(), capacity=1)
    bucket = downlinks.of(HELLO)
    downlinks.of(hello_of("b"))
    downlinks.keep("a", bucket)
    assert downlinks.of(HELLO) is bucket
