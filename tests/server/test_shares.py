from hypothesis import given
from hypothesis import strategies as st

from ams_server.shares import fair_shares


def test_small_wishes_are_granted_and_the_rest_is_shared_evenly() -> None:
    assert fair_shares([10, 100, 0, 40], 150) == [10, 50, 50, 40]
    assert fair_shares([10, 20], 150) == [10, 20]
    assert fair_shares([0, 0, 0], 100) == [33, 33, 34]
    assert fair_shares([10, 0], 0) == [10, 0], "no total, no sharing"
    assert fair_shares([], 100) == []


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20), st.integers(100, 10_000))
def test_shares_are_max_min_fair(asked: list[int], total: int) -> None:
    shares = fair_shares(asked, total)
    wishes = [each or total for each in asked]
    assert sum(shares) <= total
    assert all(0 < share <= wish for share, wish in zip(shares, wishes, strict=True))
    assert sum(shares) == min(total, sum(wishes)), "nothing is left over while somebody wants more"
    largest = max(shares)
    unhappy = [share for share, wish in zip(shares, wishes, strict=True) if share < wish]
    assert all(share >= largest - len(shares) for share in unhappy), "who is cut gets as much as anybody"
