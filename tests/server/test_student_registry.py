import pytest
import torch

from ams_common.errors import ConfigurationError
from ams_server.students.registry import STUDENTS, find_student


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_maps_its_smallest_image_to_logits_of_all_classes(name: str) -> None:
    spec = find_student(name)
    side = spec.size_multiple
    with torch.no_grad():
        logits = spec.build(5).eval()(torch.zeros(1, 3, side, 2 * side))
    assert logits.shape[:2] == (1, 5)
    assert 2 * logits.shape[2] == logits.shape[3]
    assert side % logits.shape[2] == 0


@pytest.mark.parametrize("name", [name for name, spec in STUDENTS.items() if spec.takes_one_more])
def test_logits_of_one_more_pixel_lie_from_corner_to_corner(name: str) -> None:
    spec = find_student(name)
    height, width = 2 * spec.size_multiple + 1, 3 * spec.size_multiple + 1
    with torch.no_grad():
        logits = spec.build(5).eval()(torch.zeros(1, 3, height, width))
    stride = (height - 1) // (logits.shape[2] - 1)
    assert stride in (2, 4, 16)
    assert ((logits.shape[2] - 1) * stride, (logits.shape[3] - 1) * stride) == (height - 1, width - 1)


@pytest.mark.parametrize("name", STUDENTS)
def test_normalisation_is_over_0_to_255(name: str) -> None:
    spec = find_student(name)
    for mean, std in zip(spec.mean, spec.std, strict=True):
        assert -3.0 < (0 - mean) / std < -0.9
        assert 0.9 < (255 - mean) / std < 3.0


def test_unknown_student_lists_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown student 'resnet': use deeplabv3-mobilenetv2, .*efficientvit-b0"):
        find_student("resnet")
