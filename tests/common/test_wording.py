import pytest

from ams_common.wording import counted


@pytest.mark.parametrize(("count", "words"), [(0, "0 frames"), (1, "1 frame"), (2, "2 frames")])
def test_one_is_singular(count: int, words: str) -> None:
    assert counted(count, "frame") == words
