import pytest

from ams_common.wording import budgets_told, counted


@pytest.mark.parametrize(("count", "words"), [(0, "0 frames"), (1, "1 frame"), (2, "2 frames")])
def test_one_is_singular(count: int, words: str) -> None:
    assert counted(count, "frame") == words


def test_budgets_are_told_with_what_keeps_them_from_being_more() -> None:
    assert budgets_told(1_500, 0) == "1.5 kbit/s up, no limit down"
    assert budgets_told(9_000, 1_000, ("cap", "ceiling")) == (
        "9 kbit/s up (the server's cap for one device), 1 kbit/s down (a ceiling set for this device)"
    )
    assert budgets_told(9_000, 1_000, ("share", "other_direction")) == (
        "9 kbit/s up (this device's share of the server's total), 1 kbit/s down (the other direction acknowledges no more)"
    )
