from pathlib import Path

import pytest
import torch

from ams_common.classes import CITYSCAPES19, STREET7
from ams_common.errors import ConfigurationError, ModelError
from ams_server.students.config import StudentConfig
from ams_server.students.factory import check_size, create_student, random_student
from ams_server.students.probe import random_images
from ams_server.students.registry import STUDENTS, find_student
from ams_server.students.weights import save_weights

QUARTER = StudentConfig(student="jitnet-quarter", student_width=64, student_height=32)


def test_seed_decides_about_the_weights_and_the_global_random_state_stays() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (create_student(QUARTER, STREET7, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    for (name, a), (_, b) in zip(one.named_parameters(), same.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_statistics_are_frozen() -> None:
    student = create_student(QUARTER, STREET7, 0)
    before = [buffer.clone() for buffer in student.buffers()]
    student(torch.rand(2, 3, 32, 64)).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(before, student.buffers(), strict=True))


@pytest.mark.parametrize("name", STUDENTS)
def test_untrained_student_passes_the_picture_on_and_learns_with_frozen_statistics(name: str) -> None:
    student = random_student(find_student(name), STREET7, seed=0)
    logits = student(random_images(2, 64, 64, torch.Generator().manual_seed(9)))
    assert 0.1 < logits.std(dim=(0, 2, 3)).mean() < 10
    logits.square().mean().backward()
    first = next(student.parameters())
    assert first.grad is not None
    assert first.grad.abs().max() > 1e-4


def test_random_images_come_from_the_generator() -> None:
    one, same, other = (random_images(2, 32, 48, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert one.shape == (2, 3, 32, 48)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.abs().mean() < 1.5


def test_weights_of_another_class_set_are_translated(tmp_path: Path) -> None:
    source = create_student(QUARTER, CITYSCAPES19, 1)
    save_weights(source, tmp_path / "w.safetensors")
    config = QUARTER.model_copy(
        update={"student_weights": tmp_path / "w.safetensors", "student_weights_classes": "cityscapes19"}
    )
    student = create_student(config, STREET7, 2)
    rows, given_rows = student.state_dict()["logits.bias"], source.state_dict()["logits.bias"]
    assert rows[STREET7.names.index("road")] == given_rows[CITYSCAPES19.names.index("road")]


def test_weights_are_for_the_servers_classes_unless_said_otherwise(tmp_path: Path) -> None:
    save_weights(create_student(QUARTER, CITYSCAPES19, 1), tmp_path / "w.safetensors")
    config = QUARTER.model_copy(update={"student_weights": tmp_path / "w.safetensors"})
    create_student(config, CITYSCAPES19, 2)
    with pytest.raises(ModelError, match=r"tensor 'logits.bias' has shape \(19,\) instead of \(7,\)"):
        create_student(config, STREET7, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student": "unet"}, "unknown student 'unet'"),
        ({"student_width": 500}, "student size 500x32: sides must be multiples of 32, or both one more, for jitnet-quarter"),
        ({"student_width": 65}, "student size 65x32: sides must be multiples of 32, or both one more, for jitnet-quarter"),
        ({"student": "efficientvit-b0", "student_width": 65, "student_height": 33}, "multiples of 32 for efficientvit-b0"),
        ({"student_weights_classes": "coco", "student_weights": Path("w")}, "unknown class set 'coco'"),
    ],
)
def test_settings_that_cannot_work(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        create_student(QUARTER.model_copy(update=change), STREET7, 0)


@pytest.mark.parametrize(("student", "width", "height"), [("jitnet-quarter", 257, 193), ("deeplabv3-mobilenetv2", 209, 161)])
def test_sides_may_be_one_more_than_a_multiple(student: str, width: int, height: int) -> None:
    check_size(find_student(student), width, height)


def test_help_names_every_student() -> None:
    description = StudentConfig.model_fields["student"].description
    assert description is not None
    assert all(name in description for name in STUDENTS)
