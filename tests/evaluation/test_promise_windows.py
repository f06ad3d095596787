import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_eval.promise.windows import worst_excess_bytes


def brute_force(times_s: list[float], sizes_bytes: list[int], rate_bps: float, least_s: float) -> float:
    excess = float("-inf")
    for first in range(len(times_s)):
        for last in range(first, len(times_s)):
            length_s = max(least_s, times_s[last] - times_s[first])
            excess = max(excess, sum(sizes_bytes[first : last + 1]) - rate_bps / 8 * length_s)
    return excess


events = st.lists(st.tuples(st.floats(0, 4), st.integers(0, 5000)), max_size=30)


@given(events, st.floats(100, 1e5), st.floats(0.1, 10))
def test_it_is_that_of_the_worst_of_all_windows(steps: list[tuple[float, int]], rate_bps: float, least_s: float) -> None:
    times_s = [sum(pause_s for pause_s, _ in steps[: index + 1]) for index in range(len(steps))]
    sizes = [size for _, size in steps]
    assert worst_excess_bytes(times_s, sizes, rate_bps, least_s) == pytest.approx(
        brute_force(times_s, sizes, rate_bps, least_s), abs=1e-3
    )


def test_a_steady_stream_at_the_rate_never_exceeds_it_by_more_than_one_message() -> None:
    assert worst_excess_bytes(list(range(100)), [1000] * 100, 8000) == pytest.approx(1000)
    assert worst_excess_bytes(list(range(100)), [1000] * 100, 4000) == pytest.approx(100_000 - 49_500)
    assert worst_excess_bytes([], [], 8000) == float("-inf")
