import pytest

from ams_common.alignment import has_corner_logits


@pytest.mark.parametrize(("size", "expected"), [((257, 193), True), ((256, 192), False), ((257, 192), False)])
def test_odd_pictures_have_logits_on_their_corners(size: tuple[int, int], expected: bool) -> None:
    assert has_corner_logits(*size) is expected
