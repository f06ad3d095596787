"""The search for the quantiser that fills a number of bytes, on encoders whose sizes are known."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_common.video_fit import FILLED, Packets, QuantiserRange, evenly, fill, packets_bytes

RANGE = QuantiserRange(finest=12.0, first=30.0, coarsest=44.0)


class Encoder:
    """Makes packets of `size_of` the quantiser, and counts."""

    def __init__(self, size_of: Callable[[float], float]) -> None:
        self._size_of = size_of
        self.quantisers: list[float] = []

    def __call__(self, quantiser: float) -> Packets:
        assert RANGE.finest <= quantiser <= RANGE.coarsest
        self.quantisers.append(quantiser)
        return ((0, bytes(1)), (1, bytes(round(self._size_of(quantiser)) - 1)))


@given(
    target=st.floats(3000, 200_000),
    slope=st.floats(0.06, 0.25),
    bend=st.floats(-0.002, 0.002),
    scatter=st.floats(0, 0.012),
    phase=st.floats(0, 6),
    middle=st.floats(16, 40),
)
def test_a_scattering_size_is_filled_in_a_few_tries(
    target: float, slope: float, bend: float, scatter: float, phase: float, middle: float
) -> None:
    def size_of(quantiser: float) -> float:
        distance = quantiser - middle
        wave = scatter * math.sin(40 * quantiser + phase)
        return target * math.exp(-slope * distance + bend * distance**2 + wave)

    encoder = Encoder(size_of)
    found, last = fill(encoder, round(target), RANGE)
    assert found is not None
    assert packets_bytes(found) <= round(target)
    assert len(encoder.quantisers) <= 9
    if size_of(RANGE.finest) > target:
        assert packets_bytes(found) >= (FILLED - 0.03) * target
    assert found == last or packets_bytes(last) > target or packets_bytes(found) >= packets_bytes(last)


def test_the_finest_that_fits_wins_where_steps_are_large() -> None:
    encoder = Encoder(lambda quantiser: 1000 if quantiser >= 25 else 2000)
    found, _ = fill(encoder, 1500, RANGE)
    assert found is not None
    assert packets_bytes(found) == 1000
    assert min(abs(quantiser - 25) for quantiser in encoder.quantisers) < 0.1
    assert len(encoder.quantisers) < 20


def test_what_needs_little_is_coded_at_the_finest() -> None:
    encoder = Encoder(lambda quantiser: 900 - 10 * quantiser)
    found, _ = fill(encoder, 10_000, RANGE)
    assert found is not None
    assert encoder.quantisers[-1] == RANGE.finest
    assert packets_bytes(found) == 780


def test_what_never_fits_is_given_up_at_the_coarsest_with_its_size() -> None:
    encoder = Encoder(lambda quantiser: 10_000 - 100 * quantiser)
    found, last = fill(encoder, 5000, RANGE)
    assert found is None
    assert packets_bytes(last) == 5600
    assert encoder.quantisers[-1] == RANGE.coarsest


@pytest.mark.parametrize(
    ("count", "kept", "indices"),
    [(1, 1, [0]), (6, 6, [0, 1, 2, 3, 4, 5]), (6, 3, [1, 3, 5]), (6, 2, [2, 5]), (6, 1, [5]), (5, 4, [1, 2, 3, 4])],
)
def test_frames_are_kept_evenly_and_the_newest_always(count: int, kept: int, indices: list[int]) -> None:
    assert evenly(count, kept) == indices


@given(count=st.integers(1, 200), share=st.floats(0, 1))
def test_gaps_between_kept_frames_differ_by_one_at_most(count: int, share: float) -> None:
    kept = max(1, round(share * count))
    indices = evenly(count, kept)
    assert len(indices) == kept
    assert indices[-1] == count - 1
    gaps = {later - earlier for earlier, later in pairwise(indices)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert 0 <= indices[0] <= max(gaps or {count})
