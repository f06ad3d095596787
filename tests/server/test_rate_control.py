"""What an update may have of a downlink budget."""

from hypothesis import given
from hypothesis import strategies as st

from ams_common.budget import LEAST_UPDATE_BYTES, UNLIMITED_PARAMETERS, Allowance, TokenBucket, allowance, payload_bytes
from ams_common.clock import ManualClock
from ams_common.framing import sent_bytes
from ams_common.layout import ParameterLayout, TensorSpec
from ams_common.update_codec import create_codec
from ams_server.rate_control import RateControlConfig, parameter_limit, update_limit_bytes

RATE_BPS = 80_000
LAYOUT = ParameterLayout((TensorSpec(name="weights", shape=(10,)),))


def bucket(clock: ManualClock, rate_bps: int = RATE_BPS) -> TokenBucket:
    """Return a bucket that keeps no connection open: the numbers are round then."""
    allowed = allowance(rate_bps)
    return TokenBucket(Allowance(bps=rate_bps, burst_bytes=allowed.burst_bytes, reserve_bytes=allowed.reserve_bytes), clock)


def test_without_a_budget_there_is_no_limit() -> None:
    assert update_limit_bytes(bucket(ManualClock(), 0), 0, 10.0) is None
    assert parameter_limit(RateControlConfig(), create_codec("delta-rans", LAYOUT), None, 24.0) == UNLIMITED_PARAMETERS


def test_a_full_bucket_is_one_interval_of_ten_seconds() -> None:
    assert update_limit_bytes(bucket(ManualClock()), RATE_BPS, 10.0) == payload_bytes(100_000)


def test_what_is_saved_up_makes_no_update_larger() -> None:
    clock = ManualClock()
    tokens = bucket(clock)
    assert update_limit_bytes(tokens, RATE_BPS, 5.0) == payload_bytes(50_000)
    tokens.spend(70_000)
    assert update_limit_bytes(tokens, RATE_BPS, 5.0) == payload_bytes(30_000), "the rest of the burst"
    clock.sleep(5.0)
    assert update_limit_bytes(tokens, RATE_BPS, 5.0) == payload_bytes(50_000)


def test_what_was_overspent_is_taken_back() -> None:
    clock = ManualClock()
    tokens = bucket(clock)
    tokens.spend(150_000)
    clock.sleep(10.0)
    assert update_limit_bytes(tokens, RATE_BPS, 10.0) == payload_bytes(50_000)
    tokens.spend(1_000_000)
    assert update_limit_bytes(tokens, RATE_BPS, 10.0) == LEAST_UPDATE_BYTES, "after a snapshot an update is small and waits"


def test_updates_far_apart_are_no_larger_than_the_burst() -> None:
    assert update_limit_bytes(bucket(ManualClock()), RATE_BPS, 30.0) == payload_bytes(100_000)


@given(st.lists(st.floats(0, 1.0), min_size=1, max_size=20), st.floats(1.0, 60.0), st.integers(20_000, 10**6))
def test_updates_that_keep_the_limit_never_wait(used: list[float], interval_s: float, rate_bps: int) -> None:
    clock = ManualClock()
    tokens = bucket(clock, rate_bps)
    for part in used:
        limit_bytes = update_limit_bytes(tokens, rate_bps, interval_s)
        assert limit_bytes is not None
        if limit_bytes > LEAST_UPDATE_BYTES:
            assert tokens.wait_s(sent_bytes(limit_bytes)) == 0.0
        tokens.spend(sent_bytes(int(part * limit_bytes)))
        clock.sleep(interval_s)


def test_a_codec_that_quantises_gets_a_share_of_bits_for_each_candidate() -> None:
    config = RateControlConfig(bits_per_candidate=4.0)
    assert parameter_limit(config, create_codec("delta-rans", LAYOUT), 5000, 24.0) == 10_000
    assert parameter_limit(config, create_codec("gap-zstd", LAYOUT), 5000, 25.0) == 1600, "others what they need for each"
    assert parameter_limit(config, create_codec("gap-zstd", LAYOUT), 0, 25.0) == 1
