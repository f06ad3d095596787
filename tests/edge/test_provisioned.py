from pathlib import Path

import pytest
from tests.edge.tiny_student import tiny_model

from ams_common.errors import ConfigurationError
from ams_common.model_file import write_model
from ams_edge.provisioned import read_provisioned


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_model(tmp_path / "model.ams", tiny_model())
    return tmp_path / "model.ams"


def test_the_model_of_a_file(path: Path) -> None:
    model = tiny_model()
    for student, class_set in (("", ""), (model.manifest.student, model.manifest.classes.name)):
        assert read_provisioned(path, student=student, class_set=class_set).weights_digest == model.weights_digest


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read --model '.*none\.ams': no such file or directory$"):
        read_provisioned(tmp_path / "none.ams", student="", class_set="")


def test_a_damaged_file_is_one_line(path: Path) -> None:
    whole = path.read_bytes()
    for content, reason in (
        (whole[:-1], "length"),
        (b"x" * 100, "it is no model file: it does not begin with AMSMODEL;"),
        (whole[:8] + b"\2" + whole[9:], "it has format 2, where this version reads 1;"),
        (whole[:-1] + b"\0", "digest"),
        (b"", "it is no model file, with 0 bytes;"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=f"cannot use --model '.*': .*{reason}.* make it again with ams-server"):
            read_provisioned(path, student="", class_set="")


@pytest.mark.parametrize(
    ("student", "class_set", "message"),
    [
        ("resnet", "", "holds the student '.*', but --student asks for 'resnet'"),
        ("", "voc21", "holds the class set '.*', but --class-set asks for 'voc21'"),
    ],
)
def test_a_file_of_something_else_is_one_line(path: Path, student: str, class_set: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_provisioned(path, student=student, class_set=class_set)
