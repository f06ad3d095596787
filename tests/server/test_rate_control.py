"""What an update may have of a downlink budget."""

from hypothesis import given
from hypothesis import strategies as st

from ams_common.budget import TokenBucket, allowance
from ams_common.clock import ManualClock
from ams_common.framing import sent_bytes
from ams_common.layout import ParameterLayout, TensorSpec
from ams_common.update_codec import create_codec
from ams_server.rate_control import (
    UNLIMITED_PARAMETERS,
    WORTHWHILE_UPDATE_BYTES,
    RateControlConfig,
    parameter_limit,
    update_limit_bytes,
)
from ams_server.wire_costs import UPDATE_FIELDS_BYTES, largest_payload_bytes

LAYOUT = ParameterLayout((TensorSpec(name="weights", shape=(10,)),))


def test_an_update_takes_what_its_interval_brings_and_nothing_that_was_saved() -> None:
    assert update_limit_bytes(50_000, 100_000) == largest_payload_bytes(50_000)
    assert update_limit_bytes(100_000, 100_000) == largest_payload_bytes(100_000)


def test_what_was_overspent_is_taken_back() -> None:
    assert update_limit_bytes(50_000, 30_000) == largest_payload_bytes(30_000)
    assert update_limit_bytes(50_000, -900_000) == WORTHWHILE_UPDATE_BYTES, "after a snapshot an update is small and waits"
    assert update_limit_bytes(2_000, -900_000) == largest_payload_bytes(2_000)


@given(st.lists(st.floats(0, 1.0), min_size=1, max_size=20), st.floats(1.0, 60.0), st.integers(20_000, 10**6))
def test_updates_that_keep_the_limit_never_wait(used: list[float], interval_s: float, rate_bps: int) -> None:
    clock = ManualClock()
    tokens = TokenBucket(allowance(rate_bps), clock)
    for part in used:
        limit_bytes = update_limit_bytes(tokens.bps * interval_s / 8, tokens.room_bytes)
        if limit_bytes > WORTHWHILE_UPDATE_BYTES:
            assert sent_bytes(limit_bytes + UPDATE_FIELDS_BYTES) <= tokens.room_bytes
        tokens.spend(sent_bytes(int(part * limit_bytes) + UPDATE_FIELDS_BYTES))
        clock.sleep(interval_s)


def test_a_codec_that_quantises_gets_a_share_of_bits_for_each_candidate() -> None:
    config = RateControlConfig(bits_per_candidate=4.0)
    assert parameter_limit(config, create_codec("delta-rans", LAYOUT), 5000, 24.0) == 10_000
    assert parameter_limit(config, create_codec("gap-zstd", LAYOUT), 5000, 25.0) == 1600, "others what they need for each"
    assert parameter_limit(config, create_codec("gap-zstd", LAYOUT), 0, 25.0) == 1
    assert parameter_limit(config, create_codec("delta-rans", LAYOUT), None, 24.0) == UNLIMITED_PARAMETERS
